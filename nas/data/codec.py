"""Image files and arrays: the only module that decodes and encodes."""

from __future__ import annotations

import io
import pathlib
import zlib

import numpy as np
from PIL import Image

PIXELS_MAX = 80_000_000
"""Largest number of pixels of an image. Larger ones are refused before they are decoded, because a
small file may claim any size. Pillow warns at 89 M."""


class BadImage(ValueError):
    """An image that cannot be used; the message names it and the reason."""


def decode(data: bytes | pathlib.Path, location: str) -> Image.Image:
    """Decode an image file to RGB (grey and palettes are converted, transparency is dropped).

    Args:
      data: Bytes of the file, or its path.
      location: Name of the image in messages.

    Returns:
      The image, RGB.

    Raises:
      BadImage: The data are no image, damaged, truncated, or too large.
    """
    return _decode(data, location, None)


def decode_jpeg(data: bytes, location: str) -> Image.Image:
    """Decode a JPEG that `encode` made; trying no other format saves a sixth of the time.

    Args:
      data: Bytes of the file.
      location: Name of the image in messages.

    Returns:
      The image, RGB.

    Raises:
      BadImage: The data are no JPEG, damaged, truncated, or too large.
    """
    return _decode(data, location, ("JPEG",))


def _decode(
    data: bytes | pathlib.Path, location: str, formats: tuple[str, ...] | None
) -> Image.Image:
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > PIXELS_MAX:
                raise BadImage(
                    f"{location}: has {image.width} x {image.height} pixels, expected at most "
                    f"{PIXELS_MAX}; scale it down"
                )
            if image.mode == "RGB":
                image.load()
                return image
            return image.convert("RGB")
    except BadImage:
        raise
    # On bad bytes Pillow raises OSError, SyntaxError, ValueError, struct.error and more.
    except Exception as error:
        raise BadImage(f"{location}: cannot be decoded ({error})") from None


def encode(image: Image.Image, quality: int) -> bytes:
    """Encode a JPEG without colour subsampling, which would blur small images.

    Args:
      image: RGB image.
      quality: JPEG quality, 1..100.

    Returns:
      Bytes of the file.
    """
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def checksum(image: Image.Image) -> int:
    """CRC-32 of the pixels, to verify that an image was reproduced exactly.

    Args:
      image: Image of any mode.

    Returns:
      The checksum, 0..2**32 - 1.
    """
    return zlib.crc32(image.tobytes())


def from_array(pixels: np.ndarray) -> Image.Image:
    """Convert an array to an image.

    Args:
      pixels: uint8 [h, w, 3], or [h, w, 1] for grey.

    Returns:
      The image, RGB.
    """
    return Image.fromarray(pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, -1))


def to_array(image: Image.Image) -> np.ndarray:
    """Convert an RGB image to an array.

    Args:
      image: RGB image.

    Returns:
      uint8 [h, w, 3].
    """
    return np.asarray(image)
