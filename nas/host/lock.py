"""A folder that one process writes: others are refused, and told which one it is.

The operating system drops the lock when the process ends, however it ends. It holds for processes
that see the same file system, of one machine or of several. Of a run in an object store the local
copy is locked, so that processes of other machines are not seen.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO

from search_spaces import files

FILE = ".lock"
"""Name of the file that is locked; it says who holds it, and is removed at the end."""

_HELD = (errno.EAGAIN, errno.EACCES)
_LONGEST = 200  # characters of a holder that are shown
_mine: set[pathlib.Path] = set()


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes from writing a folder, and remove what killed ones left half-written.

    This process may enter again, as where a command holds a whole run and its stage asks too.

    Args:
      folder: The folder; made if it does not exist.

    Raises:
      search_spaces.files.BadFile: Another process writes it, with its number, machine and begin; or
        it cannot be written.
    """
    folder = pathlib.Path(folder).absolute()
    if folder in _mine:
        yield
        return
    made = _missing(folder)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = _open(folder / FILE)
    with file:
        _claim(file)
        _mine.add(folder)
        try:
            _remove_partial(folder)
            yield
        finally:
            _mine.discard(folder)
            with contextlib.suppress(OSError):  # the next run writes over it
                (folder / FILE).unlink()
            for each in made:  # a run that was refused leaves no empty folder
                with contextlib.suppress(OSError):
                    each.rmdir()


def _missing(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder and those above it that do not exist, the lowest first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _open(path: pathlib.Path) -> IO[str]:
    """Open and lock a file; raises BadFile with its content if another process has locked it."""
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            _lock(file)
        except OSError as error:
            with file:
                file.seek(0)
                holder = " ".join(file.read(_LONGEST).split())
            if error.errno not in _HELD:
                logging.getLogger(__name__).warning(
                    f"{path.parent}: its file system has no locks ({error.strerror}); make sure "
                    "that no other process writes there"
                )
                return path.open("a+", encoding="utf-8")
            raise files.BadFile(
                f"{path.parent}: is being written by {holder or 'another process'}; wait for it, "
                "or choose another folder"
            ) from None
        # Whoever held it may have removed the file after it was opened here.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _lock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        raise OSError(errno.ENOTSUP, "not on this system") from None
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _claim(file: IO[str]) -> None:
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with files.writing(file.name):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        file.flush()


def _remove_partial(folder: pathlib.Path) -> None:
    for path in folder.rglob(f".*{files.PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()
