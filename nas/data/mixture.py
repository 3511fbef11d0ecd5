"""Mixtures: several data sets read as one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from nas.data.dataset import Dataset, Examples, Readable


class MixedSplit:
    """Several splits end to end, read in the ratio of their weights (see `nas.data.order`).

    Args:
      splits: Splits of one shape; all have soft labels, or none has.
      weights: Positive integers, e.g. 1, 1, 2: the paper's mixture of D1, D2 and D3.
    """

    def __init__(self, splits: Sequence[Readable], weights: Sequence[int]):
        self._splits = list(splits)
        self.shape = splits[0].shape
        self.mixture = tuple(
            (split.mixture[0][0], weight) for split, weight in zip(splits, weights, strict=True)
        )
        self.has_soft_labels = all(split.has_soft_labels for split in splits)
        self._ends = np.cumsum([images for images, _ in self.mixture])

    def __len__(self) -> int:
        return sum(map(len, self._splits))

    def read(self, index: np.ndarray) -> Examples:
        """Read the examples at some positions.

        Args:
          index: int [...], positions of any shape; a set begins where the one before it ends.

        Returns:
          The examples, in the shape of the index.
        """
        flat = index.reshape(-1)
        owner = np.searchsorted(self._ends, flat, side="right")
        examples = {}
        for number in np.unique(owner):
            first = self._ends[number] - self.mixture[number][0]
            examples[number] = self._splits[number].read(flat[owner == number] - first)
        fields = []
        for name in Examples._fields:
            values = {number: getattr(read, name) for number, read in examples.items()}
            if any(value is None for value in values.values()):
                fields.append(None)
                continue
            some = next(iter(values.values()))
            joined = np.empty((len(flat), *some.shape[1:]), some.dtype)
            for number, value in values.items():
                joined[owner == number] = value
            fields.append(joined.reshape(*index.shape, *some.shape[1:]))
        return Examples(*fields)


def mixed(datasets: Sequence[Dataset[Readable]], weights: Sequence[int]) -> Dataset[Readable]:
    """Mix the training splits of several data sets; all else is that of the first one.

    Args:
      datasets: Data sets of the same classes and image shape; all have soft labels, or none has.
      weights: Positive integers, one per data set.

    Returns:
      The mixture.

    Raises:
      ValueError: Classes, image shapes or the presence of soft labels differ.
    """
    first = datasets[0]
    for other in datasets[1:]:
        for property_name, expected, given in (
            ("classes", first.class_names, other.class_names),
            ("[h, w, c]", first.train.shape, other.train.shape),
            ("soft labels", first.train.has_soft_labels, other.train.has_soft_labels),
        ):
            if expected != given:
                raise ValueError(
                    f"{other.name} cannot be mixed with {first.name}: {property_name}: {given}, "
                    f"expected {expected}"
                )
    pairs = zip(datasets, weights, strict=True)
    digest = hashlib.sha256(
        "\n".join(f"{data.fingerprint} {weight}" for data, weight in pairs).encode()
    )
    return Dataset(
        "+".join(data.name for data in datasets),
        first.class_names,
        train=MixedSplit([data.train for data in datasets], weights),
        validation=first.validation,
        test=first.test,
        mean=first.mean,
        std=first.std,
        fingerprint=digest.hexdigest(),
        notes=tuple(note for data in datasets for note in data.notes),
    )
