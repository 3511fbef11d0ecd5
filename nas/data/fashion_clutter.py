"""Fashion in clutter: the embedded data set, replayed from stored items and seeds.

Ten kinds of clothing (Fashion-MNIST items, 28x28 grey) lie rotated, scaled and tinted among patches
of other items in noisy 32x32 RGB scenes. On the plain items the seed of a training run changes the
accuracy more than the network does; in clutter, networks can be told apart. Items, labels and the
soft labels of a teacher are stored in `embedded/fashion_clutter/`, which
`experiments.datasets.fashion_clutter` rebuilds. Scenes are rendered on first use and kept in a
cache folder.

Letters: m items, n scenes.
"""

from __future__ import annotations

import hashlib
import logging
import lzma
import os
import pathlib
import uuid
import zipfile
from typing import Any

import numpy as np
import yaml

from nas.data import clutter_scenes, dataset
from nas.host import cache

NAME = "fashion_clutter"
CLASS_NAMES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""Names of the classes, as in the source's read-me, in lower case."""
RECIPE_VERSION = 1
"""Version of the recipe, raised with any change of the scenes; part of the fingerprint."""
DATASET_SEED = 0
SPLIT_NUMBERS = {"train": 0, "validation": 1, "test": 2, "teacher": 3}
"""Second number of a scene's seed. `teacher` is for scenes of items that are not embedded; `load`
does not use it."""
ITEMS = {"train": 8000, "validation": 2000, "test": 5000}
"""Number of items of each split, in the order in which they are stored."""
SCENES_PER_ITEM = {"train": 2, "validation": 2, "test": 1}
MEAN = 0.4
STD = 0.25
EMBEDDED = pathlib.Path(__file__).parent / "embedded" / "fashion_clutter"
SEED_RULE = (
    "scene i of a split shows item i // scenes_per_item of that split; its draws are the first 817 "
    "words of numpy PCG64DXSM(SeedSequence([dataset_seed, split number, i])).random_raw"
)

_logger = logging.getLogger(__name__)


def load(
    cache_dir: pathlib.Path | None = None, folder: pathlib.Path = EMBEDDED
) -> dataset.Dataset[dataset.Split]:
    """Load fashion in clutter: 16,000 training, 4,000 validation and 5,000 test scenes, 10 classes.

    The first call renders the scenes (seconds) and writes them to the cache folder; later calls
    read them. A damaged cache is rebuilt; without a writable folder, scenes are rendered each time.
    The fingerprint covers the embedded files, the recipe version and the seed, not the rendered
    pixels: floating point may differ in the last bit between platforms, and a few pixels with
    it.

    Args:
      cache_dir: Folder of the cache; None means `$MNV4_NAS_CACHE`, else `$XDG_CACHE_HOME/mnv4-nas`,
        else `~/.cache/mnv4-nas`.
      folder: Folder with manifest.yaml and the files that it names; another one to try rebuilt
        files.

    Returns:
      The data set, uint8 [n, 32, 32, 3]; `soft_labels` of train and validation are set if the
      folder has them, those of test never.

    Raises:
      ValueError: The embedded files are missing or changed.

    Source: items from Fashion-MNIST (arXiv:1708.07747, MIT licence); scenes ours.
    """
    manifest = read_manifest(folder)
    fingerprint = _fingerprint(manifest)
    images = _cached_images(
        folder, fingerprint, cache_dir if cache_dir is not None else cache.folder()
    )
    item_labels = np.load(folder / "labels.npy", allow_pickle=False).astype(np.int32)
    soft_labels: dict[str, np.ndarray] = {}
    if "soft_labels.npz" in manifest["files"]:
        with np.load(folder / "soft_labels.npz", allow_pickle=False) as stored:
            decoded = decode_soft_labels(stored["levels"], float(stored["step"]))
        soft_labels["train"], soft_labels["validation"] = np.split(decoded, [len(images["train"])])
    splits = {}
    for split in ITEMS:
        labels = np.repeat(item_labels[item_slice(split)], SCENES_PER_ITEM[split])
        splits[split] = dataset.Split(images[split], labels, soft_labels.get(split))
    return dataset.Dataset(
        name=NAME,
        class_names=CLASS_NAMES,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        mean=MEAN,
        std=STD,
        fingerprint=fingerprint,
    )


def item_slice(split: str) -> slice:
    """Position of the items of a split among the stored 15,000.

    Args:
      split: "train", "validation" or "test".

    Returns:
      The slice of its items.
    """
    names = list(ITEMS)
    start = sum(ITEMS[name] for name in names[: names.index(split)])
    return slice(start, start + ITEMS[split])


def scene_seeds(split: str, count: int, dataset_seed: int = DATASET_SEED) -> np.ndarray:
    """Seeds of scenes 0..count-1 of a split: rows (data set seed, split number, scene index).

    Args:
      split: Key of `SPLIT_NUMBERS`.
      count: Number of scenes n.
      dataset_seed: Random seed of the data set, the first column.

    Returns:
      int64 [n, 3].

    Source: ours.
    """
    seeds = np.empty((count, 3), np.int64)
    seeds[:, 0] = dataset_seed
    seeds[:, 1] = SPLIT_NUMBERS[split]
    seeds[:, 2] = np.arange(count)
    return seeds


