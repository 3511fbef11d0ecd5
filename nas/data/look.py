"""A look at a source: all that a careful person would check by hand before using it.

Letters: n images, k classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from nas.data import codec, door
from nas.data.collection import LeftOut, RawDataset
from nas.data.survey import Survey, sample

_SAMPLE = 256
"""Images on which mean and deviation are measured, drawn at random."""


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Findings of a look at a source.

    Attributes:
      name: Name of the source.
      class_names: One name per class.
      counts: {split: int64 [k], number of images of each class}.
      unlabelled: Number of images without a label.
      left_out: Files that are not read, by reason.
      notes: Sentences on what was understood, left out or is doubtful.
      unreadable: Reasons of broken images.
      sizes: int32 [n, 2], pixels across and down; empty where there are no headers.
      kinds: {kind: number of images}.
      turned: Number of images that EXIF turns upright.
      mean: Mean of the sample's pixels / 255.
      deviation: Their standard deviation.
      sampled: Number of images in the sample.
      teacher: Sentences on a teacher's agreement; filled in by whoever tries one.
    """

    name: str
    class_names: tuple[str, ...]
    counts: Mapping[str, np.ndarray]
    unlabelled: int
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    unreadable: tuple[str, ...]
    sizes: np.ndarray
    kinds: Mapping[str, int]
    turned: int
    mean: float
    deviation: float
    sampled: int
    teacher: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Number of images."""
        return self.unlabelled + sum(int(counts.sum()) for counts in self.counts.values())


def facts(raw: RawDataset, seed: int = 0) -> Facts:
    """Look at a source; only a random sample is decoded.

    Args:
      raw: Raw data set from a source.
      seed: Random seed of the sample.

    Returns:
      The facts.

    Raises:
      ValueError: The source is refused, see `nas.data.door.check`.
    """
    surveys = door.check(raw)
    labels = {split: images.labels for split, images in raw.splits.items()}
    classes = len(raw.class_names)
    mean, deviation, sampled = _pixels(raw, seed)
    kinds: dict[str, int] = {}
    for found in surveys.values():
        for kind, count in found.counts().items():
            kinds[kind] = kinds.get(kind, 0) + count
    return Facts(
        name=raw.name,
        class_names=raw.class_names,
        counts={
            split: np.bincount(known[known >= 0], minlength=classes)
            for split, known in labels.items()
        },
        unlabelled=sum(int((known < 0).sum()) for known in labels.values()),
        left_out=raw.left_out,
        notes=raw.notes + door.doubts(raw, surveys),
        unreadable=tuple(r for found in surveys.values() for r in found.unreadable.values()),
        sizes=_sizes(surveys),
        kinds=kinds,
        turned=sum(int((found.orientation > 1).sum()) for found in surveys.values()),
        mean=mean,
        deviation=deviation,
        sampled=sampled,
    )


def _sizes(surveys: Mapping[str, Survey]) -> np.ndarray:
    sizes = [found.sizes[found.sizes[:, 0] > 0] for found in surveys.values()]
    return np.concatenate([np.zeros((0, 2), np.int32), *sizes])


def _pixels(raw: RawDataset, seed: int) -> tuple[float, float, int]:
    """(mean, standard deviation, images) of a sample of the training images, whole images."""
    train = raw.splits["train"]
    total = squares = pixels = images = 0
    for position in sample(len(train), _SAMPLE, seed).tolist():
        try:
            values = codec.to_array(train.open(position)).astype(np.int64)
        except codec.BadImage:
            continue
        total, squares = total + int(values.sum()), squares + int((values * values).sum())
        pixels, images = pixels + values.size, images + 1
    mean = total / max(pixels, 1)
    variance = max(squares / max(pixels, 1) - mean * mean, 0.0)
    return mean / 255, variance**0.5 / 255, images
