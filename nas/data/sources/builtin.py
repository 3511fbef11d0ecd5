"""Embedded data sets: `builtin:fashion-clutter`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from nas.data import fashion_clutter
from nas.data.collection import ArrayImages, Collection, Images
from nas.data.dataset import Dataset, Split

BUILTIN: dict[str, Callable[[], Dataset[Split]]] = {"fashion-clutter": fashion_clutter.load}


def load_builtin(name: str) -> Dataset[Split]:
    """An embedded data set by name."""
    if name not in BUILTIN:
        near = difflib.get_close_matches(name, BUILTIN, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no builtin data set {name!r}; known: {', '.join(BUILTIN)}{hint}")
    return BUILTIN[name]()


def open_builtin(name: str) -> Collection:
    """Its images, without its teacher's labels."""
    data = load_builtin(name)
    parts: dict[str, Images] = {
        part: ArrayImages(split.images, split.labels, f"builtin:{name}:{part}") for part, split in data.splits().items()
    }
    return Collection(data.name, data.class_names, parts, data.fingerprint)
