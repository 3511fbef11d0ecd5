"""Photographs in folders."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from nas.data.sources.image_folder import open_folder


def fill(root: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (len(name), 0, 0)).save(path)
    return root


def test_classes_alone_are_training_images(tmp_path: pathlib.Path) -> None:
    root = fill(tmp_path / "pets", "dog/b.png", "cat/x.jpg", "cat/deep/y.PNG", "dog/a.bmp")
    (root / "dog" / "notes.txt").write_text("no image")
    (root / ".git").mkdir()
    raw = open_folder(str(root))
    assert (raw.name, raw.class_names, list(raw.splits)) == ("pets", ("cat", "dog"), ["train"])
    train = raw.splits["train"]
    assert train.labels.tolist() == [0, 0, 1, 1] and train.labels.dtype == np.int32
    locations = [os.path.relpath(train.location(i), root) for i in range(len(train))]
    assert locations == ["cat/deep/y.PNG", "cat/x.jpg", "dog/a.bmp", "dog/b.png"]
    assert train.open(0).size == (6, 4)


def test_splits_by_name(tmp_path: pathlib.Path) -> None:
    fill(
        tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "val", "test") for name in "ab")
    )
    assert {split: len(images) for split, images in open_folder(str(tmp_path)).splits.items()} == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip


def test_images_without_folders_have_no_labels(tmp_path: pathlib.Path) -> None:
    raw = open_folder(str(fill(tmp_path, "1.png", "2.png")))
    assert raw.class_names == () and raw.splits["train"].labels.tolist() == [-1, -1]


def test_the_fingerprint_sees_names_and_sizes(tmp_path: pathlib.Path) -> None:
    first = open_folder(str(fill(tmp_path, "a/1.png", "b/1.png"))).fingerprint
    assert open_folder(str(tmp_path)).fingerprint == first
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "2.png")
    renamed = open_folder(str(tmp_path)).fingerprint
    Image.new("RGB", (60, 40)).save(tmp_path / "b" / "1.png")
    assert len({first, renamed, open_folder(str(tmp_path)).fingerprint}) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    {
        "other classes": (
            ("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/c/1.png"),
            "val: its classes differ .* b, c",
        ),
        "splits and classes": (
            ("train/a/1.png", "cats/1.png"),
            r"has folders for splits \(train\) and others \(cats\)",
        ),
        "no train": (("val/a/1.png",), "has val, but no folder train"),
    }.values(),
)
def test_folders_that_do_not_fit(
    names: tuple[str, ...], message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match=message):
        open_folder(str(fill(tmp_path, *names)))


def test_empty_and_absent(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"/b: holds no image \(\.bmp, \.dib"):
        open_folder(str(tmp_path))
    with pytest.raises(ValueError, match="source imagefolder:/no/such: no such folder"):
        open_folder("/no/such")
