"""Original files of Fashion-MNIST, and the choice of the items that are embedded.

The files are those of the Debian package `dataset-fashion-mnist`. The first 800 training items of
each class become the training split, the next 200 the validation split, and the first 500 test
items of each class the test split, always in file order.

Letters: m items.
"""

from __future__ import annotations

import gzip
import pathlib
import struct

import numpy as np

from nas.data import fashion_clutter

SOURCE = pathlib.Path("/usr/share/datasets/fashion-mnist")
"""Folder in which the Debian package `dataset-fashion-mnist` installs the original files."""
SOURCE_FILES = {
    "train images": "train-images-idx3-ubyte.gz",
    "train labels": "train-labels-idx1-ubyte.gz",
    "test images": "t10k-images-idx3-ubyte.gz",
    "test labels": "t10k-labels-idx1-ubyte.gz",
}


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Read an array from a gzipped IDX file of unsigned bytes.

    Args:
      path: Path of the file.

    Returns:
      uint8, with the shape that the file states.

    Raises:
      ValueError: There is no such file, or it has another format.

    Source: the IDX format, http://yann.lecun.com/exdb/mnist/ (magic 0, 0, type 8, number of axes;
    big-endian sizes).
    """
    cure = (
        "install the Debian package dataset-fashion-mnist, or give the folder of a copy of its "
        "files as `source`"
    )
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}), expected a gzipped IDX file; {cure}"
        ) from error
    ndim = raw[3] if len(raw) > 3 else 0
    data = 4 + 4 * ndim
    if raw[:3] != b"\x00\x00\x08" or not ndim or len(raw) < data:
        raise ValueError(
            f"{path}: got first bytes {raw[:4]!r}, expected an IDX file of unsigned bytes; {cure}"
        )
    shape = struct.unpack(f">{ndim}I", raw[4:data])
    values = np.frombuffer(raw, np.uint8, offset=data)
    if values.size != np.prod(shape):
        raise ValueError(
            f"{path}: got {values.size} values, expected the {shape} that its header states; {cure}"
        )
    return values.reshape(shape)


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Number of earlier items with the same label: 0 for the first of each class.

    Args:
      labels: uint8 [m].

    Returns:
      int64 [m].
    """
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return ranks


def embedded_indices(train_labels: np.ndarray, test_labels: np.ndarray) -> dict[str, np.ndarray]:
    """Choose the original items that are embedded, by their rank within their class.

    Args:
      train_labels: uint8 [60000].
      test_labels: uint8 [10000].

    Returns:
      Indices in file order: for "train" and "validation" into the original training items, for
      "test" into the test items.

    Source: ours.
    """
    classes = len(fashion_clutter.CLASS_NAMES)
    train, validation, test = (
        fashion_clutter.ITEMS[split] // classes for split in ("train", "validation", "test")
    )
    ranks = rank_in_class(train_labels)
    return {
        "train": np.flatnonzero(ranks < train),
        "validation": np.flatnonzero((ranks >= train) & (ranks < train + validation)),
        "test": np.flatnonzero(rank_in_class(test_labels) < test),
    }
