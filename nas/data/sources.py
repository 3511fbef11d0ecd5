"""Data sources by name: `builtin:fashion-clutter`, `npz:FILE`.

To add a source: a function from the text behind the colon to a `Dataset`, and a row in `SOURCES`.
"""

from __future__ import annotations

import difflib
import hashlib
import pathlib
from collections.abc import Callable

import numpy as np

from nas.data import fashion_clutter
from nas.data.dataset import Dataset, Split

BUILTIN: dict[str, Callable[[], Dataset]] = {"fashion-clutter": fashion_clutter.load}


def load(source: str) -> Dataset:
    """Load a data set by its text, "scheme:rest".

    Raises:
      ValueError: unknown scheme or name (with the known ones), or a file that does not fit.
    """
    scheme, colon, rest = source.partition(":")
    if not colon or scheme not in SOURCES:
        raise ValueError(f"data source {source!r}: expected {' or '.join(f'{name}:...' for name in SOURCES)}")
    return SOURCES[scheme](rest)


def load_builtin(name: str) -> Dataset:
    """An embedded data set by name."""
    if name not in BUILTIN:
        near = difflib.get_close_matches(name, BUILTIN, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no builtin data set {name!r}; known: {', '.join(BUILTIN)}{hint}")
    return BUILTIN[name]()


def load_npz(path: str) -> Dataset:
    """A data set from one .npz file.

    It holds, for each of train, validation and test, `SPLIT_images` uint8 [n, h, w, c], `SPLIT_labels` int [n] and
    perhaps `SPLIT_soft_labels` float [n, classes], and perhaps `class_names`. Mean and deviation are measured on the
    training images; the fingerprint is the file's sha256.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise ValueError(f"data source npz:{path}: no such file")
    try:
        with file.open("rb") as opened:  # numpy would leave a damaged file open
            arrays = dict(np.load(opened, allow_pickle=False))
    except Exception as error:  # numpy raises many kinds here: zip, pickle, value, OS errors
        raise ValueError(f"data source npz:{path}: cannot be read: {error}") from None
    missing = [f"{s}_{part}" for s in ("train", "validation", "test") for part in ("images", "labels")]
    missing = [name for name in missing if name not in arrays]
    if missing:
        raise ValueError(f"data source npz:{path}: lacks {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}")
    try:
        splits = {name: _split(arrays, name) for name in ("train", "validation", "test")}
        columns = [split.soft_labels.shape[1] for split in splits.values() if split.soft_labels is not None]
        classes = max([int(split.labels.max()) + 1 for split in splits.values()] + columns)
        names = tuple(map(str, arrays.get("class_names", np.arange(classes))))
        sample = splits["train"].images[:2000].astype(np.float64) / 255
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        mean, std = float(sample.mean()), float(sample.std())
        return Dataset(file.stem, names, **splits, mean=mean, std=std, fingerprint=digest)
    except ValueError as error:
        raise ValueError(f"data source npz:{path}: {error}") from None


def _split(arrays: dict[str, np.ndarray], name: str) -> Split:
    labels, soft = arrays[f"{name}_labels"], arrays.get(f"{name}_soft_labels")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name}_labels: got {labels.dtype}, expected whole numbers; cast them to int32")
    return Split(arrays[f"{name}_images"], labels.astype(np.int32), None if soft is None else soft.astype(np.float32))


SOURCES: dict[str, Callable[[str], Dataset]] = {"builtin": load_builtin, "npz": load_npz}
