"""Mixtures of distilled sets: ratios, weights, and sets that do not fit."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from nas.data import load
from nas.data.order import batch_indices

from .conftest import distil


def test_a_mixture_reads_each_set_by_its_weight(distilled: tuple[str, str]) -> None:
    one, two = map(load.load_dataset, distilled)
    mixed = load.load_dataset(f"{distilled[0]}=1 + {distilled[1]}=2")
    assert (len(one.train), len(two.train), len(mixed.train)) == (18, 54, 72)
    index = batch_indices(mixed.train.mixture, 30, 2, 0)
    assert ((index >= 18).sum(), (index < 18).sum()) == (20, 10)
    examples = mixed.train.read(index.reshape(5, 6))
    for position, image, label in zip(
        index, examples.images.reshape(30, 8, 8, 3), examples.labels.reshape(30), strict=True
    ):
        in_one = position < 18
        alone = (one.train if in_one else two.train).read(
            np.array([position if in_one else position - 18])
        )
        assert (alone.images[0] == image).all() and alone.labels[0] == label
    assert mixed.fingerprint not in (one.fingerprint, two.fingerprint)
    assert (
        mixed.validation.read(np.array([0])).images.tolist()
        == one.validation.read(np.array([0])).images.tolist()
    )


@pytest.mark.parametrize("weights", ["=0", "", "=-1", "=x"])
def test_weights_are_positive_integers(weights: str, distilled: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="is no term of a mixture; write `distilled:A=1"):
        load.load_dataset(f"{distilled[0]}=1 + {distilled[1]}{weights}")


def test_sets_of_another_size_cannot_be_mixed(
    distilled: tuple[str, str], blobs: pathlib.Path
) -> None:
    large = distil(f"npz:{blobs}", blobs.parent / "large", recipe="plain", size=10)
    message = r"large cannot be mixed with one: \[h, w, c\]: \(10, 10, 3\), expected"
    with pytest.raises(ValueError, match=message):
        load.load_dataset(f"{distilled[0]}=1 + {large}=1")
