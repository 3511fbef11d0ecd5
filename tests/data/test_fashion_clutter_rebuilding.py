"""The script that rebuilds the embedded files: items, soft labels, and damaged sources."""

from __future__ import annotations

import gzip
import math
import pathlib

import numpy as np
import pytest
import yaml

from experiments.datasets import fashion_clutter as rebuild
from experiments.datasets.fashion_mnist import SOURCE_FILES, embedded_indices, read_idx
from nas.data import fashion_clutter

from .conftest import write_idx


def test_subset_is_balanced_disjoint_and_in_file_order(source: pathlib.Path) -> None:
    train_labels = read_idx(source / SOURCE_FILES["train labels"])
    test_labels = read_idx(source / SOURCE_FILES["test labels"])
    indices = embedded_indices(train_labels, test_labels)
    assert not set(indices["train"]) & set(indices["validation"])
    for split, labels, per_class in (
        ("train", train_labels, 8),
        ("validation", train_labels, 2),
        ("test", test_labels, 5),
    ):
        assert (np.diff(indices[split]) > 0).all()
        assert np.bincount(labels[indices[split]]).tolist() == [per_class] * 10
    for label in range(10):
        of_class = np.flatnonzero(train_labels == label)
        assert set(of_class[:8]) <= set(indices["train"]) and set(of_class[8:10]) <= set(
            indices["validation"]
        )


def test_subset_holds_the_chosen_items_and_labels(
    source: pathlib.Path, folder: pathlib.Path
) -> None:
    labels = {
        split: read_idx(source / SOURCE_FILES[f"{split} labels"]) for split in ("train", "test")
    }
    indices = embedded_indices(labels["train"], labels["test"])
    items = fashion_clutter.read_items(folder)
    stored = np.load(folder / "labels.npy")
    for split in fashion_clutter.ITEMS:
        chosen = fashion_clutter.item_slice(split)
        assert (items[chosen, 0, 0] == indices[split] + 21).all()
        assert (
            stored[chosen] == labels["test" if split == "test" else "train"][indices[split]]
        ).all()


def test_teacher_sees_only_items_that_are_not_embedded(source: pathlib.Path) -> None:
    path = source / SOURCE_FILES["train images"]
    items = read_idx(path).copy()
    labels = read_idx(source / SOURCE_FILES["train labels"])
    indices = embedded_indices(labels, labels[:0])
    embedded_items = np.concatenate([indices["train"], indices["validation"]])
    remaining = np.setdiff1d(np.arange(150), embedded_items)
    images, image_labels = rebuild.teacher_scenes(source, seed=3, count=120)
    assert images.shape == (120, 32, 32, 3)
    assert (
        image_labels.dtype == np.int32
        and (image_labels == labels[remaining][np.arange(120) % 50]).all()
    )
    items[embedded_items] = 255
    write_idx(path, items)
    assert (rebuild.teacher_scenes(source, seed=3, count=120)[0] == images).all()
    assert (rebuild.teacher_scenes(source, seed=4, count=120)[0] != images).any()


def test_soft_labels_survive_within_the_stated_error(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    generator = np.random.default_rng(2)
    probabilities = generator.dirichlet(np.full(10, 0.1), 200)
    probabilities[0] = np.eye(10)[3]
    probabilities[1, :] = [0.5, 0.5, *[0.0] * 8]
    before = fashion_clutter.load(tmp_path, folder)
    assert before.train.soft_labels is None
    rebuild.write_soft_labels(probabilities, {"architecture": "toy", "epochs": 1}, folder)
    after = fashion_clutter.load(tmp_path, folder)
    assert after.train.soft_labels is not None and after.validation.soft_labels is not None
    assert len(after.train.soft_labels) == 160 and len(after.validation.soft_labels) == 40
    assert after.test.soft_labels is None
    assert after.fingerprint != before.fingerprint
    decoded = np.concatenate([after.train.soft_labels, after.validation.soft_labels]).astype(float)
    assert np.abs(decoded.sum(axis=1) - 1).max() < 1e-6
    assert np.abs(decoded - probabilities).max() <= 0.0125 + 3e-5
    kept = probabilities > math.exp(-255 / 20)
    ratio = np.abs(np.log(decoded[kept] / probabilities[kept]))
    assert ratio.max() <= 0.05 + 3e-5
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text(encoding="utf-8"))
    assert manifest["teacher"]["architecture"] == "toy"
    expected = float((probabilities[160:].argmax(axis=1) == after.validation.labels).mean())
    assert manifest["teacher"]["accuracy_on_embedded_scenes"]["validation"] == pytest.approx(
        expected, abs=1e-4
    )


def test_rebuilding_keeps_soft_labels_of_the_same_items_only(
    source: pathlib.Path, folder: pathlib.Path
) -> None:
    rebuild.write_soft_labels(np.full((200, 10), 0.1), {"architecture": "toy"}, folder)
    rebuild.write_subset(source, folder)
    assert fashion_clutter.read_manifest(folder)["teacher"]["architecture"] == "toy"
    path = source / SOURCE_FILES["test images"]
    write_idx(path, 255 - read_idx(path))
    rebuild.write_subset(source, folder)
    assert fashion_clutter.read_manifest(folder)["teacher"] is None
    assert not (folder / "soft_labels.npz").exists()


@pytest.mark.parametrize(
    ("probabilities", "teacher", "message"),
    [
        (
            np.full((160, 10), 0.1),
            {},
            r"probabilities: got shape \(160, 10\), expected \(200, 10\)",
        ),
        (np.full((200, 10), 0.2), {}, r"probabilities: .*softmax"),
        (np.full((200, 10), np.nan), {}, r"probabilities: got values nan"),
        (np.full((200, 10), 0.1), {"accuracy": np.float64(0.5)}, r"teacher: got .*NumPy scalars"),
    ],
)
def test_soft_label_errors(
    probabilities: np.ndarray, teacher: dict[str, object], message: str, folder: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match=message):
        rebuild.write_soft_labels(probabilities, teacher, folder)
    assert fashion_clutter.read_manifest(folder)["teacher"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read .*dataset-fashion-mnist"),
        (b"plain", r"cannot be read"),
        (
            gzip.compress(b"\x00\x00\x09\x01\x00\x00\x00\x00", mtime=0),
            r"got first bytes .*unsigned bytes",
        ),
        (
            gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05ab", mtime=0),
            r"got 2 values, expected the \(5,\)",
        ),
    ],
)
def test_damaged_source_is_named(
    content: bytes | None, message: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path)
