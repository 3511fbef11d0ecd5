"""Rebuilds the embedded files of "fashion in clutter" and trains its teacher.

    python -m experiments.datasets.fashion_clutter subset
    python -m experiments.datasets.fashion_clutter teacher

The source is the folder of the four original files, by default /usr/share/datasets/fashion-mnist;
see `experiments.datasets.fashion_mnist`. The teacher is trained on the 50,000 training items that
are not embedded.

Letters: m items, n scenes.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import logging
import lzma
import math
import os
import pathlib
from typing import Any

import numpy as np
import yaml

import search_spaces
from experiments.datasets.fashion_mnist import SOURCE, SOURCE_FILES, embedded_indices, read_idx
from nas.data import clutter_scenes, fashion_clutter

SOFT_LABEL_STEP = 1 / 20
"""Step of the stored -log(probability), in nats: 8 bits reach down to exp(-255 / 20) = 2.9e-6.
Source: ours."""
_LICENCE = "LICENSE.fashion-mnist"
_TEACHER_ITEMS = 50_000
"""Number of training items that are not embedded."""
RECIPE = (
    "32x32x3: background of one uniform colour per channel in 0..120; four square patches, side "
    "8-13, cut from random other items of the split, pasted by maximum, each tinted per channel "
    "0.3-1; the item scaled to 0.6-1.0 of 28 pixels, rotated within +-25 degrees (bilinear, about "
    "its centre), placed anywhere its upright box fits, blended with opacity 0.9 where it is "
    "brighter than 20, tinted per channel 0.5-1 plus an offset 0-40; Gaussian noise of standard "
    "deviation 12; rounded and clipped to 0..255"
)
"""Recipe of the scenes in the manifest."""

_logger = logging.getLogger(__name__)


def write_subset(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Write items.xz, labels.npy, LICENSE.fashion-mnist and manifest.yaml.

    Existing soft labels are kept if they belong to the same items, and removed otherwise.

    Args:
      source: Folder of the original files.
      folder: Folder to write.

    Raises:
      ValueError: The source is missing or malformed.

    Source: ours.
    """
    originals = {name: read_idx(source / file) for name, file in SOURCE_FILES.items()}
    indices = embedded_indices(originals["train labels"], originals["test labels"])
    items, labels = (
        np.concatenate(
            [
                originals[f"{'test' if split == 'test' else 'train'} {kind}"][indices[split]]
                for split in indices
            ]
        )
        for kind in ("images", "labels")
    )
    teacher = _teacher_of_same_items(folder, items)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.xz").write_bytes(
        lzma.compress(items.tobytes(), preset=9 | lzma.PRESET_EXTREME)
    )
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    licence = (fashion_clutter.EMBEDDED / _LICENCE).read_text(encoding="utf-8")
    (folder / _LICENCE).write_text(licence, encoding="utf-8")
    if teacher is None:
        (folder / "soft_labels.npz").unlink(missing_ok=True)
    _write_manifest(
        folder, teacher, {file: _sha256(source / file) for file in SOURCE_FILES.values()}
    )


