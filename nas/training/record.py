"""The records of a training: what it belongs to, its evaluations, its result. No JAX."""

from __future__ import annotations

import csv
import io
import math
import pathlib
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pydantic

from latency_tables import csv_files
from nas.run.folder import TrainFolder
from nas.run.train_config import TrainConfig
from search_spaces import yaml_io
from search_spaces.frozen import FrozenModel

_Count = Annotated[int, pydantic.Field(ge=0)]

_CORNER = "label \\ answer"

AVERAGED = "average_"
"""Prefix of the columns of the averaged weights in `summary.csv`."""


class TrainRecord(FrozenModel):
    """The `config.yaml` of a training.

    Attributes:
      network: Name of the network.
      architecture: Digest of the network.
      data: Source of the data set.
      dataset_hash: Fingerprint of the data set.
      classes: Names of the classes, in the order of the outputs.
      mean: Mean of images / 255 that is subtracted.
      std: Standard deviation of images / 255 that divides after that.
      recipe: Resolved recipe.
      seed: Random seed.
      init: Weights that it started from.
      versions: Packages that computed the result.
      machine: What the bits of the result depend on.
      data_notes: Sentences on what was understood, left out or is doubtful in the data.
    """

    network: str
    architecture: str
    data: str
    dataset_hash: str
    classes: tuple[str, ...]
    mean: float
    std: float
    recipe: TrainConfig
    seed: int
    init: str
    versions: dict[str, str] = {}
    machine: dict[str, str] = {}
    data_notes: tuple[str, ...] = ()

    def decisive(self) -> TrainRecord:
        """The record without what may differ between sessions of one training."""
        return self.model_copy(update={"versions": {}, "machine": {}, "data_notes": ()})


class TrainMeasures(FrozenModel):
    """The `result.yaml` of a finished training.

    Attributes:
      steps: Steps done.
      best_step: Step of the network in `best`.
      averaged: Whether that network has the averaged weights.
      validation: Measures of that network on the validation split.
      test: Measures of that network on the test split, which was read once, after training.
      test_images: Images of the test split.
      seconds: Duration of the training, sessions added up.
    """

    steps: _Count
    best_step: _Count
    averaged: bool
    validation: dict[str, float]
    test: dict[str, float]
    test_images: Annotated[int, pydantic.Field(ge=1)]
    seconds: Annotated[float, pydantic.Field(ge=0)]

    @pydantic.model_validator(mode="after")
    def _same_measures(self) -> TrainMeasures:
        for name, values in (("validation", self.validation), ("test", self.test)):
            if set(values) != set(self.validation) or "accuracy" not in values:
                raise ValueError(f"{name}: got {', '.join(values)}, expected accuracy and the same")
            if not 0 <= values["accuracy"] <= 1:
                raise ValueError(f"{name}.accuracy: got {values['accuracy']}, expected 0 to 1")
        return self


def is_training(folder: TrainFolder) -> bool:
    """Whether a folder holds a training; the record of a search has the same name.

    Args:
      folder: The folder.
    """
    return folder.record.exists() and "recipe" in yaml_io.load_mapping(folder.record)


def check(folder: TrainFolder, record: TrainRecord) -> None:
    """Refuse a folder that holds another training.

    Args:
      folder: Folder of the training.
      record: Its record.

    Raises:
      ValueError: The folder holds another training, with the differences.
    """
    if folder.record.exists():
        old = yaml_io.load_model(folder.record, TrainRecord).decisive()
        if changes := yaml_io.differences(old, record.decisive()):
            raise ValueError(
                f"{folder} holds another training ({changes}); choose another `workdir`"
            )


def best_of(row: dict[str, float]) -> float:
    """Accuracy of the better one of raw and averaged weights.

    Args:
      row: A row of `summary.csv`.
    """
    return max(row["accuracy"], row.get(f"{AVERAGED}accuracy", -1.0))


def read_summary(folder: TrainFolder) -> list[dict[str, float]]:
    """The rows of `summary.csv`.

    Args:
      folder: Folder of the training.

    Raises:
      ValueError: A damaged file.
    """
    if not folder.summary.exists():
        return []
    rows = []
    for cells in csv_files.read(folder.summary, ("step", "accuracy"), others=True):
        row: dict[str, float] = {"step": cells.integer("step", 0)}
        for name in cells.cells:
            if name != "step":
                row[name] = csv_files.real(cells[name])
                if math.isnan(row[name]):
                    raise ValueError(
                        f"{cells.where}: {name}: got {cells[name]!r}, expected a number"
                    )
        if rows and row["step"] <= rows[-1]["step"]:
            raise ValueError(f"{cells.where}: step: got {row['step']} after {rows[-1]['step']}")
        rows.append(row)
    return rows


def confusion_text(confusion: np.ndarray, classes: Sequence[str]) -> str:
    """A confusion matrix as CSV, with the names of the classes as the user has them.

    Args:
      confusion: [classes, classes] integers, by label (row) and answer (column).
      classes: Names of the classes.

    Returns:
      Text that `read_confusion` reads, and that a spreadsheet takes for no formula.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [csv_files.quoted(name) for name in classes]
    writer.writerow([_CORNER, *names])
    for name, row in zip(names, confusion.tolist(), strict=True):
        writer.writerow([name, *row])
    return text.getvalue()


def read_confusion(path: pathlib.Path) -> tuple[list[str], np.ndarray]:
    """Read a confusion matrix.

    Args:
      path: The file.

    Returns:
      Names of the classes, and [classes, classes] int64.

    Raises:
      ValueError: A damaged file.
    """
    rows = csv_files.read(path, (_CORNER,), others=True)
    columns = [name for name in rows[0].cells if name != _CORNER]
    names = [csv_files.unquoted(name) for name in columns]
    labels = [row[_CORNER].strip() for row in rows]
    if labels != names:
        raise ValueError(f"{path}: its rows are {len(labels)} labels, not its {len(names)} answers")
    return names, np.array([[row.integer(name, 0) for name in columns] for row in rows], np.int64)
