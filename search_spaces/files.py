"""Files at the door: read whole and safely, replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator

MOST_BYTES = 256 * 2**20
"""Largest text that is read, in bytes. Source: ours; a manifest of a million images is a tenth."""

PARTIAL = ".partial"
"""Suffix of files that are being written; a killed process leaves one behind."""

_BOM = "\ufeff"
_WIDE = ("utf-16", "utf-32")


class BadFile(ValueError):
    """A file or folder that a user has to see to, met in the middle of the work; one line."""


class CannotWrite(OSError, BadFile):
    """An output that cannot be written: a full disk, a folder in its place.

    The message is one line with the path.
    """

    def __str__(self) -> str:
        return str(self.args[0])


def read_bytes(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """Read a regular file; a device or pipe, which may have no end, is refused.

    Args:
      path: The file.
      most: Largest size in bytes.

    Returns:
      Its content.

    Raises:
      FileNotFoundError: There is none.
      ValueError: It is no regular file, too large, or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(
                f"{path}: has {size} bytes, expected at most {most}; is it the right file?"
            )
        try:
            return file.read(most + 1)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: str | os.PathLike[str], most: int = MOST_BYTES) -> str:
    """Read a text file in UTF-8; a byte order mark at its start is not part of the text.

    Args:
      path: The file.
      most: Largest size in bytes.

    Returns:
      Its text.

    Raises:
      FileNotFoundError: There is none.
      ValueError: It is no regular file, too large, not UTF-8, or cannot be read.
    """
    return decode(read_bytes(path, most), path)


def decode(content: bytes, path: str | os.PathLike[str]) -> str:
    """Text of a file's bytes; see `read_text`.

    Args:
      content: The bytes.
      path: The file, for errors.

    Returns:
      The text.

    Raises:
      ValueError: They are not UTF-8.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        found = next((name for name in _WIDE if _is(name, content)), None)
        kind = f"it looks like {found.upper()}" if found else f"byte {error.start} is wrong"
        raise ValueError(
            f"{path}: cannot be read: not UTF-8 text ({kind}); save it as UTF-8"
        ) from None
    return text.removeprefix(_BOM)


def _is(encoding: str, content: bytes) -> bool:
    if content[:2] not in (b"\xff\xfe", b"\xfe\xff") and content[:4] != b"\x00\x00\xfe\xff":
        return False
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading; see `read_bytes`.

    Args:
      path: The file.

    Yields:
      The open file.

    Raises:
      FileNotFoundError: There is none.
      ValueError: It is no regular file, or cannot be opened.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise ValueError(f"{path}: cannot be read: {_reason(error)}") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        what = "is a folder" if stat.S_ISDIR(mode) else "is a device or pipe"
        raise ValueError(f"{path}: cannot be read: {what}, expected a file")
    with os.fdopen(handle, "rb") as file:
        yield file


def sha256(path: str | os.PathLike[str]) -> str:
    """Hash of a regular file, a megabyte at a time.

    Args:
      path: The file.

    Returns:
      64 hex digits.

    Raises:
      FileNotFoundError: There is none.
      ValueError: It is no regular file, or cannot be read.
    """
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a mixture.

    Args:
      path: The file; missing folders are made.
      content: Its new content; text is written as UTF-8.

    Raises:
      CannotWrite: The disk is full or read-only, or a folder is in the way.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replaced(path) as temporary, temporary.open("wb") as file:
        file.write(data)


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield an empty temporary file that takes the place of `path` in one step at the end.

    If an error occurs, nothing is left of it.

    Args:
      path: The file; missing folders are made.

    Yields:
      The temporary file, in the same folder.

    Raises:
      CannotWrite: The disk is full or read-only, or a folder is in the way.
    """
    path = pathlib.Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        handle, name = tempfile.mkstemp(PARTIAL, f".{path.name[:100]}.", path.parent)
        os.close(handle)
        temporary = pathlib.Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error of the operating system while a file is written into one line with its path.

    Args:
      path: The file or folder, for the message.

    Raises:
      CannotWrite: An OSError occurred.
    """
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(
            f"{path}: cannot be written ({_reason(error)}); {_cure(error.errno)}"
        ) from None


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _cure(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free disk space, then run it again"
    if number is None:
        return "free disk space, or choose another place"
    return "choose another place"
