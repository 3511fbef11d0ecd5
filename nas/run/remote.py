"""Folders and files in object stores (s3://, gs://, ...), copied here and back. The one module that knows fsspec.

A run appends to files and renames folders, which object stores do not do. So it works in a folder of this machine, and
what it has written is copied to the store after each checkpoint and at its end. Data sets are copied here once.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from nas.run import cache

LAST = "sha256.json"
"""What is written and copied last in a checkpoint's folder, `checkpoints/STEP`: without it, the rest is not whole."""
_EXTRA = 'pip install "mnv4-nas[store]" installs what s3:// and gs:// need'
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "sha256", "mtime", "LastModified", "created")
"""What tells two versions of a file apart, by the names that stores give it, the surest first."""


def is_url(text: str) -> bool:
    """Whether a text means a place in a store, and not a path of this machine."""
    return "://" in text


class Folder:
    """A folder by its path, or by its URL: then `pull` it before it is used, and `push` it after.

    Attributes:
      url: where it really lies, None if here.
      path: the folder to work in. For a URL it is in the cache, and the same on all machines of a run.
    """

    def __init__(self, text: str | pathlib.Path):
        self.url = str(text).rstrip("/") if is_url(str(text)) else None
        self.path = _own_folder("runs", self.url) if self.url else pathlib.Path(text).expanduser()
        self._copied: dict[str, tuple[int, int]] = {}  # what files were when they were last alike in both places

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}" if self.url else self.path / name)

    def __str__(self) -> str:
        return self.url or str(self.path)

    def absolute(self) -> Folder:
        """The same, found from any folder."""
        return self if self.url else Folder(self.path.absolute())

    def named(self, path: pathlib.Path) -> str:
        """A path inside the folder, as the user knows it."""
        return f"{self.url}/{path.relative_to(self.path).as_posix()}" if self.url else str(path)

    def pull(self) -> None:
        """Make the folder here like the one in the store; files that only this one has go.

        A checkpoint that was not copied whole is left there. Raises ValueError if the store cannot be read, or if this
        folder has what could not be copied there.
        """
        if self.url is None:
            return
        if self._not_copied.exists():
            raise ValueError(
                f"{self.url}: {self.path} has what could not be copied there; to go on from it give that folder in "
                f"place of the URL, to give it up remove {self._not_copied}"
            )
        with _errors_for_users(self.url, "read"):
            files, root = _open(self.url)
            there = _whole(_listing(files, root))
            for name in _files(self.path):
                if name not in there:
                    _remove(self.path, name)
            _download(files, root, there, self.path)
        self._copied = {name: _version(self.path / name) for name in there}

    def push(self) -> None:
        """Copy what was changed here since the last `pull` or `push`, and remove there what was removed here.

        What says that a checkpoint is whole goes last. Raises ValueError if the store cannot be written, with the
        folder that has what was not copied.
        """
        if self.url is None or not self.path.exists():
            return
        try:
            with _errors_for_users(self.url, f"written; what was not copied lies in {self.path}"):
                self._push(*_open(self.url))
        except ValueError:
            self._not_copied.touch()
            raise
        self._not_copied.unlink(missing_ok=True)

    def _push(self, files: Any, root: str) -> None:
        here = {name: _version(self.path / name) for name in _files(self.path)}
        changed = [name for name, version in here.items() if self._copied.get(name) != version]
        last = [name for name in changed if _is_last(name)]
        for names in ([name for name in changed if name not in last], last):
            if names:
                _make_folders(files, root, names)
                files.put([str(self.path / name) for name in names], [f"{root}/{name}" for name in names])
                self._copied |= {name: here[name] for name in names}
        gone = [name for name in self._copied if name not in here]
        if gone:
            files.rm([f"{root}/{name}" for name in gone])
            self._copied = {name: version for name, version in self._copied.items() if name in here}

    @property
    def _not_copied(self) -> pathlib.Path:
        """A mark beside the folder: the last `push` failed."""
        return self.path.with_name(f"{self.path.name}.not-copied")

    def saver(self, say: Callable[[str], None]) -> Callable[[], None]:
        """`push` for the middle of a run: what cannot be copied now is said, and copied the next time."""

        def save() -> None:
            try:
                self.push()
            except ValueError as error:
                say(f"{error}; it is tried again after the next checkpoint")

        return save


