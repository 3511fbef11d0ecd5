"""Folders and files in object stores (s3://, gs://, ...): local copies, and copies back.

A run appends to files and renames folders; object stores support neither. It therefore works in a
folder of this machine. Its changes are copied to the store after each checkpoint and at the end.
Data sets are copied to this machine once. Only this module imports fsspec.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from nas.host import cache, lock
from search_spaces.files import PARTIAL

LAST = "sha256.json"
"""Name of the file that is written and copied last in a checkpoint's folder, `checkpoints/STEP`.

A checkpoint without it is incomplete.
"""
_EXTRA = 'pip install "mnv4-nas[store]" installs the packages for s3:// and gs://'
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "sha256", "mtime", "LastModified", "created")
"""Keys of a store's file description that distinguish versions, the most reliable first."""


def is_url(text: str) -> bool:
    """Whether a text is the URL of a store, not a path of this machine.

    Args:
      text: Path or URL.
    """
    return "://" in text


class Folder:
    """A folder on this machine, or the local copy of a folder in a store.

    Call `pull` before the copy is used, and `push` after it was changed. Both do nothing for a
    path.

    Args:
      text: Path or URL.

    Attributes:
      url: URL of the folder in the store, or None.
      path: Folder to work in. For a URL it is in the cache, with the same path on all machines of a
        run.
    """

    def __init__(self, text: str | os.PathLike[str]):
        self.url = str(text).rstrip("/") if is_url(str(text)) else None
        self.path = _own_folder("runs", self.url) if self.url else pathlib.Path(text).expanduser()
        # Version of each file when both copies were last the same.
        self._copied: dict[str, tuple[int, int]] = {}

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}" if self.url else self.path / name)

    def __str__(self) -> str:
        return self.url or str(self.path)

    def absolute(self) -> Folder:
        """The same folder with an absolute path."""
        return self if self.url else Folder(self.path.absolute())

    def display_name(self, path: pathlib.Path) -> str:
        """Name of a path inside the folder as the user wrote it: with the URL, if there is one.

        Args:
          path: Path inside the folder.

        Returns:
          The URL or the path.
        """
        return f"{self.url}/{path.relative_to(self.path).as_posix()}" if self.url else str(path)

    def pull(self) -> None:
        """Make the local copy equal to the folder in the store; remove files that only it has.

        An incomplete checkpoint in the store is not copied.

        Raises:
          ValueError: The store cannot be read, or the copy has changes that could not be written to
            the store.
        """
        if self.url is None:
            return
        if self._not_copied.exists():
            raise ValueError(
                f"{self.url}: {self.path} has changes that could not be copied there; to resume "
                "from them use that folder instead of the URL, to discard them remove "
                f"{self._not_copied}"
            )
        with _errors_for_users(self.url, "read"):
            files, root = _open(self.url)
            stored = _without_incomplete_checkpoints(_listing(files, root))
            for name in _files(self.path):
                if name not in stored:
                    _remove(self.path, name)
            _download(files, root, stored, self.path)
        self._copied = {name: _version(self.path / name) for name in stored}

    def push(self) -> None:
        """Copy the changes since the last `pull` or `push` to the store, removals included.

        The file that completes a checkpoint is copied last.

        Raises:
          ValueError: The store cannot be written. The message names the folder that has the
            changes.
        """
        if self.url is None or not self.path.exists():
            return
        try:
            with _errors_for_users(self.url, f"written; the changes are kept in {self.path}"):
                self._push(*_open(self.url))
        except ValueError:
            self._not_copied.touch()
            raise
        self._not_copied.unlink(missing_ok=True)

    def _push(self, files: Any, root: str) -> None:
        local = {name: _version(self.path / name) for name in _files(self.path)}
        changed = [name for name, version in local.items() if self._copied.get(name) != version]
        last = [name for name in changed if _is_last(name)]
        for names in ([name for name in changed if name not in last], last):
            if names:
                _make_folders(files, root, names)
                files.put(
                    [str(self.path / name) for name in names], [f"{root}/{name}" for name in names]
                )
                self._copied |= {name: local[name] for name in names}
        removed = [name for name in self._copied if name not in local]
        if removed:
            files.rm([f"{root}/{name}" for name in removed])
            self._copied = {
                name: version for name, version in self._copied.items() if name in local
            }

    @property
    def _not_copied(self) -> pathlib.Path:
        """File beside the folder that exists while the last `push` has failed."""
        return self.path.with_name(f"{self.path.name}.not-copied")

    def saver(self, report: Callable[[str], None]) -> Callable[[], None]:
        """`push` for the middle of a run: a failure is reported, and repaired by the next call.

        Args:
          report: Receives the message of a failure.

        Returns:
          The function to call after each checkpoint.
        """

        def save() -> None:
            try:
                self.push()
            except ValueError as error:
                report(f"{error}; retrying after the next checkpoint")

        return save


