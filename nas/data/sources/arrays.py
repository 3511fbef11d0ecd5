"""One .npz file: `npz:FILE`, with arrays or with image files end to end."""

from __future__ import annotations

import hashlib
import pathlib

import numpy as np

from nas.data.collection import SPLITS, ArrayImages, EncodedImages, Images, RawDataset
from nas.data.dataset import Dataset, Split

_PREFIXES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def load_npz(path: str) -> Dataset[Split]:
    """Load a data set from one .npz file.

    For each of train, validation and test, the file holds `SPLIT_images` uint8 [n, h, w, c],
    `SPLIT_labels` int [n] and optionally `SPLIT_soft_labels` float [n, classes]. It may also hold
    `class_names`. Mean and standard deviation are measured on the first 2,000 training images; the
    fingerprint is the file's sha256.

    Args:
      path: Path of the file.

    Returns:
      The data set.

    Raises:
      ValueError: The file cannot be read, lacks an array, or an array does not fit.
    """
    file, arrays = _read(path)
    needed = [f"{split}_{field}" for split in SPLITS for field in ("images", "labels")]
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(
            f"data source npz:{path}: lacks {', '.join(missing)}; it has "
            f"{', '.join(arrays) or 'nothing'}"
        )
    try:
        splits = {name: _split(arrays, name) for name in SPLITS}
        columns = [
            split.soft_labels.shape[1] for split in splits.values() if split.soft_labels is not None
        ]
        classes = max([int(split.labels.max()) + 1 for split in splits.values()] + columns)
        names = tuple(map(str, arrays.get("class_names", np.arange(classes))))
        sample = splits["train"].images[:2000].astype(np.float64) / 255
        mean = float(sample.mean())
        std = float(sample.std())
        return Dataset(file.stem, names, **splits, mean=mean, std=std, fingerprint=_digest(file))
    except ValueError as error:
        raise ValueError(f"data source npz:{path}: {error}") from None


def open_npz(path: str) -> RawDataset:
    """Open the images of one .npz file: arrays as for `load_npz`, or image files end to end.

    Image files of a split S are `S_blob` (uint8), `S_off` (offsets, n + 1) and `S_y` (labels), with
    `names` of the classes; "val" may stand for validation. The fingerprint is the file's sha256.

    Args:
      path: Path of the file.

    Returns:
      The raw data set, with the splits that the file has.

    Raises:
      ValueError: The file cannot be read, holds no training images, or its arrays do not fit.
    """
    file, arrays = _read(path)
    splits: dict[str, Images] = {}
    for split in SPLITS:
        for prefix in _PREFIXES[split]:
            if f"{prefix}_images" in arrays:
                read = _split(arrays, prefix)
                splits[split] = ArrayImages(read.images, read.labels, f"{file}:{prefix}_images")
            elif f"{prefix}_blob" in arrays:
                splits[split] = _encoded(arrays, prefix, file)
    if not splits:
        raise ValueError(
            f"source npz:{path}: has neither train_images nor train_blob; it has "
            f"{', '.join(arrays)}"
        )
    classes = max(int(images.labels.max()) + 1 for images in splits.values())
    names = tuple(map(str, arrays.get("class_names", arrays.get("names", np.arange(classes)))))
    if len(names) < classes:
        raise ValueError(
            f"source npz:{path}: has labels up to {classes - 1}, but names of {len(names)} "
            "classes; add the missing names"
        )
    return RawDataset(file.stem, names, splits, _digest(file))


def holds_files(path: str) -> bool:
    """Whether an .npz file holds image files end to end, for `open_npz`, rather than arrays.

    Args:
      path: Path of the file.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return "train_blob" in file.files
    # The function that reads the file explains what is wrong with it.
    except Exception:
        return False


def _encoded(arrays: dict[str, np.ndarray], prefix: str, file: pathlib.Path) -> EncodedImages:
    missing = [name for name in (f"{prefix}_off", f"{prefix}_y") if name not in arrays]
    if missing:
        raise ValueError(
            f"source npz:{file}: has {prefix}_blob, but lacks {', '.join(missing)}; add the array"
        )
    blob = arrays[f"{prefix}_blob"]
    offsets = arrays[f"{prefix}_off"].astype(np.int64)
    labels = arrays[f"{prefix}_y"]
    if (
        len(offsets) != len(labels) + 1
        or (np.diff(offsets) < 0).any()
        or offsets[0] < 0
        or offsets[-1] > len(blob)
    ):
        raise ValueError(
            f"source npz:{file}: {prefix}_off: expected {len(labels) + 1} rising offsets into "
            f"{len(blob)} bytes"
        )
    return EncodedImages(blob, offsets, labels.astype(np.int32), f"{file}:{prefix}_blob")


def _read(path: str) -> tuple[pathlib.Path, dict[str, np.ndarray]]:
    file = pathlib.Path(path)
    if not file.is_file():
        raise ValueError(f"data source npz:{path}: no such file")
    try:
        # Opened here because numpy would leave a damaged file open.
        with file.open("rb") as opened:
            return file, dict(np.load(opened, allow_pickle=False))
    # numpy raises many kinds of errors here: zip, pickle, value and OS errors.
    except Exception as error:
        raise ValueError(f"data source npz:{path}: cannot be read: {error}") from None


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _split(arrays: dict[str, np.ndarray], prefix: str) -> Split:
    labels = arrays[f"{prefix}_labels"]
    soft = arrays.get(f"{prefix}_soft_labels")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{prefix}_labels: got {labels.dtype}, expected integers; cast them to int32"
        )
    return Split(
        arrays[f"{prefix}_images"],
        labels.astype(np.int32),
        None if soft is None else soft.astype(np.float32),
    )
