"""Splits that a source lacks are held out, class by class."""

from __future__ import annotations

import numpy as np
import pytest

from nas.data import collection
from nas.data.collection import ArrayImages, Images, RawDataset


def some(count: int) -> ArrayImages:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return ArrayImages(pixels, (np.arange(count) % 3).astype(np.int32), "array")


def with_splits(**counts: int) -> RawDataset:
    splits: dict[str, Images] = {split: some(count) for split, count in counts.items()}
    return RawDataset("toy", ("a", "b", "c"), splits, "0" * 64)


def shown(images: Images) -> set[int]:
    return {int(np.asarray(images.open(i))[0, 0, 0]) for i in range(len(images))}


def test_all_three_stay_as_they_are() -> None:
    given = with_splits(train=9, validation=3, test=3)
    assert collection.with_all_splits(given, 0.2).splits == given.splits


@pytest.mark.parametrize("other", ["validation", "test"])
def test_a_published_split_becomes_the_test(other: str) -> None:
    given = with_splits(**{"train": 60, other: 6})
    made = collection.with_all_splits(given, 0.2).splits
    assert made["test"] is given.splits[other]
    assert (len(made["train"]), len(made["validation"])) == (48, 12)
    assert shown(made["train"]) | shown(made["validation"]) == set(range(60))
    assert not shown(made["train"]) & shown(made["validation"])


def test_train_alone_gives_both_class_by_class_and_always_the_same() -> None:
    first, again, other = (
        collection.with_all_splits(with_splits(train=60), 0.2, seed).splits for seed in (0, 0, 1)
    )
    for split in ("validation", "test"):
        counts = np.bincount(first[split].labels)
        assert counts.min() == counts.max()
        assert shown(first[split]) == shown(again[split]) != shown(other[split])
    assert sum(len(split) for split in first.values()) == 60


def test_too_few_images_of_a_class() -> None:
    with pytest.raises(ValueError, match="toy: class 'a' has too few images"):
        collection.with_all_splits(with_splits(train=3), 0.5)


@pytest.mark.parametrize("counts", [{}, {"validation": 3}])
def test_needs_training_images(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected train among them"):
        with_splits(**counts)
