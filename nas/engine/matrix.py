"""Many independent searches: all combinations of seeds, targets and variants of a configuration."""

from __future__ import annotations

import functools
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from nas.engine import planning, runner
from nas.host import backend, lock, parallel, remote
from nas.host.progress import SILENT
from nas.run.config import RunConfig, Seed, StageName
from nas.run.folder import RunFolder
from nas.run.log import read_log
from nas.run.matrix import Outcome, attempt
from search_spaces.frozen import FrozenModel
from search_spaces.naming import Name


class Matrix(FrozenModel):
    """File that lists searches to run.

    Attributes:
      schema_version: Version of the file format; the key `schema` in YAML.
      name: Name of the matrix; the default workdir is runs/NAME.
      config: Name or file of the configuration that all searches start from.
      stages: Stages that each search runs, in their order.
      seeds: Random seeds, one search each.
      targets: Targets of each search, {name: targets}; none: those of the configuration.
      variants: Other settings, {name: {key path: value}}, e.g.
        {wide: {space.base: my_base.yaml}}.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Name
    config: str = "quickstart"
    stages: Annotated[tuple[StageName, ...], pydantic.Field(min_length=1)] = ("coarse", "fine")
    seeds: Annotated[tuple[Seed, ...], pydantic.Field(min_length=1)] = (0,)
    targets: dict[Name, Annotated[tuple[str, ...], pydantic.Field(min_length=1)]] = {}
    variants: dict[Name, dict[str, Any]] = {}

    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings of each search, in the order of the file.

        Returns:
          {name of a search: {key path: value}}. The name is made of the variant, the targets and
          the seed.
        """
        variants = list(self.variants.items()) or [("", {})]
        targets = [(name, {"targets": list(texts)}) for name, texts in self.targets.items()]
        searches = {}
        for (variant, settings), (target, setting), seed in itertools.product(
            variants, targets or [("", {})], self.seeds
        ):
            name = "-".join(part for part in (variant, target, f"seed{seed}") if part)
            searches[name] = {**settings, **setting, "seed": seed}
        return searches


class Cell(NamedTuple):
    """One of the searches.

    Attributes:
      name: Name of the search.
      config: Its configuration.
      workdir: Its folder.
      stages: Stages that it runs, in their order.
    """

    name: str
    config: RunConfig
    workdir: remote.Folder
    stages: tuple[str, ...]

    @property
    def results(self) -> list[pathlib.Path]:
        """Folders of the architectures that its last stage has found."""
        run, last = RunFolder(self.workdir.path), self.stages[-1]
        separate = [run.separate(path.name).stage(last) for path in sorted(run.path.glob("*"))]
        folders = [run.stage(last), *separate]
        return [folder.path for folder in folders if folder.architecture.exists()]

    @property
    def progress(self) -> tuple[str, int, int, dict[str, float]]:
        """(stage, steps done, steps, last metrics), from its files; no steps before it begins."""
        run, steps = RunFolder(self.workdir.path), self.config.search.steps
        for stage in reversed(self.stages):
            rows = read_log(run.stage(stage).metrics)
            if rows:
                return stage, rows[-1]["step"] + 1, steps.of(stage), rows[-1]
        return self.stages[0], 0, steps.of(self.stages[0]), {}


def run(cells: Sequence[Cell], workers: parallel.WorkerPool) -> Iterator[Outcome]:
    """Run searches, or resume them.

    Args:
      cells: The searches. A finished one is not run again.
      workers: Pool that runs the searches, one dedicated core each.

    Yields:
      Outcomes as the searches end, in any order.
    """
    folders = {cell.name: cell.workdir for cell in cells}
    for outcome in workers.map_unordered(run_one, cells, dedicated_core=True):
        folders[outcome.name].pull()  # it may have run on another machine
        yield outcome


def run_one(cell: Cell) -> Outcome:
    """Run all stages of a search; see `nas.run.matrix.attempt`.

    Args:
      cell: The search.

    Returns:
      The outcome.
    """
    backend.prepare(cell.config.search.replicas)
    return attempt(cell.name, functools.partial(_search, cell))


def _search(cell: Cell) -> None:
    with lock.exclusive(cell.workdir.path):
        cell.workdir.pull()
        try:
            for stage in cell.stages:
                plan = planning.plan(stage, cell.config, cell.workdir.path)
                if not plan.is_finished:
                    runner.run(plan, SILENT, saved=cell.workdir.saver(SILENT.message))
        finally:
            cell.workdir.push()
