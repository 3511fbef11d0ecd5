"""Many searches, each on its own: every combination of seeds, targets and variants of a configuration."""

from __future__ import annotations

import itertools
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from nas.run import backend, parallel, remote
from nas.run.config import RunConfig, Stage
from nas.run.log import read_log
from nas.search import loop, planning, stages
from search_spaces.choice import Frozen

_Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_Seed = Annotated[int, pydantic.Field(ge=0, lt=2**31, strict=True)]


class Matrix(Frozen):
    """A file that says which searches to run.

    Attributes:
      name: of the matrix; the default workdir is runs/NAME.
      config: name or file of the configuration that all start from.
      stages: what each search runs, one after the other.
      seeds: of the searches.
      targets: those of each search, {name: targets}; none: the configuration's.
      variants: other settings, {name: {key path: value}}, e.g. {wide: {space.base: my_base.yaml}}.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: _Name
    config: str = "quickstart"
    stages: Annotated[tuple[Stage, ...], pydantic.Field(min_length=1)] = ("coarse", "fine")
    seeds: Annotated[tuple[_Seed, ...], pydantic.Field(min_length=1)] = (0,)
    targets: dict[_Name, Annotated[tuple[str, ...], pydantic.Field(min_length=1)]] = {}
    variants: dict[_Name, dict[str, Any]] = {}

    def settings(self) -> dict[str, dict[str, Any]]:
        """{name of a search: {key path: value}}, in the order of the file; the name says what is its own."""
        variants = list(self.variants.items()) or [("", {})]
        targets = [(name, {"targets": list(goal)}) for name, goal in self.targets.items()] or [("", {})]
        found = {}
        for (variant, more), (target, goal), seed in itertools.product(variants, targets, self.seeds):
            name = "-".join(part for part in (variant, target, f"seed{seed}") if part)
            found[name] = {**more, **goal, "seed": seed}
        return found


class Cell(NamedTuple):
    """One of the searches."""

    name: str
    config: RunConfig
    workdir: remote.Folder
    stages: tuple[Stage, ...]

    @property
    def results(self) -> list[pathlib.Path]:
        """Folders of what its last stage finds."""
        last = self.stages[-1]
        return sorted({path.parent for path in self.workdir.path.glob(f"**/{last}/{planning.RESULT}")})

    @property
    def progress(self) -> tuple[str, int, int, dict[str, float]]:
        """(stage, steps done, steps, last metrics), as its files say; of a search that has not begun: no steps."""
        for stage in reversed(self.stages):
            rows = read_log(self.workdir.path / stage / loop.METRICS)
            if rows:
                return stage, rows[-1]["step"] + 1, self.config.search.steps.of(stage), rows[-1]
        return self.stages[0], 0, self.config.search.steps.of(self.stages[0]), {}


class Outcome(NamedTuple):
    """How a search ended: `error` is empty where it found something."""

    name: str
    error: str
    seconds: float


class _Silent:
    """The progress of a search is read from its files."""

    def show(self, step: int, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass


def run(cells: Sequence[Cell], workers: parallel.Workers) -> Iterator[Outcome]:
    """Run searches, or on from where they stopped; outcomes as they come.

    Args:
      cells: the searches. One that is finished is not run again, so a task that is tried again doubles nothing.
      workers: searches at a time on this machine, a core each.
    """
    folders = {cell.name: cell.workdir for cell in cells}
    for outcome in workers.each(run_one, cells, own_core=True):
        folders[outcome.name].pull()  # it may have run on another machine
        yield outcome


def run_one(cell: Cell) -> Outcome:
    """Run all stages of a search. What a user could mend is its outcome, and ends no other search."""
    begun = time.monotonic()
    backend.prepare(cell.config.search.replicas)
    line = _Silent()
    try:
        cell.workdir.pull()
        try:
            for stage in cell.stages:
                plan = planning.plan(stage, cell.config, cell.workdir.path)
                if not plan.finished:
                    stages.run(plan, line, saved=cell.workdir.saver(line.say))
        finally:
            cell.workdir.push()
    except (ValueError, loop.NotFinite) as error:
        return Outcome(cell.name, " ".join(str(error).split()), time.monotonic() - begun)
    return Outcome(cell.name, "", time.monotonic() - begun)