def teacher_scenes(source: pathlib.Path, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Render scenes of the 50,000 training items that are not embedded, for the teacher.

    A teacher trained on these has seen neither the items that it labels nor their clutter, so its
    probabilities for the embedded training scenes are as unbiased as those for the validation
    scenes. Scene i shows remaining item i % 50000; give every epoch another seed.

    Args:
      source: Folder of the original files.
      seed: First number of the scenes' seeds, 0..2**32 - 1.
      count: Number of scenes n.

    Returns:
      Images uint8 [n, 32, 32, 3], and labels int32 [n].

    Raises:
      ValueError: The source is missing or malformed, or the seed is out of range.

    Source: ours.
    """
    labels = read_idx(source / SOURCE_FILES["train labels"])
    indices = embedded_indices(labels, labels[:0])
    is_embedded = np.zeros(len(labels), bool)
    is_embedded[np.concatenate([indices["train"], indices["validation"]])] = True
    items = read_idx(source / SOURCE_FILES["train images"])[~is_embedded]
    shown = np.arange(count) % len(items)
    images = clutter_scenes.render(
        items, shown, fashion_clutter.scene_seeds("teacher", count, seed)
    )
    return images, labels[~is_embedded][shown].astype(np.int32)


def encode_soft_labels(probabilities: np.ndarray) -> np.ndarray:
    """Encode teacher probabilities in 8 bits: level = min(round(-log(p) / step), 255).

    `nas.data.fashion_clutter.decode_soft_labels` states the error. Levels are logarithms, not
    probabilities, so that a student may also be trained at a higher temperature.

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
    probabilities: np.ndarray,
    teacher: dict[str, Any],
    folder: pathlib.Path = fashion_clutter.EMBEDDED,
) -> None:
    """Store a teacher's probabilities of training and validation scenes and update the manifest.

    Args:
      probabilities: float [20000, 10], the 16,000 training scenes and then the 4,000 validation
        scenes of `load`.
      teacher: Description of the teacher for the manifest (architecture, epochs, seed, test
        accuracy ...): plain numbers, strings, lists and dicts. Its accuracies on both splits are
        added.
      folder: Folder of the embedded files.

    Raises:
      ValueError: Shape, values or description do not fit.

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
            f"write_soft_labels: probabilities: got shape {probabilities.shape}, expected "
            f"{expected}; give the training scenes and then the validation scenes, in the order of "
            "load()"
        )
    if not (np.all(probabilities >= 0) and np.all(np.abs(probabilities.sum(axis=1) - 1) <= 1e-3)):
        raise ValueError(
            f"write_soft_labels: probabilities: got values {probabilities.min()}.."
            f"{probabilities.max()} or rows that do not sum to 1, expected probabilities; apply a "
            "softmax"
        )
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    guesses = np.split(probabilities.argmax(axis=1), [counts["train"]])
    accuracy = {}
    for split, guess in zip(counts, guesses, strict=True):
        truth = np.repeat(
            labels[fashion_clutter.item_slice(split)], fashion_clutter.SCENES_PER_ITEM[split]
        )
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
    return (
        manifest["teacher"] if np.array_equal(fashion_clutter.read_items(folder), items) else None
    )


def _write_manifest(
    folder: pathlib.Path, teacher: dict[str, Any] | None, source_hashes: dict[str, str]
) -> None:
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
        "licence": f"MIT (Expat), see {_LICENCE}; scenes and soft labels: the licence of this "
        "project",
        "subset_rule": "in file order: the first 800 training items of each class (train), the "
        "next 200 of each class (validation), the first 500 test items of each class (test)",
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
    """Train the teacher on new scenes of the items not embedded, and store its soft labels.

    Args:
      source: Folder of the original files.
      folder: Folder of the embedded files.
      epochs: Passes over the 50,000 items, each in new scenes.
      seed: Random seed of weights, order and scenes.

    Raises:
      ValueError: The source or the embedded files are missing or malformed.

    Source: ours.
    """
    # Imported here so that JAX is loaded only when a teacher is trained.
    from nas.host.progress import ProgressBar, console
    from nas.run.train_config import TrainConfig
    from nas.training import training

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
    with ProgressBar("teacher", recipe.steps, console()) as progress:
        teacher = training.train(
            spec, read, recipe, mean=data.mean, std=data.std, seed=seed, progress=progress
        )
    probabilities = teacher.predict(np.concatenate([data.train.images, data.validation.images]))
    description = {
        "architecture": spec.name,
        "params": search_spaces.params(spec),
        "macs": search_spaces.macs(spec),
        "trained_on": "the 50,000 training items that are not embedded, new scenes every epoch, "
        "hard labels",
        "epochs": epochs,
        "seed": seed,
        "test_accuracy": round(teacher.accuracy(data.test), 4),
    }
    write_soft_labels(probabilities, description, folder)
    _logger.info("teacher: %s", description)


def main(arguments: list[str] | None = None) -> None:
    """Run the command: `subset` rebuilds the items, `teacher` trains and stores soft labels.

    Args:
      arguments: Command line; by default that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.datasets.fashion_clutter", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    subset = commands.add_parser(
        "subset", help="rebuild items, labels, licence and manifest (10 s)"
    )
    teacher = commands.add_parser(
        "teacher", help="train the teacher and store its soft labels (half an hour)"
    )
    for command in (subset, teacher):
        command.add_argument(
            "--source", type=pathlib.Path, default=SOURCE, help="folder of the original files"
        )
        command.add_argument(
            "--folder", type=pathlib.Path, default=fashion_clutter.EMBEDDED, help="where to write"
        )
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
