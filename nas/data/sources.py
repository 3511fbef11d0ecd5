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
    splits = {}
    for name in ("train", "validation", "test"):
        soft = arrays.get(f"{name}_soft_labels")
        labels = arrays[f"{name}_labels"].astype(np.int32)
        splits[name] = Split(arrays[f"{name}_images"], labels, None if soft is None else soft.astype(np.float32))
    classes = int(max(split.labels.max() for split in splits.values())) + 1
    names = tuple(map(str, arrays.get("class_names", np.arange(classes))))
    sample = splits["train"].images[:2000].astype(np.float64) / 255
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Dataset(file.stem, names, **splits, mean=float(sample.mean()), std=float(sample.std()), fingerprint=digest)


SOURCES: dict[str, Callable[[str], Dataset]] = {"builtin": load_builtin, "npz": load_npz}
