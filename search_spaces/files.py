"""Files that are replaced in one step, and the error of those that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NotWritten(OSError, ValueError):
    """Error of a file that cannot be written, e.g. because the disk is full."""

    def __str__(self) -> str:
        cure = "free disk space" if self.errno in _FULL else "give a folder that can be written"
        return f"{self.filename}: cannot be written ({self.strerror}); {cure}, then run it again"


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context in which an OSError names the file that is written, and the cure.

    Args:
      path: The file, or a folder of files.

    Raises:
      NotWritten: In place of an OSError.
    """
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise NotWritten(error.errno or errno.EIO, why, str(path)) from error


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a mixture.

    Args:
      path: The file; missing folders are made.
      text: Its new content, written as UTF-8.

    Raises:
      NotWritten: The disk refuses; the old content is kept.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)


def write_bytes_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a mixture.

    Args:
      path: The file; missing folders are made.
      content: Its new content.

    Raises:
      NotWritten: The disk refuses; the old content is kept.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Context in which a file is written under another name, and replaces the old one at its end.

    Args:
      path: The file; missing folders are made.

    Yields:
      Path to write, in the same folder; it is removed after an error.

    Raises:
      NotWritten: The disk refuses; the old content is kept.
    """
    path = pathlib.Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = pathlib.Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