def as_folder(folder: str | os.PathLike[str] | Folder) -> Folder:
    """The folder that a path or URL stands for.

    Args:
      folder: Path, URL, or a folder, which is returned.
    """
    return folder if isinstance(folder, Folder) else Folder(folder)


def display_names(folders: Sequence[Folder]) -> Callable[[pathlib.Path], str]:
    """`Folder.display_name` for paths in several folders.

    Args:
      folders: The folders.

    Returns:
      A function from a path inside one of them to its name.
    """
    return lambda path: next(
        folder.display_name(path) for folder in folders if path.is_relative_to(folder.path)
    )


def download_cached(url: str) -> pathlib.Path:
    """Copy a folder or file from a store into the cache, unless the cache has its present version.

    Args:
      url: URL of the folder or file.

    Returns:
      Path of the copy.

    Raises:
      ValueError: There is nothing at the URL, or it cannot be read.
    """
    with _errors_for_users(url, "read"):
        files, root = _open(url)
        parent, _, name = root.rpartition("/")
        is_file = files.isfile(root)
        stored = {name: files.info(root)} if is_file else _listing(files, root)
        if not stored:
            raise ValueError(f"{url}: nothing is there")
        rows = [f"{path} {_stored_version(info)}" for path, info in sorted(stored.items())]
        folder = _own_folder("fetched", url + "\n" + "\n".join(rows))
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
                copy = pathlib.Path(temporary) / "copy"
                _download(files, parent if is_file else root, stored, copy)
                try:
                    copy.rename(folder)
                except OSError:  # another process was faster, with the same
                    if not folder.exists():
                        raise
    return folder / name if is_file else folder


def _open(url: str) -> tuple[Any, str]:
    """(file system of a URL with its cached listings dropped, path in it)."""
    import fsspec

    scheme = url.partition("://")[0].rpartition("::")[2]
    if scheme not in fsspec.available_protocols():
        raise ValueError(f"{url}: no store is called {scheme}://; expected e.g. s3:// or gs://")
    files, root = fsspec.url_to_fs(url)
    files.invalidate_cache()
    return files, root.rstrip("/")


def _listing(files: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """{path in the folder: the store's description of the file}.

    Raises ValueError for a path that leads out of the folder.
    """
    listing = {}
    for path, info in files.find(root, detail=True).items():
        name = path.removeprefix(root).lstrip("/")
        if (
            not path.startswith(f"{root}/")
            or {"", "..", "."} & set(name.split("/"))
            or "\\" in name
        ):
            raise ValueError(f"holds a file named {path!r}, which leads outside {root}")
        listing[name] = info
    return listing


def _download(files: Any, root: str, names: Mapping[str, Any], to: pathlib.Path) -> None:
    """Copy files into a folder, each of them completely or not at all."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as temporary:
        fresh = [pathlib.Path(temporary) / str(number) for number in range(len(names))]
        if names:
            files.get([f"{root}/{name}" for name in names], [str(path) for path in fresh])
        for name, path in zip(names, fresh, strict=True):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(to / name)


def _make_folders(files: Any, root: str, names: Iterable[str]) -> None:
    """Make the folders of files, except in object stores (fsspec's asynchronous file systems).

    These have no folders, and would create a missing bucket.
    """
    if not files.async_impl:
        for folder in sorted({f"{root}/{name}".rpartition("/")[0] for name in names}):
            files.makedirs(folder, exist_ok=True)


def _without_incomplete_checkpoints(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the files of checkpoints whose last file is missing."""

    def is_complete(name: str) -> bool:
        step = re.match(r"(?:.*/)?checkpoints/[^/]+/", name)
        return step is None or step.group() + LAST in stored

    return {name: info for name, info in stored.items() if is_complete(name)}


def _is_last(name: str) -> bool:
    return name.rpartition("/")[2] == LAST


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != lock.FILE and path.suffix != PARTIAL
    )


def _remove(folder: pathlib.Path, name: str) -> None:
    """Remove a file and the folders that become empty: an empty one looks like a checkpoint."""
    path = folder / name
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the folder is not empty
        while (path := path.parent) != folder:
            path.rmdir()


def _version(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _stored_version(info: Mapping[str, Any]) -> str:
    version = next((str(info[key]) for key in _VERSION_KEYS if info.get(key)), "")
    return f"{info.get('size')} {version}"


def _own_folder(kind: str, key: str) -> pathlib.Path:
    """Folder in the cache for a key. Its name keeps only letters and digits of the key."""
    name = key.partition("\n")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9-]+", "-", name)[:40]
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return cache.folder().absolute() / kind / f"{digest}-{name}"


@contextlib.contextmanager
def _errors_for_users(url: str, what: str) -> Iterator[None]:
    """Turn all errors of a store, its library or the network into one kind of ValueError."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{url}: {error}; {_EXTRA}") from None
    except Exception as error:  # each library has its own
        message = " ".join(str(error).split()) or type(error).__name__
        if url not in message:
            message = f"{url}: cannot be {what} ({message})"
        raise ValueError(message) from None
