"""Many trainings from Python: networks x variants of a recipe x seeds."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.api import train_arguments, training
from nas.api.results import worker_pool
from nas.api.train_result import TrainResult
from nas.data import load
from nas.host import cluster, parallel, remote
from nas.host.progress import SILENT
from nas.report import train_matrix as report
from nas.run.matrix import Outcome, attempt
from nas.training.matrix import TrainCell, TrainMatrix
from search_spaces import files, yaml_io

if TYPE_CHECKING:
    import os

    from nas.report.train_matrix import Summary


@dataclasses.dataclass(frozen=True)
class TrainMatrixRun:
    """Many trainings, which have been checked.

    Attributes:
      cells: The trainings.
      workdir: Folder of all of them.
      workers: Pool that runs them, one core each.
    """

    cells: tuple[TrainCell, ...]
    workdir: pathlib.Path
    workers: parallel.WorkerPool

    def run(self) -> Iterator[Outcome]:
        """Run the trainings, or resume them.

        Yields:
          An outcome for each training, as it ends.
        """
        yield from self.workers.map_unordered(run_one, self.cells, dedicated_core=True)

    @property
    def results(self) -> dict[str, TrainResult]:
        """The finished trainings, {name: result}."""
        done = [cell for cell in self.cells if cell.folder.result.exists()]
        return {cell.name: TrainResult(cell.folder.path) for cell in done}

    @property
    def summary(self) -> tuple[Summary, ...]:
        """Mean accuracies over seeds, with intervals, of each network and variant."""
        return report.summarise(self.cells)

    def report(self) -> tuple[str, pathlib.Path | None]:
        """Compare the trained networks; write `trainings.csv`, `summary.csv` and a page.

        Returns:
          A table for a terminal, and the page; None if nothing was trained.
        """
        if not self.results:
            return "", None
        text, tables, page = report.compare(self.cells)
        for name, table in tables.items():
            files.write_atomically(self.workdir / name, table)
        path = self.workdir / "report.html"
        files.write_atomically(path, page)
        return text, path

    def __repr__(self) -> str:
        return (
            f"TrainMatrixRun({str(self.workdir)!r}, {len(self.results)} of {len(self.cells)} "
            "trainings finished)"
        )


def train_matrix(
    matrix: str | os.PathLike[str] | TrainMatrix,
    *,
    workdir: str | os.PathLike[str] | None = None,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int | None = None,
) -> TrainMatrixRun:
    """Train networks x variants of a recipe x seeds, or resume; finished ones are not repeated.

    Args:
      matrix: YAML file, see `nas.training.matrix.TrainMatrix`, or such an object.
      workdir: Folder of all trainings; default: runs/NAME of the matrix.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: a task of a Ray cluster for each.
      workers: Trainings at a time, a core each; default: all cores.

    Returns:
      The matrix, with `results`, `summary`, and a report in its folder.

    Raises:
      ValueError: Something does not fit, or trainings ended with an error; the others are kept.
    """
    run = open_train_matrix(matrix, workdir=workdir, ray=ray, workers=workers)
    failed = [outcome for outcome in run.run() if outcome.error]
    run.report()
    if failed:
        errors = "; ".join(f"{outcome.name}: {outcome.error}" for outcome in failed[:3])
        raise ValueError(f"{len(failed)} of {len(run.cells)} trainings failed: {errors}")
    return run


def open_train_matrix(
    matrix: str | os.PathLike[str] | TrainMatrix,
    *,
    workdir: str | os.PathLike[str] | None = None,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int | None = None,
) -> TrainMatrixRun:
    """Load and check many trainings; see `train_matrix`.

    Args:
      matrix: YAML file or object that lists networks, variants and seeds.
      workdir: Folder of all of them.
      ray: Cluster; None for this machine.
      workers: Trainings at a time.

    Raises:
      ValueError: Something does not fit; the message names the training.
    """
    pool = worker_pool(ray, workers)
    if not isinstance(matrix, TrainMatrix):
        matrix = yaml_io.load_model(matrix, TrainMatrix)
    folder = f"runs/{matrix.name}" if workdir is None else workdir
    if remote.is_url(str(folder)):
        raise ValueError(f"`workdir` {folder}: trainings write to a path, not to a URL")
    cells = matrix.cells(pathlib.Path(folder).absolute())
    loaded = functools.cache(load.load_dataset)
    for cell in cells:
        if cell.seed == matrix.seeds[0]:
            try:
                train_arguments.check(cell.arguments, loaded)
            except ValueError as error:
                raise ValueError(f"{cell.name}: {error}") from None
    return TrainMatrixRun(cells, pathlib.Path(folder), pool)


def run_one(cell: TrainCell) -> Outcome:
    """Run a training, or resume it; see `nas.run.matrix.attempt`.

    Args:
      cell: The training.
    """
    return attempt(cell.name, functools.partial(_train, cell))


def _train(cell: TrainCell) -> None:
    job = training.open_job(**cell.arguments)
    if not job.is_finished:
        job.run(SILENT)