def named_in(folders: Sequence[Folder]) -> Callable[[pathlib.Path], str]:
    """`Folder.named` of whichever of the folders a path lies in."""
    return lambda path: next(folder.named(path) for folder in folders if path.is_relative_to(folder.path))


def fetched(url: str) -> pathlib.Path:
    """A copy of a folder or file in a store, made once in the cache, and again when what lies there has changed.

    Raises:
      ValueError: nothing is there, or it cannot be read.
    """
    with _errors_for_users(url, "read"):
        files, root = _open(url)
        alone = files.isfile(root)
        above = root.rpartition("/")[0] if alone else root
        there = {root.rpartition("/")[2]: files.info(root)} if alone else _listing(files, root)
        if not there:
            raise ValueError(f"{url}: nothing is there")
        rows = [f"{name} {_version_there(info)}" for name, info in sorted(there.items())]
        folder = _own_folder("fetched", url + "\n" + "\n".join(rows))
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as text:
                copy = pathlib.Path(text) / "copy"
                _download(files, above, there, copy)
                try:
                    copy.rename(folder)
                except OSError:  # another process was faster, with the same
                    if not folder.exists():
                        raise
    return folder / root.rpartition("/")[2] if alone else folder


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, without what it remembers of listings, and the path in it."""
    import fsspec

    scheme = url.partition("://")[0].rpartition("::")[2]
    if scheme not in fsspec.available_protocols():
        raise ValueError(f"{url}: no store is called {scheme}://; expected e.g. s3:// or gs://")
    files, root = fsspec.url_to_fs(url)
    files.invalidate_cache()
    return files, root.rstrip("/")


def _listing(files: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """{path in the folder: what the store says of the file}. Raises ValueError for a path that leads out of it."""
    found = {}
    for path, info in files.find(root, detail=True).items():
        name = path.removeprefix(root).lstrip("/")
        if not path.startswith(f"{root}/") or {"", "..", "."} & set(name.split("/")) or "\\" in name:
            raise ValueError(f"holds a file named {path!r}, which is no path inside {root}")
        found[name] = info
    return found


def _download(files: Any, root: str, names: Mapping[str, Any], to: pathlib.Path) -> None:
    """Copy files into a folder; each is there whole, or not at all."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as text:
        fresh = [pathlib.Path(text) / str(number) for number in range(len(names))]
        if names:
            files.get([f"{root}/{name}" for name in names], [str(path) for path in fresh])
        for name, path in zip(names, fresh, strict=True):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(to / name)


def _make_folders(files: Any, root: str, names: Iterable[str]) -> None:
    """Object stores (fsspec's asynchronous ones) have no folders, and would make a missing bucket of one."""
    if not files.async_impl:
        for folder in sorted({f"{root}/{name}".rpartition("/")[0] for name in names}):
            files.makedirs(folder, exist_ok=True)


def _whole(there: Mapping[str, Any]) -> dict[str, Any]:
    """Without the files of checkpoints whose last file is missing."""

    def is_whole(name: str) -> bool:
        step = re.match(r"(?:.*/)?checkpoints/[^/]+/", name)
        return step is None or step.group() + LAST in there

    return {name: info for name, info in there.items() if is_whole(name)}


def _is_last(name: str) -> bool:
    return name.rpartition("/")[2] == LAST


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _remove(folder: pathlib.Path, name: str) -> None:
    """A file, and the folders that are empty then: one named as a step would be taken for a checkpoint."""
    path = folder / name
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # that is not empty
        while (path := path.parent) != folder:
            path.rmdir()


def _version(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _version_there(info: Mapping[str, Any]) -> str:
    known = next((str(info[key]) for key in _VERSION_KEYS if info.get(key)), "")
    return f"{info.get('size')} {known}"


def _own_folder(kind: str, key: str) -> pathlib.Path:
    """A folder in the cache for a key; only letters and digits of what others have named go into its name."""
    name = re.sub(r"[^A-Za-z0-9-]+", "-", key.partition("\n")[0].rstrip("/").rpartition("/")[2])[:40]
    return cache.folder().absolute() / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}-{name}"


@contextlib.contextmanager
def _errors_for_users(url: str, what: str) -> Iterator[None]:
    """One ValueError for what a store, its library or the network make of a place."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{url}: {error}; {_EXTRA}") from None
    except Exception as error:  # each library has its own
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{url}: cannot be {what} ({text})" if url not in text else text) from None
