"""Results of trainings: what a finished one has left in its folder. No JAX until it is used."""

from __future__ import annotations

import dataclasses
import functools
import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import search_spaces
from nas.run import log
from nas.run.folder import TrainFolder
from nas.run.log import read_log
from nas.training.record import TrainMeasures, TrainRecord, read_confusion, read_summary
from search_spaces import ArchSpec, yaml_io

if TYPE_CHECKING:
    from nas.api.exporting import Export
    from nas.training.training import Trained


@dataclasses.dataclass(frozen=True, eq=False)
class TrainResult:
    """A finished training.

    Attributes:
      path: Folder of the training.
    """

    path: pathlib.Path

    @property
    def folder(self) -> TrainFolder:
        """Files of the training."""
        return TrainFolder(self.path)

    @functools.cached_property
    def record(self) -> TrainRecord:
        """Record of the training: network, data, recipe, seed."""
        return yaml_io.load_model(self.folder.record, TrainRecord)

    @functools.cached_property
    def measures(self) -> TrainMeasures:
        """Measures of the best network."""
        return yaml_io.load_model(self.folder.result, TrainMeasures)

    @functools.cached_property
    def network(self) -> Trained:
        """The network with the best validation accuracy."""
        from nas.training import weights

        return weights.load(self.folder.best)

    @property
    def architecture(self) -> ArchSpec:
        """The architecture, with its provenance."""
        return search_spaces.load(self.folder.best / "architecture.yaml")

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Metrics of every step, {name: [steps] float64}."""
        rows = read_log(self.folder.metrics)
        names = list(rows[0]) if rows else []
        return {name: log.values(rows, name, self.folder.metrics) for name in names}

    @property
    def summary(self) -> dict[str, np.ndarray]:
        """Evaluations on the validation split, {column: [evaluations] float64}."""
        return _columns(read_summary(self.folder))

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """[classes, classes] int64, test images by label (row) and answer (column)."""
        return read_confusion(self.folder.confusion)[1]

    def export(self, **arguments: Any) -> Export:
        """Export the best network; see `nas.export`.

        Args:
          **arguments: Those of `nas.export` but the first.
        """
        from nas.api.exporting import export

        return export(self, **arguments)

    def report(self) -> pathlib.Path:
        """Write the report, and return its page."""
        from nas.report import training as report

        return report.write(self.folder)

    def __repr__(self) -> str:
        if not self.folder.result.exists():
            return f"TrainResult({str(self.path)!r}, not finished)"
        test = self.measures.test["accuracy"]
        return f"TrainResult({str(self.path)!r}, {self.record.network}, test accuracy {test:.4f})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value:.4f}</td><td>{self.measures.test[name]:.4f}</td></tr>"
            for name, value in self.measures.validation.items()
        )
        head = "<tr><th></th><th>validation</th><th>test</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{rows}</table>"


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    names = list(rows[0]) if rows else []
    return {name: np.array([row[name] for row in rows], np.float64) for name in names}
