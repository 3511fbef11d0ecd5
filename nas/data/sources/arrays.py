"""One .npz file: `npz:FILE`, of arrays or of image files end to end."""

from __future__ import annotations

import hashlib
import pathlib

import numpy as np

from nas.data.collection import PARTS, ArrayImages, Collection, EncodedImages, Images
from nas.data.dataset import Dataset, Split

_PREFIXES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def load_npz(path: str) -> Dataset[Split]:
    """A data set from one .npz file.

    It holds, for each of train, validation and test, `SPLIT_images` uint8 [n, h, w, c], `SPLIT_labels` int [n] and
    perhaps `SPLIT_soft_labels` float [n, classes], and perhaps `class_names`. Mean and deviation are measured on the
    training images; the fingerprint is the file's sha256.
    """
    file, arrays = _read(path)
    missing = [f"{s}_{part}" for s in PARTS for part in ("images", "labels")]
    missing = [name for name in missing if name not in arrays]
    if missing:
        raise ValueError(f"data source npz:{path}: lacks {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}")
    try:
        splits = {name: _split(arrays, name) for name in PARTS}
        columns = [split.soft_labels.shape[1] for split in splits.values() if split.soft_labels is not None]
        classes = max([int(split.labels.max()) + 1 for split in splits.values()] + columns)
        names = tuple(map(str, arrays.get("class_names", np.arange(classes))))
        sample = splits["train"].images[:2000].astype(np.float64) / 255
        mean, std = float(sample.mean()), float(sample.std())
        return Dataset(file.stem, names, **splits, mean=mean, std=std, fingerprint=_digest(file))
    except ValueError as error:
        raise ValueError(f"data source npz:{path}: {error}") from None


def open_npz(path: str) -> Collection:
    """The images of a file as for `load_npz`, of some parts; or, for each part P, image files end to end.

    The latter are `P_blob` (uint8), `P_off` (offsets, n + 1) and `P_y` (labels), with `names` of the classes; "val" may
    stand for validation. The fingerprint is the file's sha256.
    """
    file, arrays = _read(path)
    parts: dict[str, Images] = {}
    for part in PARTS:
        for prefix in _PREFIXES[part]:
            if f"{prefix}_images" in arrays:
                split = _split(arrays, prefix)
                parts[part] = ArrayImages(split.images, split.labels, f"{file}:{prefix}_images")
            elif f"{prefix}_blob" in arrays:
                parts[part] = _encoded(arrays, prefix, file)
    if not parts:
        raise ValueError(f"source npz:{path}: has neither train_images nor train_blob; it has {', '.join(arrays)}")
    classes = max(int(images.labels.max()) + 1 for images in parts.values())
    names = tuple(map(str, arrays.get("class_names", arrays.get("names", np.arange(classes)))))
    if len(names) < classes:
        raise ValueError(f"source npz:{path}: has labels up to {classes - 1}, but names of {len(names)} classes")
    return Collection(file.stem, names, parts, _digest(file))


def holds_files(path: str) -> bool:
    """Whether an .npz file holds image files end to end, for `open_npz`, rather than arrays, for `load_npz`."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return "train_blob" in file.files
    except Exception:  # whoever reads it says what is wrong
        return False


def _encoded(arrays: dict[str, np.ndarray], prefix: str, file: pathlib.Path) -> EncodedImages:
    missing = [name for name in (f"{prefix}_off", f"{prefix}_y") if name not in arrays]
    if missing:
        raise ValueError(f"source npz:{file}: has {prefix}_blob, but lacks {', '.join(missing)}")
    blob, offsets, labels = (arrays[f"{prefix}_{part}"] for part in ("blob", "off", "y"))
    offsets = offsets.astype(np.int64)
    if len(offsets) != len(labels) + 1 or (np.diff(offsets) < 0).any() or offsets[0] < 0 or offsets[-1] > len(blob):
        raise ValueError(
            f"source npz:{file}: {prefix}_off: expected {len(labels) + 1} rising offsets into {len(blob)} bytes"
        )
    return EncodedImages(blob, offsets, labels.astype(np.int32), f"{file}:{prefix}_blob")


def _read(path: str) -> tuple[pathlib.Path, dict[str, np.ndarray]]:
    file = pathlib.Path(path)
    if not file.is_file():
        raise ValueError(f"data source npz:{path}: no such file")
    try:
        with file.open("rb") as opened:  # numpy would leave a damaged file open
            return file, dict(np.load(opened, allow_pickle=False))
    except Exception as error:  # numpy raises many kinds here: zip, pickle, value, OS errors
        raise ValueError(f"data source npz:{path}: cannot be read: {error}") from None


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _split(arrays: dict[str, np.ndarray], name: str) -> Split:
    labels, soft = arrays[f"{name}_labels"], arrays.get(f"{name}_soft_labels")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name}_labels: got {labels.dtype}, expected whole numbers; cast them to int32")
    return Split(arrays[f"{name}_images"], labels.astype(np.int32), None if soft is None else soft.astype(np.float32))
