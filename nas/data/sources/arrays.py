"""One .npz file: `npz:FILE`, with arrays or with image files end to end."""

from __future__ import annotations

import hashlib
import pathlib

import numpy as np

from nas.data.collection import SPLITS, ArrayImages, EncodedImages, Images, RawDataset
from nas.data.dataset import Dataset, Split
from nas.data.sources import array_checks, options
from nas.data.survey import sample
from nas.host.terminal import listed

_FIELDS = ("images", "labels")
_SAMPLE = 2000
"""Images on which mean and standard deviation are measured, drawn at random."""
_PREFIXES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def load_npz(path: str) -> Dataset[Split]:
    """Load a data set from one .npz file.

    For each of train, validation (or val) and test, the file holds `SPLIT_images` uint8
    [n, h, w, c], `SPLIT_labels` int [n] and optionally `SPLIT_soft_labels` float [n, classes]. It
    may also hold `class_names`. Other types and axes are converted where their meaning is certain,
    see `nas.data.sources.array_checks`. Mean and standard deviation are measured on a random sample
    of 2,000 training images; the fingerprint is the file's sha256.

    Args:
      path: Path of the file.

    Returns:
      The data set.

    Raises:
      ValueError: The file cannot be read, lacks an array, or an array does not fit.
    """
    file, arrays = _read(path)
    notes: list[str] = []
    try:
        prefixes = {split: _prefix(split, arrays, "images") or split for split in SPLITS}
        needed = [f"{prefix}_{field}" for prefix in prefixes.values() for field in _FIELDS]
        if missing := [name for name in needed if name not in arrays]:
            raise ValueError(
                f"lacks {', '.join(missing)}; it has {listed(arrays, 20) or 'nothing'}"
            )
        splits = {split: _split(arrays, prefixes[split], notes.append) for split in SPLITS}
        columns = [
            split.soft_labels.shape[1] for split in splits.values() if split.soft_labels is not None
        ]
        every = {f"{prefixes[name]}_labels": split.labels for name, split in splits.items()}
        names = array_checks.class_names(arrays, every, max(columns, default=0), notes.append)
        train = splits["train"].images
        pixels = train[sample(len(train), _SAMPLE, 0)].astype(np.float64) / 255
        if not pixels.std() > 0:
            raise ValueError(
                f"train_images: all pixels have the value {int(train.flat[0])}; look at the images"
            )
        return Dataset(
            file.stem,
            names,
            **splits,
            mean=float(pixels.mean()),
            std=float(pixels.std()),
            fingerprint=_digest(file),
            notes=tuple(f"{file.name}: {note}" for note in notes),
        )
    except ValueError as error:
        raise ValueError(f"data source npz:{path}: {error}") from None


def open_npz(rest: str) -> RawDataset:
    """Open the images of one .npz file: arrays as for `load_npz`, or image files end to end.

    Image files of a split S are `S_blob` (uint8), `S_off` (offsets, n + 1) and `S_y` (labels), with
    `names` of the classes; "val" may stand for validation. The fingerprint is the file's sha256.

    Args:
      rest: Path of the file, with options.

    Returns:
      The raw data set, with the splits that the file has.

    Raises:
      ValueError: The file cannot be read, holds no training images, or its arrays do not fit.
    """
    path, settings = options.parse(rest)
    file, arrays = _read(path)
    notes: list[str] = []
    try:
        splits, every = _images(file, arrays, settings.upright, notes.append)
        names = array_checks.class_names(arrays, every, 0, notes.append)
        return RawDataset(
            file.stem,
            names,
            splits,
            _digest(file, settings.upright),
            notes=tuple(f"{file.name}: {note}" for note in notes),
            most_unreadable=settings.unreadable,
        )
    except ValueError as error:
        raise ValueError(f"source npz:{path}: {error}") from None


