"""Size, kind and orientation of image files, read from their first and last bytes.

Two reads a file and a few microseconds, because a source of a million photographs is looked at
whenever it is opened. JPEG and PNG are parsed here; Pillow reads the headers of all others.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

ORIENTATION = 0x0112
"""EXIF tag of the orientation, 1..8; 1: upright."""

_END = 4096  # bytes at each end that are read
_HEAD = 262144  # bytes read where previews and profiles fill the beginning
_PNG_KINDS = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_JPEG_KINDS = {1: "L", 3: "RGB", 4: "CMYK"}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NOT_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length


class Header(NamedTuple):
    """Description of an image without its pixels.

    Attributes:
      width: Pixels across, as stored.
      height: Pixels down, as stored.
      kind: Format and mode, e.g. "JPEG RGB" or "PNG I;16"; "" where it is no image.
      orientation: EXIF orientation, 1..8.
      digest: Hash of size, first and last bytes; equal files have equal ones.
      is_whole: Whether it ends as its format should; otherwise only decoding can tell.
    """

    width: int
    height: int
    kind: str
    orientation: int
    digest: int
    is_whole: bool = True

    @property
    def mode(self) -> str:
        """Mode of the pixels, e.g. "RGB"."""
        return self.kind.rpartition(" ")[2]


def read(file: str | bytes) -> Header:
    """Read the header of an image file.

    Args:
      file: Its path, or its bytes.

    Returns:
      The header; its kind is "" where there is none.
    """
    try:
        size, head, tail = _ends(file)
    except OSError:
        return Header(0, 0, "", 1, 0, is_whole=False)
    key = hashlib.blake2b(b"%d %b%b" % (size, head[:_END], tail), digest_size=8).digest()
    digest = int.from_bytes(key, "little")
    try:
        found = _parsed(head, file) or _by_pillow(file, size)
    # On bad bytes Pillow raises OSError, SyntaxError, ValueError, struct.error and more.
    except Exception:
        return Header(0, 0, "", 1, digest, is_whole=False)
    width, height, kind, orientation, is_whole = found
    if is_whole is None:
        is_whole = tail.endswith(_ENDINGS[kind.partition(" ")[0]])
    return Header(width, height, kind, orientation, digest, is_whole)


_Found = tuple[int, int, str, int, bool | None]
_ENDINGS = {
    "JPEG": b"\xff\xd9",
    "PNG": b"IEND\xae\x42\x60\x82",
    "GIF": b";",
}


def _ends(file: str | bytes) -> tuple[int, bytes, bytes]:
    """(size, first bytes, last bytes)."""
    if isinstance(file, bytes):
        return len(file), file[:_END], file[-_END:]
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(handle).st_size
        head = os.read(handle, 2 * _END)
        if size <= len(head):
            return size, head, head[-_END:]
        os.lseek(handle, -_END, os.SEEK_END)
        return size, head, os.read(handle, _END)
    finally:
        os.close(handle)


def _more(file: str | bytes) -> bytes:
    if isinstance(file, bytes):
        return file
    with open(file, "rb") as opened:
        return opened.read(_HEAD)


def _parsed(head: bytes, file: str | bytes) -> _Found | None:
    for start, parse in ((b"\xff\xd8\xff", _jpeg), (b"\x89PNG\r\n\x1a\n", _png)):
        if head.startswith(start):
            return parse(head) or parse(_more(file))
    return None


def _jpeg(head: bytes) -> _Found | None:
    orientation = 1
    for marker, start, end in _segments(head):
        if marker == 0xE1 and head[start : start + 6] == b"Exif\0\0" and end <= len(head):
            orientation = _orientation(head[start + 6 : end])
        if marker in _FRAMES and start + 6 <= len(head):
            _, height, width, channels = struct.unpack_from(">BHHB", head, start)
            return width, height, f"JPEG {_JPEG_KINDS[channels]}", orientation, None
    return None


def _segments(head: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start of its content, end) of the segments of a JPEG."""
    place = 2
    while place + 4 <= len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if marker == 0xFF or marker in _NOT_ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        end = place + 2 + int.from_bytes(head[place + 2 : place + 4], "big")
        yield marker, place + 4, end
        place = end


def _png(head: bytes) -> _Found | None:
    if len(head) < 33:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", head, 16)
    mode = _PNG_KINDS[colour]
    if depth == 16:
        mode = "I;16" if mode == "L" else f"{mode};16"
    elif depth == 1 and mode == "L":
        mode = "1"
    orientation, place = 1, 33
    while place + 8 <= len(head):
        length, name = struct.unpack_from(">I4s", head, place)
        content = head[place + 8 : place + 8 + length]
        if name == b"eXIf":
            orientation = _orientation(content)
        elif name == b"tRNS":
            mode += "+alpha"
        elif name == b"IDAT":
            return width, height, f"PNG {mode}", orientation, None
        place += 12 + length
    return None


def _orientation(exif: bytes) -> int:
    """The orientation in an EXIF block; 1 where it has none or is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for row in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, row)
            if tag == ORIENTATION and kind == 3:
                (value,) = struct.unpack_from(f"{order}H", exif, row + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _by_pillow(file: str | bytes, size: int) -> _Found:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        kind = f"{image.format} {image.mode}"
        orientation = image.getexif().get(ORIENTATION, 1)
        whole: bool | None = True
        if image.format in _ENDINGS:
            whole = None
        elif image.format == "TIFF":
            tags = getattr(image, "tag_v2", {})
            starts, lengths = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
            if starts and lengths:
                whole = all(s + n <= size for s, n in zip(starts, lengths, strict=False))
        elif image.format == "WEBP":
            start = file[:12] if isinstance(file, bytes) else _more(file)[:12]
            whole = int.from_bytes(start[4:8], "little") + 8 <= size
        elif image.format == "BMP":
            start = file[:12] if isinstance(file, bytes) else _more(file)[:12]
            whole = int.from_bytes(start[2:6], "little") <= size
        if getattr(image, "n_frames", 1) > 1:
            kind = f"{image.format} of several frames, {image.mode}"
        valid = isinstance(orientation, int) and 1 <= orientation <= 8
        return image.width, image.height, kind, orientation if valid else 1, whole
