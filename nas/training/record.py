"""The records of a training: what it belongs to, its evaluations, its result. No JAX."""

from __future__ import annotations

import csv

from nas.run.folder import TrainFolder
from nas.run.train_config import TrainConfig
from search_spaces import yaml_io
from search_spaces.frozen import FrozenModel

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

    steps: int
    best_step: int
    averaged: bool
    validation: dict[str, float]
    test: dict[str, float]
    test_images: int
    seconds: float


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
    """
    if not folder.summary.exists():
        return []
    lines = folder.summary.read_text(encoding="utf-8").splitlines()
    rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(lines)]
    return [{**row, "step": int(row["step"])} for row in rows]
