"""The record of an exported model, the YAML file beside it. No JAX, for reports."""

from __future__ import annotations

import pathlib

from latency_tables.comparison import Comparison
from search_spaces.frozen import FrozenModel


class ExportRecord(FrozenModel):
    """The YAML file beside an exported model: what it is, and how it was checked.

    Attributes:
      format: Name of the format.
      file: Name of the model's file, or of its package.
      bytes: Its size.
      sha256: Its hash; of a package that of the hashes of its files, by their names.
      network: Name of the network.
      classes: Names of the classes, in the order of the outputs.
      size: Height and width of its images.
      mean: Mean of images / 255 that is subtracted; a uint8 model takes raw pixels.
      std: Standard deviation of images / 255 that divides after that.
      runtime: What ran the model for the checks; none if it was not run.
      difference: Largest difference of its logits from the network's, as a share of their range.
      images: Held-out images on which both were evaluated.
      float_accuracy: Accuracy of the network in float32.
      accuracy: Accuracy of the model.
      agreement: Share of the images to which both give the same class.
      processor: Processor that ran the timing, one thread of it.
      milliseconds: Median time that the thread ran for an image.
      float_milliseconds: The same of the float32 model, timed in turn.
      left_out: Operations that XNNPACK does not take.
      predictions: Latency as devices predict it, beside the measured one.
      warnings: What a user should know.
    """

    format: str
    file: str
    bytes: int
    sha256: str
    network: str
    classes: tuple[str, ...]
    size: int
    mean: float
    std: float
    runtime: str | None = None
    difference: float | None = None
    images: int = 0
    float_accuracy: float | None = None
    accuracy: float | None = None
    agreement: float | None = None
    processor: str | None = None
    milliseconds: float | None = None
    float_milliseconds: float | None = None
    left_out: tuple[str, ...] = ()
    predictions: tuple[Comparison, ...] = ()
    warnings: tuple[str, ...] = ()


def sidecar_of(model: pathlib.Path, file: str | None = None) -> pathlib.Path:
    """Path of the record of a model.

    Args:
      model: Path of the model.
      file: Name of the model's file in its record, which may contain a folder; None: its name.

    Returns:
      The path.
    """
    if file is None:
        return model.with_name(f"{model.name}.yaml")
    return model.with_name(f"{file.replace('/', '.')}.yaml")
