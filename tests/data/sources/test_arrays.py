"""Arrays, or image files, in one .npz file: contents, and what each error says."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import numpy as np
import pytest

from nas.data import dataset, load, sources


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Arrays of a complete file: 3 classes, 4 x 5 images of 2 channels; None omits one."""
    rng = np.random.default_rng(0)
    out: dict[str, Any] = {}
    for split, count in (("train", 6), ("validation", 4), ("test", 5)):
        out[f"{split}_images"] = rng.integers(0, 256, (count, 4, 5, 2), np.uint8)
        out[f"{split}_labels"] = np.arange(count) % 3
    return {name: value for name, value in (out | changes).items() if value is not None}


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "toy.npz"


def test_npz_round_trip(path: pathlib.Path) -> None:
    soft = np.full((6, 3), [0.5, 0.25, 0.25], np.float16)
    stored = arrays(train_soft_labels=soft, class_names=np.array(["a", "b", "c"]))
    np.savez_compressed(path, **stored)  # pyright: ignore[reportArgumentType]
    data: Any = load.load_dataset(f"npz:{path}")
    assert (data.name, data.class_names) == ("toy", ("a", "b", "c"))
    for name, split in data.splits().items():
        np.testing.assert_array_equal(split.images, stored[f"{name}_images"])
        np.testing.assert_array_equal(split.labels, stored[f"{name}_labels"])
        assert split.labels.dtype == np.int32
    assert data.train.soft_labels is not None and data.train.soft_labels.dtype == np.float32
    np.testing.assert_array_equal(data.train.soft_labels, soft)
    assert data.validation.soft_labels is data.test.soft_labels is None
    pixels = stored["train_images"] / 255
    assert (data.mean, data.std) == (pytest.approx(pixels.mean()), pytest.approx(pixels.std()))
    assert data.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


def test_classes_without_names_are_numbered(path: pathlib.Path) -> None:
    np.savez(path, **arrays())  # pyright: ignore[reportArgumentType]
    assert load.load_dataset(f"npz:{path}").class_names == ("0", "1", "2")


BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "an array missing": (
        {"test_labels": None},
        r"lacks test_labels; it has train_images, .*test_images$",
    ),
    "a split missing": (
        {"test_labels": None, "test_images": None},
        r"lacks test_images, test_labels; it has",
    ),
    "everything missing": (dict.fromkeys(arrays()), r"lacks train_images, .*; it has nothing$"),
    "pickled objects": ({"class_names": np.array(["a", None])}, r"cannot be read: Object arrays"),
    "float images": (
        {"train_images": np.zeros((6, 4, 5, 2))},
        r"train_images: all pixels have the value 0",
    ),
    "too few names": (
        {"class_names": np.array(["a", "b"])},
        r"has labels up to 2, but class_names of 2 classes",
    ),
}


@pytest.mark.parametrize(("changes", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_files_that_do_not_fit(path: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    np.savez(path, **arrays(**changes))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=message):
        load.load_dataset(f"npz:{path}")


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "bit flipped"])
def test_damaged_files(path: pathlib.Path, damage: str) -> None:
    np.savez_compressed(path, **arrays())  # pyright: ignore[reportArgumentType]
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 0xFF
    path.write_bytes(
        {"empty": b"", "text": b"not a zip", "cut": whole[: len(whole) // 2]}.get(
            damage, bytes(flipped)
        )
    )
    with pytest.raises(ValueError, match=r"data source npz:.*toy\.npz: cannot be read: "):
        load.load_dataset(f"npz:{path}")


def test_every_split_is_checked_as_a_dataset(path: pathlib.Path) -> None:
    np.savez(path, **arrays())  # pyright: ignore[reportArgumentType]
    assert isinstance(load.load_dataset(f"npz:{path}"), dataset.Dataset)


def _arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {
        f"{split}_images": np.zeros((4, 2, 2, 3), np.uint8)
        for split in ("train", "validation", "test")
    }
    arrays |= {
        f"{split}_labels": np.array([0, 1, 0, 1]) for split in ("train", "validation", "test")
    }
    arrays["train_images"] = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3)
    return arrays | changes


def test_a_class_that_only_the_soft_labels_know_counts(tmp_path: pathlib.Path) -> None:
    np.savez(
        tmp_path / "a.npz", allow_pickle=False, **_arrays(train_soft_labels=np.full((4, 3), 1 / 3))
    )
    assert load.load_dataset(f"npz:{tmp_path / 'a.npz'}").class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test_labels": np.array([0.0, 1.0, 0.0, 1.0])},
            "test_labels: got float64, expected integers",
        ),
        ({"test_labels": np.array([0, 1])}, "got 2 labels for 4 images"),
    ],
)
def test_contents_that_do_not_fit_name_the_file(
    tmp_path: pathlib.Path, changes: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=False, **_arrays(**changes))
    with pytest.raises(ValueError, match=f"npz:.*a.npz: .*{message}"):
        load.load_dataset(f"npz:{tmp_path / 'a.npz'}")


def test_files_in_an_npz(blobs: pathlib.Path) -> None:
    raw = sources.open_collection(f"npz:{blobs}")
    assert raw.class_names == ("even", "odd")
    assert {name: len(images) for name, images in raw.splits.items()} == {
        "train": 20, "validation": 10,
    }  # fmt: skip
    assert raw.splits["train"].open(7).size == (9, 7)
    assert load.load_dataset(f"npz:{blobs}", 8).train.shape == (8, 8, 3)
    with pytest.raises(ValueError, match="give `size`, the side in pixels"):
        load.load_dataset(f"npz:{blobs}")


@pytest.mark.parametrize("offsets", [[0, 5, 3], [0, 5], [0, 5, 10**6]])
def test_offsets_that_do_not_fit(offsets: list[int], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(
        path,
        train_blob=np.zeros(9, np.uint8),
        train_off=np.array(offsets),
        train_y=np.array([0, 1]),
    )
    with pytest.raises(
        ValueError, match=r"a.npz: train_off: expected 3 rising offsets into 9 bytes"
    ):
        sources.open_collection(f"npz:{path}")
