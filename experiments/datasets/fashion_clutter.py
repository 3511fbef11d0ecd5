"""Rebuilds the embedded files of "fashion in clutter" and makes what its teacher needs.

    python -m experiments.datasets.fashion_clutter subset --source /usr/share/datasets/fashion-mnist
    python -m experiments.datasets.fashion_clutter teacher --source /usr/share/datasets/fashion-mnist

The source is the folder of the four original files, as in the Debian package `dataset-fashion-mnist`. The first 800
training items of each class become the training split, the next 200 the validation split, the first 500 test items of
each class the test split, always in file order; the remaining 50,000 training items are the teacher's.
"""

import argparse
import functools
import gzip
import hashlib
import logging
import lzma
import math
import os
import pathlib
import struct
import time
from typing import Any

import numpy as np
import yaml

import search_spaces
from nas.data import clutter_scenes, fashion_clutter

SOURCE = pathlib.Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package `dataset-fashion-mnist` puts the original files."""
SOURCE_FILES = {
    "train images": "train-images-idx3-ubyte.gz",
    "train labels": "train-labels-idx1-ubyte.gz",
    "test images": "t10k-images-idx3-ubyte.gz",
    "test labels": "t10k-labels-idx1-ubyte.gz",
}
SOFT_LABEL_STEP = 1 / 20
"""Step of the stored -log(probability), in nats: 8 bits reach down to exp(-255 / 20) = 2.9e-6. Source: ours."""
_TEACHER_ITEMS = 50_000  # training items that are not embedded
LICENSE = """\
The items of Fashion-MNIST (items.xz, labels.npy) are used under the following terms.

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
RECIPE = (
    "32x32x3: background of one uniform colour per channel in 0..120; four square patches, side 8-13, cut from random "
    "other items of the split, pasted by maximum, each tinted per channel 0.3-1; the item scaled to 0.6-1.0 of 28 "
    "pixels, rotated within +-25 degrees (bilinear, about its centre), placed anywhere its upright box fits, blended "
    "with opacity 0.9 where it is brighter than 20, tinted per channel 0.5-1 plus an offset 0-40; Gaussian noise of "
    "standard deviation 12; rounded and clipped to 0..255"
)

_logger = logging.getLogger(__name__)


def read_idx(path: pathlib.Path) -> np.ndarray:
    """An array from a gzipped IDX file of unsigned bytes.

    Args:
        path: the file.

    Returns:
        uint8, with the shape that the file states.

    Raises:
        ValueError: there is no such file, or it has another format.

    Source: the IDX format, http://yann.lecun.com/exdb/mnist/ (magic 0, 0, type 8, number of axes; big-endian sizes).
    """
    cure = "install the Debian package dataset-fashion-mnist, or point --source to a copy of its files"
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({error}), expected a gzipped IDX file; {cure}") from error
    ndim = raw[3] if len(raw) > 3 else 0
    data = 4 + 4 * ndim
    if raw[:3] != b"\x00\x00\x08" or not ndim or len(raw) < data:
        raise ValueError(f"{path}: got first bytes {raw[:4]!r}, expected an IDX file of unsigned bytes; {cure}")
    shape = struct.unpack(f">{ndim}I", raw[4:data])
    values = np.frombuffer(raw, np.uint8, offset=data)
    if values.size != np.prod(shape):
        raise ValueError(f"{path}: got {values.size} values, expected the {shape} that its header states; {cure}")
    return values.reshape(shape)


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """How many earlier items have the same label: 0 for the first of each class. int64 [m] from uint8 [m]."""
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return ranks


