"""Photographs in folders: `imagefolder:DIR`.

DIR/CLASS/*.jpg, or DIR/PART/CLASS/*.jpg with parts train, validation (or val) and test. PNG, JPEG, WebP and BMP. A
folder that holds images and no folders is one part without labels: a teacher can label it.
"""

from __future__ import annotations

import hashlib
import os
import pathlib

import numpy as np

from nas.data.collection import Collection, FileImages

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def open_folder(rest: str) -> Collection:
    """The images of a folder; the fingerprint covers relative paths and file sizes, not contents.

    Raises:
      ValueError: no such folder, a class without images, parts whose classes differ.
    """
    root = pathlib.Path(rest).expanduser()
    if not root.is_dir():
        raise ValueError(f"source imagefolder:{rest}: no such folder")
    folders = _folders(root)
    parts = {_PARTS[f.name]: f for f in folders if f.name in _PARTS}
    if parts and len(parts) < len(folders):
        odd = ", ".join(f.name for f in folders if f.name not in _PARTS)
        raise ValueError(f"{root}: has folders for parts and others ({odd}); expected parts only, or classes only")
    parts = parts or {"train": root}
    if "train" not in parts:
        raise ValueError(f"{root}: has {', '.join(parts)}, but no folder train")
    names = tuple(f.name for f in _folders(parts["train"]))
    digest, images = hashlib.sha256(), {}
    for part, folder in parts.items():
        own = tuple(f.name for f in _folders(folder))
        if own != names:
            different = ", ".join(sorted(set(own) ^ set(names)))
            raise ValueError(f"{folder}: its classes differ from those of {parts['train']} in {different}")
        paths, labels = _files(folder, names)
        for path in paths:
            digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n".encode())
        images[part] = FileImages(paths, labels)
    return Collection(root.name, names, images, digest.hexdigest())


def _files(folder: pathlib.Path, names: tuple[str, ...]) -> tuple[list[pathlib.Path], np.ndarray]:
    paths: list[pathlib.Path] = []
    labels: list[int] = []
    for label, place in [(i, folder / name) for i, name in enumerate(names)] or [(-1, folder)]:
        found = sorted(
            pathlib.Path(at, file)
            for at, _, files in os.walk(place)
            for file in files
            if pathlib.Path(file).suffix.lower() in SUFFIXES
        )
        if not found:
            raise ValueError(f"{place}: holds no image ({', '.join(sorted(SUFFIXES))}); add some or remove the folder")
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, np.int32)


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
