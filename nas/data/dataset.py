"""The contract of data sets: what every loader returns and every trainer reads.

Letters: n images, h rows, w columns, c channels. NumPy only, so that data can be prepared where JAX is not installed.
"""

import dataclasses
import math
import re
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

_SUM_TOLERANCE = 1e-3
"""How far a row of soft labels may be from summing to 1; float16 stays well within. Source: ours."""


class Examples(NamedTuple):
    """Images with what is known of them; each array begins with the shape of the index that was read.

    Attributes:
      images: uint8 [..., h, w, c], raw pixels 0..255.
      labels: int32 [...], class index from 0; -1 where there is none.
      soft_labels: float32 [..., classes], teacher probabilities, or None.
    """

    images: np.ndarray
    labels: np.ndarray
    soft_labels: np.ndarray | None


class Readable(Protocol):
    """A split, in memory (`Split`) or in files (`nas.data.stored`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w, c) of every image."""
        ...

    @property
    def taught(self) -> bool:
        """Whether a teacher has labelled it: `soft_labels` are there."""
        ...

    @property
    def mixture(self) -> tuple[tuple[int, int], ...]:
        """What `nas.data.order.batch_indices` needs to know: (images, weight) of each set in it."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: np.ndarray) -> Examples:
        """The examples at these positions; an index of any shape."""
        ...


R = TypeVar("R", bound=Readable, covariant=True)


# eq=False: NumPy fields have no single truth value, so two data sets are compared by `fingerprint`, not by `==`.
@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    Args:
        images: uint8 [n, h, w, c], raw pixels 0..255.
        labels: int32 [n], class index from 0.
        soft_labels: float32 [n, classes], teacher probabilities (rows sum to 1 within 1e-3), or None.

    Raises:
        ValueError: a field has the wrong type, shape or range.

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
                f"Split.images: got shape {self.images.shape}, expected at least one image and no empty axis; "
                "give a split with data"
            )
        count = len(self.images)
        if len(self.labels) != count:
            raise ValueError(
                f"Split.labels: got {len(self.labels)} labels for {count} images, expected one label per image; "
                "cut both arrays with the same indices"
            )
        if self.labels.min() < 0:
            where = int(self.labels.argmin())
            raise ValueError(
                f"Split.labels[{where}]: got {int(self.labels[where])}, expected a class index >= 0; "
                "drop unlabelled images or give them a class"
            )
        if self.soft_labels is not None:
            _check_soft_labels(self.soft_labels, count)

    def __len__(self) -> int:
        """Number of images n."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w, c)."""
        return self.images.shape[1:]

    @property
    def taught(self) -> bool:
        """Whether there are soft labels."""
        return self.soft_labels is not None

    @property
    def mixture(self) -> tuple[tuple[int, int], ...]:
        """One set."""
        return ((len(self), 1),)

    def read(self, index: np.ndarray) -> Examples:
        """The examples at these positions."""
        soft = None if self.soft_labels is None else self.soft_labels[index]
        return Examples(self.images[index], self.labels[index], soft)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset(Generic[R]):
    """A labelled data set in three parts, with what is needed to normalise and to recognise it.

    A network sees (images / 255 - mean) / std.

    Args:
        name: what reports call it.
        class_names: one name per class; position = class index.
        train: what weights are trained on.
        validation: held-out slice of the training data; the reward of a search reads only this.
        test: read once, after the search.
        mean: subtracted after division by 255.
        std: divided by after that; > 0.
        fingerprint: sha256 (64 hex digits) of what the data are made from.

    Raises:
        ValueError: a field is malformed, or the splits do not agree with each other or with the class names.

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

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Dataset.name: got '', expected a non-empty name; name the data set")
        place = f"Dataset {self.name!r}"
        if len(self.class_names) < 2 or len(set(self.class_names)) != len(self.class_names):
            raise ValueError(
                f"{place}.class_names: got {self.class_names!r}, expected at least two different names; "
                "give every class its own name"
            )
        for part, split in self.splits().items():
            self._check_split(f"{place}.{part}", split)
        if not math.isfinite(self.mean):
            raise ValueError(f"{place}.mean: got {self.mean}, expected a finite number; measure it on images / 255")
        if not (math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"{place}.std: got {self.std}, expected a number > 0; measure it on images / 255")
        if not re.fullmatch(r"[0-9a-f]{64}", self.fingerprint):
            raise ValueError(
                f"{place}.fingerprint: got {self.fingerprint!r}, expected 64 lower-case hex digits; "
                "use hashlib.sha256(...).hexdigest()"
            )

    def splits(self) -> dict[str, R]:
        """The three splits by name, in the order train, validation, test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def _check_split(self, place: str, split: Readable) -> None:
        classes = len(self.class_names)
        if split.shape != self.train.shape:
            raise ValueError(
                f"{place}.images: got [h, w, c] = {list(split.shape)}, expected {list(self.train.shape)} as in train; "
                "prepare all splits in the same way"
            )
        if not isinstance(split, Split):  # what lies in files is checked where it is written
            return
        if split.labels.max() >= classes:
            where = int(split.labels.argmax())
            raise ValueError(
                f"{place}.labels[{where}]: got {int(split.labels[where])}, expected 0..{classes - 1} "
                f"for {classes} class names; add the missing names or correct the label"
            )
        if split.soft_labels is not None and split.soft_labels.shape[1] != classes:
            raise ValueError(
                f"{place}.soft_labels: got {split.soft_labels.shape[1]} columns, expected {classes}, one per class "
                "name; use a teacher of the same classes"
            )


def _check_array(field: str, value: object, dtype: np.dtype, ndim: int, shape: str) -> None:
    if not isinstance(value, np.ndarray):
        raise ValueError(
            f"Split.{field}: got {type(value).__name__}, expected a NumPy array of {dtype} {shape}; use np.asarray"
        )
    if value.dtype != dtype or value.ndim != ndim:
        raise ValueError(
            f"Split.{field}: got {value.dtype} with shape {value.shape}, expected {dtype} {shape}; "
            "convert it with astype and reshape"
        )


def _check_soft_labels(soft_labels: np.ndarray, count: int) -> None:
    _check_array("soft_labels", soft_labels, np.dtype(np.float32), 2, "[n, classes]")
    if len(soft_labels) != count:
        raise ValueError(
            f"Split.soft_labels: got {len(soft_labels)} rows for {count} images, expected one row per image; "
            "cut both arrays with the same indices"
        )
    # Written so that NaN fails: any comparison with NaN is False.
    is_probability = (soft_labels >= 0) & (soft_labels <= 1 + _SUM_TOLERANCE)
    if not is_probability.all():
        row, column = (int(i) for i in np.argwhere(~is_probability)[0])
        raise ValueError(
            f"Split.soft_labels[{row}, {column}]: got {soft_labels[row, column]}, expected a probability 0..1; "
            "give probabilities, not logits (apply a softmax)"
        )
    sums = soft_labels.sum(axis=1, dtype=np.float64)
    if np.abs(sums - 1).max() > _SUM_TOLERANCE:
        row = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"Split.soft_labels[{row}]: got a sum of {sums[row]:.6g}, expected 1 within {_SUM_TOLERANCE}; "
            "divide each row by its sum"
        )
