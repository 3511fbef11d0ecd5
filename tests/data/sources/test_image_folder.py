"""Photographs in folders."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from nas.data import sources
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
    found = open_folder(str(root))
    assert (found.name, found.class_names, list(found.parts)) == ("pets", ("cat", "dog"), ["train"])
    train = found.parts["train"]
    assert train.labels.tolist() == [0, 0, 1, 1] and train.labels.dtype == np.int32
    places = [os.path.relpath(train.place(i), root) for i in range(len(train))]
    assert places == ["cat/deep/y.PNG", "cat/x.jpg", "dog/a.bmp", "dog/b.png"]
    assert train.open(0).size == (6, 4)


def test_parts_by_name(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, *(f"{part}/{name}/1.png" for part in ("train", "val", "test") for name in "ab"))
    assert {part: len(images) for part, images in open_folder(str(tmp_path)).parts.items()} == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip


def test_images_without_folders_have_no_labels(tmp_path: pathlib.Path) -> None:
    found = open_folder(str(fill(tmp_path, "1.png", "2.png")))
    assert found.class_names == () and found.parts["train"].labels.tolist() == [-1, -1]


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
        "parts and classes": (("train/a/1.png", "cats/1.png"), r"has folders for parts and others \(cats\)"),
        "no train": (("val/a/1.png",), "has validation, but no folder train"),
    }.values(),
)
def test_folders_that_do_not_fit(names: tuple[str, ...], message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_folder(str(fill(tmp_path, *names)))


def test_empty_and_absent(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"/b: holds no image \(\.bmp, \.jpeg"):
        open_folder(str(tmp_path))
    with pytest.raises(ValueError, match="source imagefolder:/no/such: no such folder"):
        open_folder("/no/such")


def test_a_search_reads_them_cropped_anew_each_time(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4), ("test", 4)):
        for name in "ab":
            for number in range(count):
                path = tmp_path / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(path)
    data = sources.load(f"imagefolder:{tmp_path}", 16)
    assert (data.train.shape, len(data.train), data.train.taught) == ((16, 16, 3), 16, False)
    index = np.array([[3, 3 + 16], [3, 5]])
    examples = data.train.read(index)
    assert examples.images.shape == (2, 2, 16, 16, 3) and examples.soft_labels is None
    assert (examples.images[0, 0] == examples.images[1, 0]).all()  # one position, one crop
    assert (examples.images[0, 0] != examples.images[0, 1]).any()  # the same photograph again, another crop
    assert examples.labels.tolist() == [[0, 0], [0, 0]]
    plain = data.validation.read(np.array([0, 0])).images
    assert (plain[0] == plain[1]).all()
    again = sources.load(f"imagefolder:{tmp_path}", 16)
    assert (again.mean, again.std, again.fingerprint) == (data.mean, data.std, data.fingerprint)
    assert sources.load(f"imagefolder:{tmp_path}", 20).fingerprint != data.fingerprint
