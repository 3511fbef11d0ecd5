"""Photographs in folders: `imagefolder:DIR`.

DIR/CLASS/*.jpg, or DIR/SPLIT/CLASS/*.jpg with the splits train, validation (or val) and test. The
kinds of files are those of `folder_names.SUFFIXES`. A folder that holds images and no folders is
one split without labels: a teacher can label it. Names that only resemble splits (Train, testing)
are understood and noted, or refused; everything that is left out is counted. Options stand behind
the path, see `nas.data.sources.options`.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from nas.data.collection import FileImages, RawDataset
from nas.data.sources import folder_names, folder_tree, options
from nas.data.sources.folder_tree import File, Folder, Tally
from nas.host.terminal import listed, one_line

_AS_CLASSES = "or give {source}?splits=off to take every folder for a class"


def open_folder(rest: str) -> RawDataset:
    """Open the images of a folder.

    Args:
      rest: Path of the folder, with options.

    Returns:
      The raw data set. Its fingerprint covers relative paths and file sizes, not contents.

    Raises:
      ValueError: There is no such folder, a class has no images, the classes of two splits differ,
        or it cannot be told what the folders mean.
    """
    path, settings = options.parse(rest)
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"source imagefolder:{rest}: no such folder")
    tally, notes = Tally(), []
    tree = folder_tree.read(str(root), tally)
    _leave_out_outputs(tree, tally)
    layout = _Layout(root, tally, notes.append)
    folders = layout.splits(tree) if settings.splits else {"train": tree}
    if folders == {"train": tree}:
        layout.check_classes(tree, may_be_splits=settings.splits)
    names = layout.class_names(folders["train"])
    digest = hashlib.sha256()
    images = {}
    for split, folder in folders.items():
        files, labels = layout.files(folder, folders["train"])
        for file in files:
            digest.update(os.fsencode(f"{file.path}\0{file.size}\n"))
        images[split] = _images(root, files, labels, settings.upright)
    if not settings.upright:
        digest.update(b"exif=off\n")
    return RawDataset(
        root.name,
        names,
        images,
        digest.hexdigest(),
        notes=tuple(notes),
        left_out=tally.left_out(),
        most_unreadable=settings.unreadable,
    )


def check_outside(source: str, folder: str | os.PathLike[str], parameter: str) -> None:
    """Refuse to write into the folder that is read: the next reading would find it there.

    Args:
      source: "scheme:rest"; only imagefolder is looked at.
      folder: Folder or file to be written, by path.
      parameter: Name of the parameter with it, for the message.

    Raises:
      ValueError: It lies inside the source.
    """
    scheme, _, rest = source.partition(":")
    if scheme != "imagefolder" or "://" in rest:
        return
    root = os.path.realpath(pathlib.Path(options.cut(rest)[0]).expanduser())
    target = os.path.realpath(pathlib.Path(folder).expanduser())
    if target == root or target.startswith(os.path.join(root, "")):
        raise ValueError(
            f"`{parameter}` {folder}: lies inside the source {source}, where it would be read as "
            "images of a class; choose a folder outside"
        )


def _leave_out_outputs(tree: Folder, tally: Tally) -> None:
    """Drop folders that hold nothing but runs and data sets of these programs, e.g. `runs`."""
    for name, folder in list(tree.folders.items()):
        if folder.holds_output and folder.is_empty:
            tally.add("folders written by these programs", folder.path)
            del tree.folders[name]


class _Layout:
    """Meaning of the folders of a source.

    Args:
      root: Path of the source.
      tally: Receives what is left out.
      note: Receives what was understood and should be read by a person.
    """

    def __init__(self, root: pathlib.Path, tally: Tally, note: Callable[[str], None]):
        self._root, self._tally, self._note = root, tally, note
        self._as_classes = _AS_CLASSES.format(source=f"imagefolder:{root}")

    def splits(self, tree: Folder) -> dict[str, Folder]:
        """The folder of each split; the tree itself as train where there are only classes."""
        meant = {name: split for name in tree.folders if (split := folder_names.split_of(name))}
        if not meant:
            return {"train": tree}
        for name in tree.folders.keys() - meant.keys():
            if tree.folders[name].is_empty:
                self._tally.add("folders without images beside the splits", name)
            else:
                others = listed(sorted(tree.folders.keys() - meant.keys()))
                raise ValueError(
                    f"{self._root}: has folders for splits ({listed(meant)}) and others "
                    f"({others}); expected splits only, or classes only: move or rename some, "
                    f"{self._as_classes}"
                )
        for split in meant.values():
            same = [name for name in meant if meant[name] == split]
            if len(same) > 1:
                raise ValueError(
                    f"{self._root}: has both {' and '.join(map(one_line, same))}, which mean the "
                    f"same split ({split}); keep one, or put their images together"
                )
        if "train" not in meant.values():
            raise ValueError(
                f"{self._root}: has {listed(meant)}, but no folder train; rename one, "
                f"{self._as_classes}"
            )
        if loose := {name: split for name, split in meant.items() if name not in _EXACT}:
            read = ", ".join(f"{one_line(name)} as {split}" for name, split in loose.items())
            self._note(f"{self._root}: folders are read as splits: {read}")
        self._leave_out_beside(tree, "images beside the folders of splits")
        return {split: tree.folders[name] for name, split in meant.items()}

    def check_classes(self, tree: Folder, *, may_be_splits: bool) -> None:
        """Refuse classes that look like splits or a wrapper; note what else is doubtful."""
        if len(tree.folders) == 1:
            (inner,) = tree.folders.values()
            raise ValueError(
                f"{self._root}: has one folder, {one_line(inner.path)}, expected one for each of "
                f"at least 2 classes; if they lie deeper, give imagefolder:{self._root}/"
                f"{one_line(_first_with_several(inner).path)}"
            )
        nested = {
            name: set(folder.folders) for name, folder in tree.folders.items() if folder.folders
        }
        if not nested or not may_be_splits:
            return
        inside = set().union(*nested.values())
        if all(map(folder_names.split_of, inside)):
            raise ValueError(
                f"{self._root}: has splits inside of classes (e.g. {one_line(min(nested))}/"
                f"{one_line(min(inside))}); put the splits outside: "
                f"{one_line(min(inside))}/{one_line(min(nested))}, {self._as_classes}"
            )
        alike = len(nested) == len(tree.folders) and len(set(map(frozenset, nested.values()))) == 1
        if alike and any(map(folder_names.resembles_split, nested)):
            raise ValueError(
                f"{self._root}: {listed(nested)} hold the same folders ({listed(sorted(inside))}), "
                "as splits do; call them train, validation and test, or put their images together, "
                f"{self._as_classes}"
            )
        name = min(nested)
        example = one_line(tree.folders[name].folders[min(nested[name])].path)
        self._note(
            f"{self._root}: classes are the folders at the top ({listed(tree.folders)}); images "
            f"deeper inside count for them, e.g. {example} for {one_line(name)}"
        )

    def class_names(self, train: Folder) -> tuple[str, ...]:
        """Names of the classes, sorted; alike ones are refused or noted."""
        names = tuple(train.folders)
        for name in names:
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise ValueError(
                    f"{self._root}: the folder {one_line(name)} has a name that is no UTF-8; "
                    "rename it"
                )
        pairs = _alike(names, folder_names.same)
        if pairs:
            raise ValueError(
                f"{self._root}: the folders {pairs[0][0]!a} and {pairs[0][1]!a} have the same name "
                "in two Unicode forms; put their images together"
            )
        for first, second in _alike(names, lambda name: "".join(name.casefold().split())):
            self._note(
                f"{self._root}: the classes {one_line(first)!r} and {one_line(second)!r} differ "
                "in case or spaces only; they stay two classes"
            )
        return names

    def files(self, folder: Folder, train: Folder) -> tuple[list[File], np.ndarray]:
        """Image files of a split with their labels, class by class, sorted by path."""
        own = {folder_names.same(name): inner for name, inner in folder.folders.items()}
        wanted = {folder_names.same(name): name for name in train.folders}
        if own.keys() != wanted.keys():
            different = listed(sorted(own.keys() ^ wanted.keys()))
            raise ValueError(
                f"{self._root / folder.path}: its classes differ from those of "
                f"{self._root / train.path} in {different}; give every split the same class folders"
            )
        if own:
            self._leave_out_beside(folder, "images beside the folders of classes")
        files: list[File] = []
        labels: list[int] = []
        for label, inner in enumerate(map(own.__getitem__, wanted)) if own else [(-1, folder)]:
            # As paths are compared, folder by folder.
            images = sorted(inner.files(), key=lambda file: file.path.split("/"))
            if not images:
                raise ValueError(
                    f"{one_line(str(self._root / inner.path))}: holds no image "
                    f"({', '.join(sorted(folder_names.SUFFIXES))}); add some or remove the folder"
                )
            files += images
            labels += [label] * len(images)
        return files, np.array(labels, np.int32)

    def _leave_out_beside(self, folder: Folder, reason: str) -> None:
        for file in folder.images:
            self._tally.add(reason, file.path)
        folder.images.clear()


_EXACT = folder_names.SPLIT_NAMES


def _alike(names: Iterable[str], key: Callable[[str], str]) -> list[tuple[str, str]]:
    """Pairs of names with the same key."""
    first: dict[str, str] = {}
    return [(other, name) for name in names if (other := first.setdefault(key(name), name)) != name]


def _first_with_several(folder: Folder) -> Folder:
    """The outermost folder inside a wrapper that has images or several folders."""
    while len(folder.folders) == 1 and not folder.images:
        (folder,) = folder.folders.values()
    return folder


def _images(root: pathlib.Path, files: list[File], labels: np.ndarray, upright: bool) -> FileImages:
    stamp = hashlib.sha256(os.fsencode(f"{root.absolute()}\n"))
    for file in files:
        stamp.update(os.fsencode(f"{file.path}\0{file.size}\0{file.changed}\n"))
    paths = [os.path.join(root, file.path) for file in files]
    return FileImages(paths, labels, upright, stamp.hexdigest())