def decode_soft_labels(levels: np.ndarray, step: float) -> np.ndarray:
    """Decode stored levels to probabilities.

    p = exp(-step level), divided by its sum over the classes

    All classes are stored (there are only ten), so no mass is lost. With levels rounded to the
    nearest, a probability is off by at most step / 4 (near 1/2; 0.0125 for the step of 1/20 in use,
    typically far less) and by at most a factor exp(step) = 1.05. Probabilities below
    exp(-255 step) = 2.9e-6 are raised to it, which adds at most 3e-5 in all.

    Args:
      levels: uint8 [n, classes], -log(p) in steps.
      step: Nats per level.

    Returns:
      float32 [n, classes], rows sum to 1.

    Source: ours; the encoder is in `experiments.datasets.fashion_clutter`.
    """
    weights = np.exp(-step * np.arange(256))[levels]
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def read_items(folder: pathlib.Path) -> np.ndarray:
    """Read the stored items.

    Args:
      folder: Folder with items.xz.

    Returns:
      uint8 [15000, 28, 28], in the order train, validation, test.
    """
    raw = lzma.decompress((folder / "items.xz").read_bytes())
    return np.frombuffer(raw, np.uint8).reshape(
        sum(ITEMS.values()), clutter_scenes.ITEM_SIDE, clutter_scenes.ITEM_SIDE
    )


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Read the manifest of a folder and check its recipe version and the hashes of its files.

    Args:
      folder: Folder with manifest.yaml and the files that it names.

    Returns:
      The manifest.

    Raises:
      ValueError: A file is missing or changed, or the recipe is another one.

    Source: ours.
    """
    path = folder / "manifest.yaml"
    cure = (
        "reinstall mnv4-nas, or rebuild the files with "
        "`python -m experiments.datasets.fashion_clutter subset`"
    )
    try:
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        version, files = manifest["recipe_version"], dict(manifest["files"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error!r}), expected the data set's manifest; {cure}"
        ) from error
    if version != RECIPE_VERSION:
        raise ValueError(
            f"{path}: recipe_version: got {version}, expected {RECIPE_VERSION}; {cure}"
        )
    for name in ("items.xz", "labels.npy"):
        if name not in files:
            raise ValueError(
                f"{path}: files: got {sorted(files)}, expected {name} among them; {cure}"
            )
    for name, expected in files.items():
        try:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(
                f"{folder / name}: cannot be read ({error}), expected an embedded file; {cure}"
            ) from error
        if digest != expected:
            raise ValueError(
                f"{folder / name}: got sha256 {digest}, expected {expected} as in the manifest; "
                f"{cure}"
            )
    return manifest


def _fingerprint(manifest: dict[str, Any]) -> str:
    terms = [NAME, f"recipe {RECIPE_VERSION}", f"seed {DATASET_SEED}"]
    terms += [f"{name} {digest}" for name, digest in sorted(manifest["files"].items())]
    return hashlib.sha256("\n".join(terms).encode()).hexdigest()


def _cached_images(
    folder: pathlib.Path, fingerprint: str, cache_dir: pathlib.Path
) -> dict[str, np.ndarray]:
    """Images of every split, from the cache if it holds them, else rendered and written to it."""
    path = cache_dir / f"{NAME}-{fingerprint[:16]}.npz"
    images = _read_cache(path, fingerprint)
    if images is None:
        images = _render_all(read_items(folder))
        _write_cache(path, fingerprint, images)
    return images


def _render_all(items: np.ndarray) -> dict[str, np.ndarray]:
    images = {}
    for split, count in ITEMS.items():
        shown = np.repeat(np.arange(count), SCENES_PER_ITEM[split])
        images[split] = clutter_scenes.render(
            items[item_slice(split)], shown, scene_seeds(split, len(shown))
        )
    return images


def _read_cache(path: pathlib.Path, fingerprint: str) -> dict[str, np.ndarray] | None:
    """Images of the cache file; None if it is absent, damaged (zip checksums) or of other data."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            arrays = {}
            for name in (*ITEMS, "fingerprint"):
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
                    # Read to the end, where the checksum is compared.
                    member.read()
    except FileNotFoundError:
        return None
    # The file may hold any bytes, which fail in any way.
    except Exception as error:
        _logger.warning("%s: unreadable cache (%r); building it again", path, error)
        return None
    stored = arrays.pop("fingerprint")
    for split, images in arrays.items():
        shape = (
            ITEMS[split] * SCENES_PER_ITEM[split],
            clutter_scenes.SCENE_SIDE,
            clutter_scenes.SCENE_SIDE,
            clutter_scenes.CHANNELS,
        )
        if images.dtype != np.uint8 or images.shape != shape or str(stored) != fingerprint:
            _logger.warning(
                "%s: cache of other data (fingerprint %s); building it again", path, stored
            )
            return None
    return arrays


def _write_cache(path: pathlib.Path, fingerprint: str, images: dict[str, np.ndarray]) -> None:
    """Write the cache in one step, so that another process never reads an incomplete file."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                np.savez(
                    file,
                    fingerprint=np.array(fingerprint),
                    train=images["train"],
                    validation=images["validation"],
                    test=images["test"],
                )
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        cure = "the next start renders again; set MNV4_NAS_CACHE to a writable folder"
        _logger.warning("%s: cannot write the cache (%s); %s", path, error, cure)
