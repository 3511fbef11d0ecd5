"""Arrays as people save them: converted where certain, else refused with the cure."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from nas.data import load, sources
from nas.data.sources import array_checks

U8 = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)

CONVERTED = {
    "float 0..1": ((U8 / 255).astype(np.float32), "float32 within 0..1 is read"),
    "float16 0..255": (U8.astype(np.float16), "float16 within 0..255 is read"),
    "int64": (U8.astype(np.int64), "int64 within 0..255 is read as uint8"),
    "channels first": (np.moveaxis(U8, -1, 1), "has its channels first"),
    "as it is": (U8, ""),
}


@pytest.mark.parametrize(("given", "note"), CONVERTED.values(), ids=CONVERTED)
def test_images_that_are_certain(given: np.ndarray, note: str) -> None:
    notes: list[str] = []
    np.testing.assert_array_equal(array_checks.images("x", given, notes.append), U8)
    assert (note in notes[0]) if note else not notes


REFUSED = {
    "resized 0..1": (np.random.default_rng(0).random((2, 8, 8, 3)), "multiply by 255 first"),
    "black": ((U8 > 99).astype(np.uint8), "multiply by 255 before casting"),
    "masks": (U8 > 99, "got bool"),
    "-1..1": (U8 / 127.5 - 1, r"\(x \+ 1\) \* 127.5"),
    "normalised": (np.array(U8, float) / 50 - 2.5, "undo the normalisation"),
    "not finite": (np.where(U8 == 7, np.nan, U8), r"got nan, expected finite"),
    "16 bits": (U8.astype(np.uint16) * 257, "divide by 257"),
    "int8": (U8.astype(np.int8), "add 128"),
    "flat": (U8.reshape(6, -1), r"rows of pixels must be reshaped"),
    "first of 9 x 7": (np.zeros((2, 3, 9, 7), np.uint8), "np.moveaxis"),
    "text": (np.array(["a"]), "got <U1, expected numbers"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_images_that_are_not(given: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        array_checks.images("x", given, print)


@pytest.mark.parametrize(
    "given", [np.eye(3)[[0, 2, 1]], np.eye(3, dtype=bool)[[0, 2, 1]], np.array([[0], [2], [1]])]
)
def test_labels_that_are_certain(given: np.ndarray) -> None:
    notes: list[str] = []
    assert array_checks.labels("y", given, notes.append).tolist() == [0, 2, 1] and notes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([0.0, 1.0]), "cast them to int32"),
        (np.array(["cat"]), "number the classes from 0"),
        (np.array(3), r"got shape \[\]"),
        (np.array([0, 2**32]), r"got labels 0..4294967296"),
        (np.full((2, 3), 1 / 3), "expected integers"),
    ],
)
def test_labels_that_are_not(given: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        array_checks.labels("y", given, print)


def write(path: pathlib.Path, labels: np.ndarray, **more: np.ndarray) -> str:
    arrays = {f"{split}_images": U8 for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": labels for split in ("train", "val", "test")}
    np.savez(path / "a.npz", allow_pickle=False, **arrays, **more)
    return f"npz:{path / 'a.npz'}"


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([1, 2, 3, 1, 2, 3], None, r"no image has label 0 \(labels are 1..3\); count from 0"),
        ([1, 2, 3, 1, 2, 3], ["a", "b", "c"], r"no image has label 0 .* with 3 class_names"),
        ([0, 1, 2, 0, 1, 2**31 - 10], None, "map them to 0, 1, 2"),
        ([0, 1, 0, 1, 0, 1], "abc", r"class_names: got <U3 of shape \[\]"),
    ],
)
def test_classes_that_do_not_fit(
    labels: list[int], names: list[str] | str | None, message: str, tmp_path: pathlib.Path
) -> None:
    more = {} if names is None else {"class_names": np.array(names)}
    source = write(tmp_path, np.array(labels), **more)
    for read in (load.load_dataset, sources.open_collection):
        with pytest.raises(ValueError, match=message):
            read(source)


def test_a_class_without_images_is_noted_and_names_may_be_bytes(tmp_path: pathlib.Path) -> None:
    names = np.array([b"none", b"a", b"b", b"c"])
    data = load.load_dataset(write(tmp_path, np.array([1, 2, 3, 1, 2, 3]), class_names=names))
    assert data.class_names == ("none", "a", "b", "c")
    assert data.notes == ("a.npz: no image has the class none",)
