"""Results of searches: what a finished stage, or a derivation, has left in its folder.

No JAX until something runs.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

import search_spaces
from latency_tables import csv_files
from nas.engine.spaces import space_of
from nas.host import remote
from nas.run import log
from nas.run.folder import RunFolder, RunRecord, StageFolder
from nas.run.log import read_log
from search_spaces import ArchSpec, SearchSpace

if TYPE_CHECKING:
    from nas.api.train_result import TrainResult
    from nas.engine.ranking import Diagnosis


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Architectures that were evaluated when one was derived, the best reward first.

    Attributes:
      reward: [n] float64.
      accuracy: [n] float64, held-out accuracy inside the supernet.
      costs: {device: [n] float64}, in the device's unit.
      vectors: [n, decisions] int32, decisions of the space.
      space: The search space.
    """

    reward: np.ndarray
    accuracy: np.ndarray
    costs: dict[str, np.ndarray]
    vectors: np.ndarray
    space: SearchSpace

    def __len__(self) -> int:
        return len(self.reward)

    def __repr__(self) -> str:
        return f"Candidates({len(self)} of {self.space.name}, best reward {self.reward.max():.3f})"

    def architecture(self, index: int) -> ArchSpec:
        """One of the architectures.

        Args:
          index: Its position, 0 for the best reward.
        """
        return search_spaces.freeze(self.space, self.vectors[index].tolist())

    @classmethod
    def read(cls, path: pathlib.Path, space: SearchSpace) -> Candidates:
        """Read `candidates.csv`.

        Args:
          path: The file.
          space: The search space that it is of.

        Raises:
          ValueError: The file is missing, or belongs to another space.
        """
        rows = csv_files.read(path, ("reward", "accuracy"), others=True)
        head = list(rows[0].cells)
        decisions = [decision.name for decision in space.decisions]
        first = len(head) - len(decisions)
        if head[first:] != decisions or head[:2] != ["reward", "accuracy"]:
            raise ValueError(f"{path}: its decisions are not those of {space.name}")
        vectors = np.array(
            [
                [d.labels.index(row.choice(d.name, d.labels)) for d in space.decisions]
                for row in rows
            ],
            np.int32,
        )
        costs = {
            name: np.array([row.nonnegative(name, "") for row in rows]) for name in head[2:first]
        }
        rewards = np.array([csv_files.real(row["reward"]) for row in rows])
        if np.isnan(rewards).any():
            row = rows[int(np.flatnonzero(np.isnan(rewards))[0])]
            raise ValueError(f"{row.where}: reward: got {row['reward']!r}, expected a number")
        accuracy = np.array([row.share("accuracy") for row in rows])
        return cls(rewards, accuracy, costs, vectors, space)


@dataclasses.dataclass(frozen=True, eq=False)
class SearchResult:
    """A finished stage, one of its separate targets, or an architecture that was derived from it.

    Attributes:
      path: Folder with the architecture.
      workdir: Folder of the search that trained the supernet, by path or URL.
      trained_stage: Name of the stage whose supernet it comes from; None: `path` is that stage's
        own folder.
    """

    path: pathlib.Path
    workdir: remote.Folder
    trained_stage: str | None = None

    @property
    def folder(self) -> StageFolder:
        """Files of the result."""
        return StageFolder(self.path)

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.trained_stage or self.path.name

    @functools.cached_property
    def architecture(self) -> ArchSpec:
        """The found network, with its provenance.

        Raises:
          ValueError: The stage has not finished.
        """
        return search_spaces.load(self.folder.architecture)

    @property
    def supernet_folder(self) -> StageFolder:
        """Files of the stage that trained the supernet."""
        return RunFolder(self.workdir.path).stage(self.stage)

    @functools.cached_property
    def record(self) -> RunRecord:
        """Resolved configuration of the stage, and what else its result depends on."""
        return RunFolder(self.workdir.path).read_record(self.stage)

    @functools.cached_property
    def space(self) -> SearchSpace:
        """Search space of the stage."""
        return space_of(self.stage, self.record.config, self.workdir.path)

    @functools.cached_property
    def candidates(self) -> Candidates:
        """Architectures that were evaluated, the best reward first."""
        return Candidates.read(self.folder.candidates, self.space)

    @functools.cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Metrics of every step of the stage, {name: [steps] float64}; `step` has their numbers."""
        rows = read_log(self.supernet_folder.metrics)
        path, names = self.supernet_folder.metrics, list(rows[0]) if rows else []
        return {name: log.values(rows, name, path) for name in names}

    def report(self) -> pathlib.Path:
        """Write the report of the stage, and return its page."""
        from nas.report import search as report

        return report.write(self.stage, self.workdir.path)[0]

    def derive(self, **arguments: Any) -> SearchResult:
        """Derive another architecture from the same supernet; see `nas.derive`.

        Args:
          **arguments: Those of `nas.derive` but the first.
        """
        from nas.api.results import derive

        return derive(self, **arguments)

    def train(self, **arguments: Any) -> TrainResult:
        """Train the network; see `nas.train`.

        Args:
          **arguments: Those of `nas.train` but the first.
        """
        from nas.api.training import train

        return train(self, **arguments)

    def diagnose(self, **arguments: Any) -> Diagnosis:
        """Check whether the supernet's ranking can be trusted; see `nas.diagnose`.

        Args:
          **arguments: Those of `nas.diagnose` but the first.
        """
        from nas.api.results import diagnose

        return diagnose(self, **arguments)

    def __repr__(self) -> str:
        state = repr(self.architecture) if self.folder.architecture.exists() else "not finished"
        return f"SearchResult({self.stage!r}, {str(self.path)!r}, {state})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self._costs()}{self.architecture._repr_html_()}"

    def _costs(self) -> str:
        found = self.architecture.found
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{cost.value:.4g} {html.escape(cost.unit)}</td>"
            f"<td>{cost.target:.4g}</td><td>{cost.value / cost.target - 1:+.1%}</td></tr>"
            for name, cost in (found.cost if found else {}).items()
        )
        head = "<tr><th>device</th><th>cost</th><th>target</th><th>miss</th></tr>"
        return f"<table>{head}{rows}</table>"


def open_result(run: Any, stage: str | None = None) -> SearchResult:
    """The result of a stage that has been run.

    Args:
      run: Folder of the search, by path or URL; or a result, which is returned.
      stage: Name of the stage; default: the last one there.

    Raises:
      ValueError: The folder holds no such stage.
    """
    if isinstance(run, SearchResult):
        if stage is None or stage == run.stage:
            return run
        run = run.workdir
    workdir = remote.as_folder(run)
    workdir.pull()
    folder = RunFolder(workdir.path)
    name = folder.last_stage if stage is None else stage
    folder.read_record(name)
    return SearchResult(folder.stage(name).path, workdir)
