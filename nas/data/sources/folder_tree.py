"""A folder read once, with all that was left out and why."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import NamedTuple

from nas.data.collection import LeftOut
from nas.data.sources import folder_names

_DEPTH = 32  # folders inside each other; deeper ones are a mistake, and would exhaust the stack
_EXAMPLES = 3


class File(NamedTuple):
    """An image file.

    Attributes:
      path: Path below the root, with slashes.
      size: Bytes.
      changed: Time of its last change in nanoseconds.
    """

    path: str
    size: int
    changed: int


@dataclasses.dataclass
class Folder:
    """A folder with its images and folders.

    Attributes:
      path: Path below the root, with slashes; "" for the root.
      images: Images that lie in it directly.
      folders: Folders in it by name, sorted; those that are left out are not among them.
      holds_output: Whether there is a folder of these programs' own in it, which is left out.
    """

    path: str
    images: list[File] = dataclasses.field(default_factory=list)
    folders: dict[str, Folder] = dataclasses.field(default_factory=dict)
    holds_output: bool = False

    def files(self) -> Iterator[File]:
        """All images in it, at any depth."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.files()

    @property
    def is_empty(self) -> bool:
        """Whether it has no image at any depth."""
        return next(self.files(), None) is None


class Tally:
    """Counts of what is left out, with a few examples of each reason."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, reason: str, path: str, count: int = 1) -> None:
        """Count something.

        Args:
          reason: Noun in the plural, e.g. ".txt files".
          path: Path below the root.
          count: Number of files there.
        """
        self._counts[reason] = self._counts.get(reason, 0) + count
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(path)

    def left_out(self) -> tuple[LeftOut, ...]:
        """Everything by reason, the most frequent first."""
        order = sorted(self._counts, key=lambda reason: (-self._counts[reason], reason))
        return tuple(
            LeftOut(reason, self._counts[reason], tuple(self._examples[reason])) for reason in order
        )


def read(root: str, tally: Tally) -> Folder:
    """Read a folder at all depths.

    Linked folders are followed, but for those that lead back, or to what is read anyway.

    Args:
      root: Path of the folder.
      tally: Receives what is left out.

    Returns:
      The folder.

    Raises:
      ValueError: It cannot be opened.
    """
    try:
        status = os.stat(root)
        names = os.listdir(root)
    except OSError as error:
        raise ValueError(f"{root}: cannot be opened ({error.strerror})") from None
    if folder_names.is_output(names):
        raise ValueError(
            f"{root}: was written by these programs and is no folder of photographs; give "
            f"distilled:{root} if it is a distilled data set"
        )
    reader = _Reader(root, tally)
    found = reader.folder("", frozenset({(status.st_dev, status.st_ino)}))
    assert found is not None
    return found


class _Reader:
    def __init__(self, root: str, tally: Tally):
        self._root = root
        self._real = os.path.realpath(root)
        self._tally = tally

    def folder(self, path: str, above: frozenset[tuple[int, int]]) -> Folder | None:
        """A folder; None for one of these programs' own.

        `above` are device and inode of those around it.
        """
        try:
            with os.scandir(os.path.join(self._root, path)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._tally.add(f"folders that cannot be opened ({error.strerror})", path)
            return Folder(path)
        if path and folder_names.is_output([entry.name for entry in found]):
            self._leave_out("folders written by these programs", path)
            return None
        folder = Folder(path)
        for entry in found:
            inner = f"{path}/{entry.name}" if path else entry.name
            try:
                if entry.is_dir():
                    self._add_folder(folder, entry, inner, above)
                else:
                    self._add_file(folder, entry, inner)
            except OSError as error:
                self._tally.add(f"files that cannot be opened ({error.strerror})", inner)
        return folder

    def _add_folder(
        self, folder: Folder, entry: os.DirEntry[str], path: str, above: frozenset[tuple[int, int]]
    ) -> None:
        if reason := folder_names.left_out_folder(entry.name):
            self._leave_out(reason, path)
            return
        status = entry.stat()
        identity = status.st_dev, status.st_ino
        if identity in above:
            self._tally.add("linked folders that lead back", path)
        elif entry.is_symlink() and self._is_read_anyway(entry):
            self._tally.add("linked folders whose target is read where it lies", path)
        elif len(above) > _DEPTH:
            self._leave_out(f"folders more than {_DEPTH} deep", path)
        else:
            inner = self.folder(path, above | {identity})
            if inner is None:
                folder.holds_output = True
            else:
                folder.folders[entry.name] = inner
                folder.holds_output |= inner.holds_output

    def _is_read_anyway(self, entry: os.DirEntry[str]) -> bool:
        """Whether a link leads to a folder of the same root that is not left out."""
        below = os.path.relpath(os.path.realpath(entry.path), self._real)
        parts = below.split(os.sep)
        return parts[0] != os.pardir and not any(map(folder_names.left_out_folder, parts))

    def _add_file(self, folder: Folder, entry: os.DirEntry[str], path: str) -> None:
        if reason := folder_names.left_out_file(entry.name):
            self._tally.add(reason, path)
        elif entry.is_file():
            status = entry.stat()
            folder.images.append(File(path, status.st_size, status.st_mtime_ns))
        elif entry.is_symlink():
            self._tally.add("links to nothing", path)
        else:
            self._tally.add("devices, pipes and sockets", path)

    def _leave_out(self, reason: str, path: str) -> None:
        """Count the files of a folder; an empty one counts as one thing."""
        count = sum(len(names) for _, _, names in os.walk(os.path.join(self._root, path)))
        self._tally.add(reason, path, max(count, 1))