def _images(
    file: pathlib.Path, arrays: dict[str, np.ndarray], upright: bool, note: array_checks.Note
) -> tuple[dict[str, Images], dict[str, np.ndarray]]:
    """Images by split, and the labels of each by the name of their array."""
    splits: dict[str, Images] = {}
    every = {}
    for split in SPLITS:
        if prefix := _prefix(split, arrays, "images"):
            name = f"{prefix}_images"
            read = _split(arrays, prefix, note)
            if read.shape[-1] not in (1, 3):
                raise ValueError(
                    f"{name}: got {read.shape[-1]} channels, expected 1 or 3; drop an alpha "
                    "channel with images[..., :3]"
                )
            splits[split] = ArrayImages(read.images, read.labels, f"{file}:{name}")
            every[f"{prefix}_labels"] = read.labels
        elif prefix := _prefix(split, arrays, "blob"):
            encoded = _encoded(arrays, prefix, file, upright, note)
            splits[split] = encoded
            every[f"{prefix}_y"] = encoded.labels
    if not splits:
        raise ValueError(
            f"has neither train_images nor train_blob; it has {listed(arrays, 20) or 'nothing'}"
        )
    return splits, every


def _prefix(split: str, arrays: dict[str, np.ndarray], field: str) -> str | None:
    """Name of a split in a file; None where it has no such array."""
    found = [prefix for prefix in _PREFIXES[split] if f"{prefix}_{field}" in arrays]
    if len(found) > 1:
        raise ValueError(
            f"has both {' and '.join(f'{prefix}_{field}' for prefix in found)}; keep one"
        )
    return found[0] if found else None


def holds_files(rest: str) -> bool:
    """Whether an .npz file holds image files end to end, for `open_npz`, rather than arrays.

    Args:
      rest: Path of the file, with options.
    """
    try:
        with open(options.cut(rest)[0], "rb") as opened:
            return "train_blob" in np.load(opened, allow_pickle=False).files
    # The function that reads the file explains what is wrong with it.
    except Exception:
        return False


def _encoded(
    arrays: dict[str, np.ndarray],
    prefix: str,
    file: pathlib.Path,
    upright: bool,
    note: array_checks.Note,
) -> EncodedImages:
    missing = [name for name in (f"{prefix}_off", f"{prefix}_y") if name not in arrays]
    if missing:
        raise ValueError(f"has {prefix}_blob, but lacks {', '.join(missing)}; add the array")
    blob, offsets = arrays[f"{prefix}_blob"], arrays[f"{prefix}_off"]
    labels = array_checks.labels(f"{prefix}_y", arrays[f"{prefix}_y"], note)
    if blob.ndim != 1 or blob.dtype != np.uint8:
        raise ValueError(
            f"{prefix}_blob: got {blob.dtype} of shape {list(blob.shape)}, expected uint8 [bytes]"
        )
    if (
        offsets.shape != (len(labels) + 1,)
        or not np.issubdtype(offsets.dtype, np.integer)
        or (np.diff(offsets.astype(np.int64)) < 0).any()
        or offsets[0] < 0
        or offsets[-1] > len(blob)
    ):
        raise ValueError(
            f"{prefix}_off: expected {len(labels) + 1} rising offsets into {len(blob)} bytes"
        )
    if (labels < -1).any():
        raise ValueError(
            f"{prefix}_y: got {int(labels.min())}, expected class indices from 0, or -1 for an "
            "image without a label"
        )
    origin = f"{file}:{prefix}_blob"
    return EncodedImages(blob, offsets.astype(np.int64), labels, origin, upright)


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


def _digest(file: pathlib.Path, upright: bool = True) -> str:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256")
    if not upright:
        digest.update(b"exif=off")
    return digest.hexdigest()


def _split(arrays: dict[str, np.ndarray], prefix: str, note: array_checks.Note) -> Split:
    missing = [name for name in _FIELDS if f"{prefix}_{name}" not in arrays]
    if missing:
        raise ValueError(f"lacks {prefix}_{missing[0]}; it has {listed(arrays, 20)}")
    soft = arrays.get(f"{prefix}_soft_labels")
    return Split(
        array_checks.images(f"{prefix}_images", arrays[f"{prefix}_images"], note),
        array_checks.labels(f"{prefix}_labels", arrays[f"{prefix}_labels"], note),
        None if soft is None else soft.astype(np.float32),
    )
