"""Contract of data sets: every loader returns a `Dataset`, every trainer reads its splits.

Letters: n images, h rows, w columns, c channels. NumPy only, so that data can be prepared where JAX
is not installed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

_SUM_TOLERANCE = 1e-3
"""Largest distance of the sum of a row of soft labels from 1; float16 stays well within. Source:
ours."""


class Examples(NamedTuple):
    """Images with their labels; each array begins with the shape of the index that was read.

    Attributes:
      images: uint8 [..., h, w, c], raw pixels 0..255.
      labels: int32 [...], class index from 0; -1 for an image without a label.
      soft_labels: float32 [..., classes], teacher probabilities, or None.
    """

    images: np.ndarray
    labels: np.ndarray
    soft_labels: np.ndarray | None


class Readable(Protocol):
    """A split, in memory (`Split`) or in files (`nas.data.distilled.split`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w, c) of every image."""
        ...

    @property
    def has_soft_labels(self) -> bool:
        """Whether `read` returns soft labels, the probabilities of a teacher."""
        ...

    @property
    def mixture(self) -> tuple[tuple[int, int], ...]:
        """(images, weight) of each set in the split, for `nas.data.order.batch_indices`."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: np.ndarray) -> Examples:
        """Read the examples at some positions.

        Args:
          index: int [...], positions of any shape.

        Returns:
          The examples, in the shape of the index.
        """
        ...


R = TypeVar("R", bound=Readable, covariant=True)


