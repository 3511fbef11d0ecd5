"""The contract of in-memory data: accepted values, and the field that each error names."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from nas.data import dataset


def split_fields(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "images": np.zeros((4, 3, 5, 2), np.uint8),
        "labels": np.array([0, 1, 2, 1], np.int32),
        "soft_labels": None,
    }
    return fields | changes


def dataset_fields(**changes: Any) -> dict[str, Any]:
    split = dataset.Split(**split_fields())
    fields: dict[str, Any] = {
        "name": "toy",
        "class_names": ("a", "b", "c"),
        "train": split,
        "validation": split,
        "test": split,
        "mean": 0.5,
        "std": 0.25,
        "fingerprint": "0123456789abcdef" * 4,
    }
    return fields | changes


def soft(rows: int, *row: float) -> np.ndarray:
    return np.tile(np.array(row, np.float32), (rows, 1))


def test_valid_data_are_accepted_and_frozen() -> None:
    split = dataset.Split(**split_fields(soft_labels=soft(4, 0.5, 0.25, 0.25)))
    data = dataset.Dataset(**dataset_fields(train=split))
    assert len(data.train) == 4
    assert list(data.splits()) == ["train", "validation", "test"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_representations_are_short_and_name_sizes() -> None:
    split = dataset.Split(**split_fields(soft_labels=soft(4, 0.5, 0.25, 0.25)))
    assert repr(split) == "Split(4 images, [h, w, c] = [3, 5, 2], soft labels)"
    data = dataset.Dataset(**dataset_fields(train=split))
    assert repr(data) == (
        "Dataset('toy', 3 classes, train 4, validation 4, test 4, [h, w, c] = [3, 5, 2])"
    )


def test_soft_label_sums_within_tolerance_are_accepted() -> None:
    dataset.Split(**split_fields(soft_labels=soft(4, 0.5, 0.25, 0.2505)))


SPLIT_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "images a list": ({"images": [[1]]}, r"Split\.images: got list, expected a NumPy array"),
    "images float": ({"images": np.zeros((4, 3, 5, 2), np.float32)}, r"Split\.images: got float32"),
    "images grey": (
        {"images": np.zeros((4, 3, 5), np.uint8)},
        r"Split\.images: .*\(4, 3, 5\).*\[n, h, w, c\]",
    ),
    "no images": (
        {"images": np.zeros((0, 3, 5, 2), np.uint8), "labels": np.zeros(0, np.int32)},
        r"Split\.images: got shape \(0, 3, 5, 2\), expected at least one image",
    ),
    "no rows": ({"images": np.zeros((4, 0, 5, 2), np.uint8)}, r"Split\.images: .*no empty axis"),
    "labels int64": (
        {"labels": np.zeros(4, np.int64)},
        r"Split\.labels: got int64 .*expected int32",
    ),
    "labels one-hot": (
        {"labels": np.zeros((4, 3), np.int32)},
        r"Split\.labels: .*\(4, 3\), expected int32 \[n\]",
    ),
    "labels too few": (
        {"labels": np.zeros(3, np.int32)},
        r"Split\.labels: got 3 labels for 4 images",
    ),
    "label negative": (
        {"labels": np.array([0, 1, -1, 0], np.int32)},
        r"Split\.labels\[2\]: got -1",
    ),
    "soft labels float64": (
        {"soft_labels": np.full((4, 2), 0.5)},
        r"Split\.soft_labels: got float64",
    ),
    "soft labels too few": (
        {"soft_labels": soft(3, 0.5, 0.5)},
        r"Split\.soft_labels: got 3 rows for 4 images",
    ),
    "soft labels are logits": (
        {"soft_labels": soft(4, 2.0, -1.0)},
        r"Split\.soft_labels\[0, 0\]: got 2\.0.*softmax",
    ),
    "soft labels not finite": (
        {"soft_labels": soft(4, 1.0, np.nan)},
        r"Split\.soft_labels\[0, 1\]: got nan",
    ),
    "soft labels without rest": (
        {"soft_labels": soft(4, 0.5, 0.4)},
        r"Split\.soft_labels\[0\]: got a sum of 0\.9",
    ),
}


@pytest.mark.parametrize(("changes", "message"), SPLIT_ERRORS.values(), ids=SPLIT_ERRORS)
def test_split_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset.Split(**split_fields(**changes))


DATASET_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": ""}, r"Dataset\.name: got ''"),
    "one class": ({"class_names": ("a",)}, r"'toy'\.class_names: got \('a',\)"),
    "class twice": ({"class_names": ("a", "b", "a")}, r"'toy'\.class_names: .*different names"),
    "label without name": (
        {"class_names": ("a", "b")},
        r"'toy'\.train\.labels\[2\]: got 2, expected 0\.\.1",
    ),
    "teacher of other classes": (
        {"validation": dataset.Split(**split_fields(soft_labels=soft(4, 0.5, 0.5)))},
        r"'toy'\.validation\.soft_labels: got 2 columns, expected 3",
    ),
    "other image size": (
        {"test": dataset.Split(**split_fields(images=np.zeros((4, 5, 5, 2), np.uint8)))},
        r"'toy'\.test\.images: got \[h, w, c\] = \[5, 5, 2\], expected \[3, 5, 2\]",
    ),
    "mean": ({"mean": float("nan")}, r"'toy'\.mean: got nan"),
    "std": ({"std": 0.0}, r"'toy'\.std: got 0\.0, expected a number > 0"),
    "fingerprint": ({"fingerprint": "abc"}, r"'toy'\.fingerprint: got 'abc', expected 64"),
}


@pytest.mark.parametrize(("changes", "message"), DATASET_ERRORS.values(), ids=DATASET_ERRORS)
def test_dataset_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset.Dataset(**dataset_fields(**changes))