def embedded_indices(train_labels: np.ndarray, test_labels: np.ndarray) -> dict[str, np.ndarray]:
    """Which original items are embedded: by rank within their class, each split in file order.

    Args:
        train_labels: uint8 [60000].
        test_labels: uint8 [10000].

    Returns:
        For "train" and "validation" indices into the original training items, for "test" into the test items.

    Source: ours.
    """
    classes = len(fashion_clutter.CLASS_NAMES)
    train, validation, test = (fashion_clutter.ITEMS[split] // classes for split in ("train", "validation", "test"))
    ranks = rank_in_class(train_labels)
    return {
        "train": np.flatnonzero(ranks < train),
        "validation": np.flatnonzero((ranks >= train) & (ranks < train + validation)),
        "test": np.flatnonzero(rank_in_class(test_labels) < test),
    }


def write_subset(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes items.xz, labels.npy, LICENSE.fashion-mnist and manifest.yaml.

    Soft labels that are already there are kept if they belong to the same items, and removed if not.

    Args:
        source: folder of the original files.
        folder: where to write.

    Raises:
        ValueError: the source is missing or malformed.

    Source: ours.
    """
    originals = {name: read_idx(source / file) for name, file in SOURCE_FILES.items()}
    indices = embedded_indices(originals["train labels"], originals["test labels"])
    items, labels = (
        np.concatenate(
            [originals[f"{'test' if split == 'test' else 'train'} {kind}"][indices[split]] for split in indices]
        )
        for kind in ("images", "labels")
    )
    teacher = _teacher_of_same_items(folder, items)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.xz").write_bytes(lzma.compress(items.tobytes(), preset=9 | lzma.PRESET_EXTREME))
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    (folder / "LICENSE.fashion-mnist").write_text(LICENSE, encoding="utf-8")
    if teacher is None:
        (folder / "soft_labels.npz").unlink(missing_ok=True)
    _write_manifest(folder, teacher, {file: _sha256(source / file) for file in SOURCE_FILES.values()})


def teacher_scenes(source: pathlib.Path, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes of the 50,000 training items that are not embedded, for the teacher.

    A teacher trained on these has seen neither the items that it labels nor their clutter, so its probabilities for
    the embedded training scenes are as honest as those for the validation scenes. Scene i shows remaining item
    i % 50000; give every epoch another seed.

    Args:
        source: folder of the original files.
        seed: first part of the scenes' seeds, 0..2**32 - 1.
        count: number of scenes n.

    Returns:
        images uint8 [n, 32, 32, 3] and labels int32 [n].

    Raises:
        ValueError: the source is missing or malformed, or the seed is out of range.

    Source: ours.
    """
    labels = read_idx(source / SOURCE_FILES["train labels"])
    indices = embedded_indices(labels, labels[:0])
    is_embedded = np.zeros(len(labels), bool)
    is_embedded[np.concatenate([indices["train"], indices["validation"]])] = True
    items = read_idx(source / SOURCE_FILES["train images"])[~is_embedded]
    shown = np.arange(count) % len(items)
    images = clutter_scenes.render(items, shown, fashion_clutter.scene_seeds("teacher", count, seed))
    return images, labels[~is_embedded][shown].astype(np.int32)


def encode_soft_labels(probabilities: np.ndarray) -> np.ndarray:
    """Teacher probabilities in 8 bits: level = min(round(-log(p) / step), 255).

    For the error see `nas.data.fashion_clutter.decode_soft_labels`. Logarithms rather than probabilities, so that a
    student may also be trained at a higher temperature.

    Args:
        probabilities: float [n, classes], rows sum to 1.

    Returns:
        uint8 [n, classes].

    Source: ours.
    """
    floor = math.exp(-255 * SOFT_LABEL_STEP)
    nats = -np.log(np.clip(probabilities.astype(np.float64), floor, 1.0))
    return np.rint(nats / SOFT_LABEL_STEP).astype(np.uint8)


def write_soft_labels(
    probabilities: np.ndarray, teacher: dict[str, Any], folder: pathlib.Path = fashion_clutter.EMBEDDED
) -> None:
    """Stores a teacher's probabilities of the training and validation scenes and enters them in the manifest.

    Args:
        probabilities: float [20000, 10], the 16,000 training scenes and then the 4,000 validation scenes of `load`.
        teacher: what the manifest shall say about the teacher (architecture, epochs, seed, test accuracy ...): plain
            numbers, strings, lists and dicts. Its accuracies on both splits are added here.
        folder: holds the embedded files.

    Raises:
        ValueError: shape, values or description do not fit.

    Source: ours.
    """
    manifest = fashion_clutter.read_manifest(folder)
    counts = {
        split: fashion_clutter.ITEMS[split] * fashion_clutter.SCENES_PER_ITEM[split]
        for split in ("train", "validation")
    }
    expected = (sum(counts.values()), len(fashion_clutter.CLASS_NAMES))
    if probabilities.shape != expected:
        raise ValueError(
            f"write_soft_labels: probabilities: got shape {probabilities.shape}, expected {expected}; "
            "give the training scenes and then the validation scenes, in the order of load()"
        )
    if not (np.all(probabilities >= 0) and np.all(np.abs(probabilities.sum(axis=1) - 1) <= 1e-3)):
        raise ValueError(
            f"write_soft_labels: probabilities: got values {probabilities.min()}..{probabilities.max()} or rows that "
            "do not sum to 1, expected probabilities; apply a softmax"
        )
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    guesses = np.split(probabilities.argmax(axis=1), [counts["train"]])
    accuracy = {}
    for split, guess in zip(counts, guesses, strict=True):
        truth = np.repeat(labels[fashion_clutter.item_slice(split)], fashion_clutter.SCENES_PER_ITEM[split])
        accuracy[split] = round(float(np.mean(guess == truth)), 4)
    try:
        description = yaml.safe_load(yaml.safe_dump(teacher))
    except yaml.YAMLError as error:
        raise ValueError(
            f"write_soft_labels: teacher: got {teacher!r}, expected what YAML can hold; "
            "turn NumPy scalars into float or int"
        ) from error
    description["accuracy_on_embedded_scenes"] = accuracy
    np.savez_compressed(
        folder / "soft_labels.npz",
        levels=encode_soft_labels(probabilities),
        step=np.float64(SOFT_LABEL_STEP),
    )
    _write_manifest(folder, description, manifest["source"]["files"])


def _teacher_of_same_items(folder: pathlib.Path, items: np.ndarray) -> dict[str, Any] | None:
    try:
        manifest = fashion_clutter.read_manifest(folder)
    except ValueError:
        return None
    return manifest["teacher"] if np.array_equal(fashion_clutter.read_items(folder), items) else None


def _write_manifest(folder: pathlib.Path, teacher: dict[str, Any] | None, source_hashes: dict[str, str]) -> None:
    names = ["items.xz", "labels.npy"] + ([] if teacher is None else ["soft_labels.npz"])
    manifest = {
        "name": fashion_clutter.NAME,
        "recipe_version": fashion_clutter.RECIPE_VERSION,
        "source": {
            "title": "Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747)",
            "url": "https://github.com/zalandoresearch/fashion-mnist",
            "debian_package": "dataset-fashion-mnist",
            "files": source_hashes,
        },
        "licence": "MIT (Expat), see LICENSE.fashion-mnist; scenes and soft labels: the licence of this project",
        "subset_rule": "in file order: the first 800 training items of each class (train), the next 200 of each class "
        "(validation), the first 500 test items of each class (test)",
        "items": dict(fashion_clutter.ITEMS),
        "scenes_per_item": dict(fashion_clutter.SCENES_PER_ITEM),
        "classes": list(fashion_clutter.CLASS_NAMES),
        "normalisation": {"mean": fashion_clutter.MEAN, "std": fashion_clutter.STD},
        "dataset_seed": fashion_clutter.DATASET_SEED,
        "split_numbers": dict(fashion_clutter.SPLIT_NUMBERS),
        "seed_rule": fashion_clutter.SEED_RULE,
        "recipe": RECIPE,
        "teacher": teacher,
        "files": {name: _sha256(folder / name) for name in names},
    }
    text = "# Written by experiments.datasets.fashion_clutter; do not edit.\n"
    text += yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
    temporary = folder / "manifest.yaml.tmp"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, folder / "manifest.yaml")


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train_teacher(source: pathlib.Path, folder: pathlib.Path, epochs: int, seed: int) -> None:
    """Trains the teacher on freshly drawn scenes of the items that are not embedded, and stores its soft labels.

    Args:
        source: folder of the original files.
        folder: holds the embedded files.
        epochs: passes over the 50,000 items, each time in new scenes.
        seed: of weights, order and scenes.

    Source: ours.
    """
    from nas.run.config import TrainConfig  # JAX only when a teacher is trained
    from nas.train import loop

    spec = search_spaces.load(pathlib.Path(__file__).with_name("fashion_clutter_teacher.yaml"))
    batch = 128
    per_epoch = _TEACHER_ITEMS // batch

    @functools.lru_cache(maxsize=1)
    def epoch(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, labels = teacher_scenes(source, 1000 * seed + number, _TEACHER_ITEMS)
        order = np.random.Generator(np.random.PCG64([seed, number])).permutation(_TEACHER_ITEMS)
        return images, np.eye(len(fashion_clutter.CLASS_NAMES), dtype=np.float32)[labels], order

    def read(step: int) -> tuple[np.ndarray, np.ndarray]:
        images, targets, order = epoch(step // per_epoch)
        chosen = order[step % per_epoch * batch :][:batch]
        return images[chosen], targets[chosen]

    recipe = TrainConfig(steps=epochs * per_epoch, batch=batch, learning_rate=0.15, labels="hard")
    data = fashion_clutter.load(folder=folder)
    started = time.monotonic()

    def show(step: int, metrics: dict[str, float]) -> None:
        if step % 100 < 5:
            _logger.info("step %d of %d, %.0f s: %s", step, recipe.steps, time.monotonic() - started, metrics)

    teacher = loop.train(spec, read, recipe, mean=data.mean, std=data.std, seed=seed, progress=show)
    probabilities = teacher.predict(np.concatenate([data.train.images, data.validation.images]))
    description = {
        "architecture": spec.name,
        "params": search_spaces.params(spec),
        "macs": search_spaces.macs(spec),
        "trained_on": "the 50,000 training items that are not embedded, new scenes every epoch, hard labels",
        "epochs": epochs,
        "seed": seed,
        "test_accuracy": round(teacher.accuracy(data.test), 4),
    }
    write_soft_labels(probabilities, description, folder)
    _logger.info("teacher: %s", description)


def main(arguments: list[str] | None = None) -> None:
    """Command line: `subset` rebuilds the embedded items, `teacher` trains the teacher and stores its soft labels."""
    parser = argparse.ArgumentParser(prog="python -m experiments.datasets.fashion_clutter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    subset = commands.add_parser("subset", help="rebuild items, labels, licence and manifest (10 s)")
    teacher = commands.add_parser("teacher", help="train the teacher and store its soft labels (half an hour)")
    for command in (subset, teacher):
        command.add_argument("--source", type=pathlib.Path, default=SOURCE, help="folder of the original files")
        command.add_argument("--folder", type=pathlib.Path, default=fashion_clutter.EMBEDDED, help="where to write")
    teacher.add_argument("--epochs", type=int, default=6)
    teacher.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.command == "subset":
        write_subset(options.source, options.folder)
    else:
        train_teacher(options.source, options.folder, options.epochs, options.seed)
    for path in sorted(options.folder.iterdir()):
        _logger.info("%s: %d bytes", path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
