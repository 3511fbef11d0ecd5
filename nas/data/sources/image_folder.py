"""Photographs in folders: `imagefolder:DIR`.

DIR/CLASS/*.jpg, or DIR/SPLIT/CLASS/*.jpg with the splits train, validation (or val) and test. PNG,
JPEG, WebP and BMP. A folder that holds images and no folders is one split without labels: a teacher
can label it.
"""

from __future__ import annotations

import hashlib
import os
import pathlib

import numpy as np

from nas.data.collection import FileImages, RawDataset

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def open_folder(rest: str) -> RawDataset:
    """Open the images of a folder.

    Args:
      rest: Path of the folder.

    Returns:
      The raw data set. Its fingerprint covers relative paths and file sizes, not contents.

    Raises:
      ValueError: There is no such folder, a class has no images, or the classes of two splits
        differ.
    """
    root = pathlib.Path(rest).expanduser()
    if not root.is_dir():
        raise ValueError(f"source imagefolder:{rest}: no such folder")
    folders = _folders(root)
    split_folders = {_SPLITS[f.name]: f for f in folders if f.name in _SPLITS}
    if split_folders and len(split_folders) < len(folders):
        others = ", ".join(f.name for f in folders if f.name not in _SPLITS)
        raise ValueError(
            f"{root}: has folders for splits and others ({others}); expected splits only, or "
            "classes only"
        )
    split_folders = split_folders or {"train": root}
    if "train" not in split_folders:
        raise ValueError(f"{root}: has {', '.join(split_folders)}, but no folder train")
    names = tuple(f.name for f in _folders(split_folders["train"]))
    digest = hashlib.sha256()
    images = {}
    for split, folder in split_folders.items():
        classes = tuple(f.name for f in _folders(folder))
        if classes != names:
            different = ", ".join(sorted(set(classes) ^ set(names)))
            raise ValueError(
                f"{folder}: its classes differ from those of {split_folders['train']} in "
                f"{different}; give every split the same class folders"
            )
        paths, labels = _files(folder, names)
        for path in paths:
            digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n".encode())
        images[split] = FileImages(paths, labels)
    return RawDataset(root.name, names, images, digest.hexdigest())


def _files(folder: pathlib.Path, names: tuple[str, ...]) -> tuple[list[pathlib.Path], np.ndarray]:
    """Image files of a split with their labels, class by class, sorted by path."""
    paths: list[pathlib.Path] = []
    labels: list[int] = []
    class_folders = [(label, folder / name) for label, name in enumerate(names)] or [(-1, folder)]
    for label, class_folder in class_folders:
        images = sorted(
            pathlib.Path(parent, file)
            for parent, _, files in os.walk(class_folder)
            for file in files
            if pathlib.Path(file).suffix.lower() in SUFFIXES
        )
        if not images:
            raise ValueError(
                f"{class_folder}: holds no image ({', '.join(sorted(SUFFIXES))}); add some or "
                "remove the folder"
            )
        paths += images
        labels += [label] * len(images)
    return paths, np.array(labels, np.int32)


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
