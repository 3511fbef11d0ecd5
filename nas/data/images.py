"""Images as files and as arrays: the only place that decodes and encodes."""

from __future__ import annotations

import io
import pathlib
import zlib

import numpy as np
from PIL import Image

PIXELS_MAX = 80_000_000
"""An image of more pixels is refused before it is decoded: a small file may claim any size. Pillow warns at 89 M."""


class BadImage(ValueError):
    """An image that cannot be used: which one, and why."""


def decode(data: bytes | pathlib.Path, place: str) -> Image.Image:
    """An RGB image from an encoded file (grey and palettes are converted, transparency is dropped).

    Args:
      data: the file's bytes, or its path.
      place: what messages call it.

    Raises:
      BadImage: not an image, damaged, cut short, or too large.
    """
    return _decode(data, place, None)


def decode_jpeg(data: bytes, place: str) -> Image.Image:
    """As `decode`, of a JPEG that `encode` made: trying no other kind saves a sixth of the time."""
    return _decode(data, place, ("JPEG",))


def _decode(data: bytes | pathlib.Path, place: str, kinds: tuple[str, ...] | None) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=kinds) as image:
            if image.width * image.height > PIXELS_MAX:
                raise BadImage(f"{place}: {image.width} x {image.height} pixels, at most {PIXELS_MAX} are read")
            if image.mode == "RGB":
                image.load()
                return image
            return image.convert("RGB")
    except BadImage:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more on bad bytes
        raise BadImage(f"{place}: cannot be decoded ({error})") from None


def encode(image: Image.Image, quality: int) -> bytes:
    """JPEG without colour subsampling, which would blur small images."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def checksum(image: Image.Image) -> int:
    """CRC-32 of the pixels: whether an image comes out again as it was."""
    return zlib.crc32(image.tobytes())


def from_array(pixels: np.ndarray) -> Image.Image:
    """Image of uint8 [h, w, 3], or [h, w, 1] made grey."""
    return Image.fromarray(pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, -1))


def to_array(image: Image.Image) -> np.ndarray:
    """uint8 [h, w, 3]."""
    return np.asarray(image)
