"""Mixtures of distilled sets, and image files in an .npz."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from PIL import Image

from nas.cli import distil
from nas.data import images as codec
from nas.data import sources
from nas.data.order import batch_indices


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """20 training and 10 validation JPEGs of two classes, end to end."""
    path, arrays = tmp_path_factory.mktemp("blobs") / "blobs.npz", {}
    for part, count in (("train", 20), ("val", 10)):
        files = [codec.encode(Image.new("RGB", (9, 7), (10 * i, 0, 0)), 95) for i in range(count)]
        arrays |= {
            f"{part}_blob": np.frombuffer(b"".join(files), np.uint8),
            f"{part}_off": np.cumsum([0, *map(len, files)]),
            f"{part}_y": np.arange(count) % 2,
        }
    np.savez(path, **arrays, names=np.array(["even", "odd"]))
    return path


@pytest.fixture(scope="module")
def distilled(blobs: pathlib.Path) -> tuple[str, str]:
    """Two distilled sets of the same images, of 18 and 54 training images."""
    for name, recipe, replicas in (("one", "d1", 1), ("two", "d2", 3)):
        out = ["--out", str(blobs.parent / name), "--size", "8", "--workers", "1", "--shard-images", "16"]
        distil.main(["--source", f"npz:{blobs}", "--recipe", recipe, "--replicas", str(replicas), *out])
    return str(blobs.parent / "one"), str(blobs.parent / "two")


def test_files_in_an_npz(blobs: pathlib.Path) -> None:
    found = sources.open_collection(f"npz:{blobs}")
    assert found.class_names == ("even", "odd") and {p: len(i) for p, i in found.parts.items()} == {
        "train": 20, "validation": 10,
    }  # fmt: skip
    assert found.parts["train"].open(7).size == (9, 7)
    assert sources.load(f"npz:{blobs}", 8).train.shape == (8, 8, 3)
    with pytest.raises(ValueError, match="say to which size"):
        sources.load(f"npz:{blobs}")


@pytest.mark.parametrize("offsets", [[0, 5, 3], [0, 5], [0, 5, 10**6]])
def test_offsets_that_do_not_fit(offsets: list[int], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, train_blob=np.zeros(9, np.uint8), train_off=np.array(offsets), train_y=np.array([0, 1]))
    with pytest.raises(ValueError, match=r"a.npz: train_off: expected 3 rising offsets into 9 bytes"):
        sources.open_collection(f"npz:{path}")


def test_a_mixture_reads_each_set_by_its_weight(distilled: tuple[str, str]) -> None:
    one, two = (sources.load(f"distilled:{folder}") for folder in distilled)
    mixed = sources.load(f"distilled:{distilled[0]}=1 + distilled:{distilled[1]}=2")
    assert (len(one.train), len(two.train), len(mixed.train)) == (18, 54, 72)
    index = batch_indices(mixed.train.mixture, 30, 2, 0)
    assert ((index >= 18).sum(), (index < 18).sum()) == (20, 10)
    examples = mixed.train.read(index.reshape(5, 6))
    for place, image, label in zip(
        index, examples.images.reshape(30, 8, 8, 3), examples.labels.reshape(30), strict=True
    ):
        own = (one.train if place < 18 else two.train).read(np.array([place if place < 18 else place - 18]))
        assert (own.images[0] == image).all() and own.labels[0] == label
    assert mixed.fingerprint not in (one.fingerprint, two.fingerprint)
    assert mixed.validation.read(np.array([0])).images.tolist() == one.validation.read(np.array([0])).images.tolist()


def test_a_folder_may_have_a_plus_in_its_name() -> None:
    with pytest.raises(ValueError, match=r"/a\+b: ") as caught:  # the folder is not there
        sources.load("imagefolder:/a+b", 8)
    assert "mixture" not in str(caught.value)


@pytest.mark.parametrize("weights", ["=0", "", "=-1", "=x"])
def test_weights_are_whole_numbers(weights: str, distilled: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="a mixture reads `distilled:A=1"):
        sources.load(f"distilled:{distilled[0]}=1 + distilled:{distilled[1]}{weights}")


def test_sets_of_another_size_cannot_be_mixed(distilled: tuple[str, str], blobs: pathlib.Path) -> None:
    out = blobs.parent / "large"
    distil.main(["--source", f"npz:{blobs}", "--out", str(out), "--size", "10", "--workers", "1", "--recipe", "plain"])
    with pytest.raises(ValueError, match=r"large cannot be mixed with one: \[h, w, c\]: \(10, 10, 3\), expected"):
        sources.load(f"distilled:{distilled[0]}=1 + distilled:{out}=1")


def test_memory_does_not_hold_the_images(distilled: tuple[str, str]) -> None:
    """A split keeps its shards' sizes, and records only while they are read."""
    split = sources.load(f"distilled:{distilled[1]}").train
    assert not any(isinstance(value, np.ndarray) and value.size > 100 for value in vars(split).values())
