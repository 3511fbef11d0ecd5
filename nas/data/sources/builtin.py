"""Embedded data sets: `builtin:fashion-clutter`."""

from __future__ import annotations

from collections.abc import Callable

from nas.data import fashion_clutter
from nas.data.collection import ArrayImages, Images, RawDataset
from nas.data.dataset import Dataset, Split
from search_spaces.naming import did_you_mean

BUILTIN: dict[str, Callable[[], Dataset[Split]]] = {"fashion-clutter": fashion_clutter.load}


def load_builtin(name: str) -> Dataset[Split]:
    """Load an embedded data set.

    Args:
      name: Key of `BUILTIN`.

    Returns:
      The data set, with the soft labels of its teacher.

    Raises:
      ValueError: The name is unknown; the message lists the known ones.
    """
    if name not in BUILTIN:
        raise ValueError(
            f"no builtin data set {name!r}; known: {', '.join(BUILTIN)}"
            f"{did_you_mean(name, BUILTIN)}"
        )
    return BUILTIN[name]()


def open_builtin(name: str) -> RawDataset:
    """Open the images of an embedded data set, without the soft labels of its teacher.

    Args:
      name: Key of `BUILTIN`.

    Returns:
      The raw data set, with all three splits.

    Raises:
      ValueError: The name is unknown; the message lists the known ones.
    """
    data = load_builtin(name)
    splits: dict[str, Images] = {
        split: ArrayImages(images.images, images.labels, f"builtin:{name}:{split}")
        for split, images in data.splits().items()
    }
    return RawDataset(data.name, data.class_names, splits, data.fingerprint)
