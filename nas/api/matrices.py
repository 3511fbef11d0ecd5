"""Many searches from Python: seeds x targets x variants of a configuration."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.api.results import worker_pool
from nas.engine import matrix as searches
from nas.host import cluster, parallel, remote
from nas.report import compare
from nas.run import config_files
from nas.run.config import RunConfig
from nas.run.matrix import Outcome
from search_spaces import files, yaml_io

if TYPE_CHECKING:
    import os


@dataclasses.dataclass(frozen=True)
class MatrixRun:
    """Many searches that are ready to run.

    Attributes:
      cells: The searches.
      workdir: Folder of all of them, by path or URL.
      workers: Pool that runs them, one core each.
    """

    cells: tuple[searches.Cell, ...]
    workdir: remote.Folder
    workers: parallel.WorkerPool

    def run(self) -> Iterator[Outcome]:
        """Run the searches, or resume them.

        Yields:
          An outcome for each search, as it ends.
        """
        yield from searches.run(self.cells, self.workers)

    def report(self) -> tuple[str, pathlib.Path | None]:
        """Compare the found networks, and write a page.

        Returns:
          A table for a terminal, and the page; None if nothing was found.
        """
        results = [folder for cell in self.cells for folder in cell.results]
        if not results:
            return "", None
        display = remote.display_names([cell.workdir for cell in self.cells])
        text, page = compare.compare(results, display)
        path = self.workdir.path / "report.html"
        files.write_atomically(path, page)
        self.workdir.push()
        return text, path


def open_matrix(
    matrix: str | os.PathLike[str] | searches.Matrix,
    *,
    workdir: str | os.PathLike[str] | None = None,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int | None = None,
) -> MatrixRun:
    """Load and check many searches.

    Args:
      matrix: YAML file or object that lists seeds, targets and variants.
      workdir: Folder of all of them, by path or URL; default: runs/NAME of the matrix.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: run each as a task of a Ray cluster.
      workers: Searches at a time, a core each; default: all cores.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
    """
    pool = worker_pool(ray, workers)
    if not isinstance(matrix, searches.Matrix):
        matrix = yaml_io.load_model(matrix, searches.Matrix)
    folder = remote.Folder(workdir or f"runs/{matrix.name}").absolute()
    cells = tuple(
        searches.Cell(
            name,
            config_files.load(matrix.config, RunConfig, (), settings),
            folder / name,
            matrix.stages,
        )
        for name, settings in matrix.settings().items()
    )
    for cell in cells:
        if cell.config.separate and len(cell.stages) > 1:
            raise ValueError(
                f"{cell.name}: separate targets are searched in one stage; give e.g. stages: "
                "[coarse]"
            )
    return MatrixRun(cells, folder, pool)