# eq=False: NumPy fields have no single truth value, so `fingerprint` compares two data sets.
@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels, in memory.

    Args:
      images: uint8 [n, h, w, c], raw pixels 0..255.
      labels: int32 [n], class index from 0.
      soft_labels: float32 [n, classes], teacher probabilities (rows sum to 1 within 1e-3), or None.

    Raises:
      ValueError: A field has the wrong type, shape or range.

    Source: ours.
    """

    images: np.ndarray
    labels: np.ndarray
    soft_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_array("images", self.images, np.dtype(np.uint8), 4, "[n, h, w, c]")
        _check_array("labels", self.labels, np.dtype(np.int32), 1, "[n]")
        if 0 in self.images.shape:
            raise ValueError(
                f"Split.images: got shape {self.images.shape}, expected at least one image and no "
                "empty axis; give a split with data"
            )
        count = len(self.images)
        if len(self.labels) != count:
            raise ValueError(
                f"Split.labels: got {len(self.labels)} labels for {count} images, expected one "
                "label per image; cut both arrays with the same indices"
            )
        if self.labels.min() < 0:
            position = int(self.labels.argmin())
            raise ValueError(
                f"Split.labels[{position}]: got {int(self.labels[position])}, expected a class "
                "index >= 0; drop unlabelled images or give them a class"
            )
        if self.soft_labels is not None:
            _check_soft_labels(self.soft_labels, count)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        teacher = ", soft labels" if self.has_soft_labels else ""
        return f"Split({len(self)} images, {_axes(self.shape)}{teacher})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w, c) of every image."""
        return self.images.shape[1:]

    @property
    def has_soft_labels(self) -> bool:
        """Whether there are soft labels."""
        return self.soft_labels is not None

    @property
    def mixture(self) -> tuple[tuple[int, int], ...]:
        """One set: all images, with weight 1."""
        return ((len(self), 1),)

    def read(self, index: np.ndarray) -> Examples:
        """Read the examples at some positions.

        Args:
          index: int [...], positions of any shape.

        Returns:
          The examples, in the shape of the index.
        """
        soft = None if self.soft_labels is None else self.soft_labels[index]
        return Examples(self.images[index], self.labels[index], soft)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset(Generic[R]):
    """A labelled data set in three splits, with its normalisation and its fingerprint.

    The input of a network is (images / 255 - mean) / std.

    Args:
      name: Name in reports.
      class_names: One name per class; position = class index.
      train: Split that weights are trained on.
      validation: Held-out slice of the training data; the reward of a search reads only this.
      test: Split that is read once, after the search.
      mean: Mean that is subtracted after division by 255.
      std: Standard deviation that divides after that; > 0.
      fingerprint: sha256 (64 hex digits) of the origin of the data.
      notes: Sentences on what was understood, converted, left out or is doubtful.

    Raises:
      ValueError: A field is malformed, or the splits do not agree with each other or with the class
        names.

    Source: ours.
    """

    name: str
    class_names: tuple[str, ...]
    train: R
    validation: R
    test: R
    mean: float
    std: float
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Dataset.name: got '', expected a non-empty name; name the data set")
        label = f"Dataset {self.name!r}"
        if len(self.class_names) < 2 or len(set(self.class_names)) != len(self.class_names):
            raise ValueError(
                f"{label}.class_names: got {self.class_names!r}, expected at least two different "
                "names; give every class its own name"
            )
        for name, split in self.splits().items():
            self._check_split(f"{label}.{name}", split)
        if not math.isfinite(self.mean):
            raise ValueError(
                f"{label}.mean: got {self.mean}, expected a finite number; measure it on "
                "images / 255"
            )
        if not (math.isfinite(self.std) and self.std > 0):
            raise ValueError(
                f"{label}.std: got {self.std}, expected a number > 0; measure it on images / 255"
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.fingerprint):
            raise ValueError(
                f"{label}.fingerprint: got {self.fingerprint!r}, expected 64 lower-case hex "
                "digits; use hashlib.sha256(...).hexdigest()"
            )

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(split)}" for name, split in self.splits().items())
        classes = len(self.class_names)
        return f"Dataset({self.name!r}, {classes} classes, {counts}, {_axes(self.train.shape)})"

    def splits(self) -> dict[str, R]:
        """The three splits by name, in the order train, validation, test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def _check_split(self, label: str, split: Readable) -> None:
        classes = len(self.class_names)
        if split.shape != self.train.shape:
            raise ValueError(
                f"{label}.images: got {_axes(split.shape)}, expected {list(self.train.shape)} as "
                "in train; prepare all splits in the same way"
            )
        # Splits in files are checked where they are written.
        if not isinstance(split, Split):
            return
        if split.labels.max() >= classes:
            position = int(split.labels.argmax())
            raise ValueError(
                f"{label}.labels[{position}]: got {int(split.labels[position])}, expected "
                f"0..{classes - 1} for {classes} class names; add the missing names or correct "
                "the label"
            )
        if split.soft_labels is not None and split.soft_labels.shape[1] != classes:
            raise ValueError(
                f"{label}.soft_labels: got {split.soft_labels.shape[1]} columns, expected "
                f"{classes}, one per class name; use a teacher of the same classes"
            )


def _axes(shape: tuple[int, ...]) -> str:
    return f"[h, w, c] = {list(shape)}"


def _check_array(field: str, value: object, dtype: np.dtype, ndim: int, shape: str) -> None:
    if not isinstance(value, np.ndarray):
        raise ValueError(
            f"Split.{field}: got {type(value).__name__}, expected a NumPy array of {dtype} "
            f"{shape}; use np.asarray"
        )
    if value.dtype != dtype or value.ndim != ndim:
        raise ValueError(
            f"Split.{field}: got {value.dtype} with shape {value.shape}, expected {dtype} "
            f"{shape}; convert it with astype and reshape"
        )


def _check_soft_labels(soft_labels: np.ndarray, count: int) -> None:
    _check_array("soft_labels", soft_labels, np.dtype(np.float32), 2, "[n, classes]")
    if len(soft_labels) != count:
        raise ValueError(
            f"Split.soft_labels: got {len(soft_labels)} rows for {count} images, expected one row "
            "per image; cut both arrays with the same indices"
        )
    # Written so that NaN fails: any comparison with NaN is False.
    is_probability = (soft_labels >= 0) & (soft_labels <= 1 + _SUM_TOLERANCE)
    if not is_probability.all():
        row, column = (int(i) for i in np.argwhere(~is_probability)[0])
        raise ValueError(
            f"Split.soft_labels[{row}, {column}]: got {soft_labels[row, column]}, expected a "
            "probability 0..1; give probabilities, not logits (apply a softmax)"
        )
    sums = soft_labels.sum(axis=1, dtype=np.float64)
    if np.abs(sums - 1).max() > _SUM_TOLERANCE:
        row = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"Split.soft_labels[{row}]: got a sum of {sums[row]:.6g}, expected 1 within "
            f"{_SUM_TOLERANCE}; divide each row by its sum"
        )
