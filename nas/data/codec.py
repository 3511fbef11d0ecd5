"""Image files and arrays: the only module that decodes and encodes."""

from __future__ import annotations

import io
import pathlib
import zlib

import numpy as np
from PIL import Image

from nas.data.headers import ORIENTATION

PIXELS_MAX = 80_000_000
"""Largest number of pixels of an image. Larger ones are refused before they are decoded, because a
small file may claim any size. Pillow warns at 89 M."""


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""{EXIF orientation: operation that turns the image upright}. Source: EXIF 2.3, table 4."""
_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose integers of mode I have 16 bits; in others they may have any range."""


class BadImage(ValueError):
    """An image that cannot be used; the message names it and the reason."""


def decode(data: bytes | pathlib.Path, location: str, *, upright: bool = True) -> Image.Image:
    """Decode an image file to RGB.

    Grey, palettes and CMYK are converted, transparency is dropped, of 16 bits the upper 8 are kept.
    Of several frames the first is taken. Pillow turns TIFF upright whatever `upright` says.

    Args:
      data: Bytes of the file, or its path.
      location: Name of the image in messages.
      upright: Turn the image upright by its EXIF orientation.

    Returns:
      The image, RGB.

    Raises:
      BadImage: The data are no image, damaged, truncated, too large, or numbers of unknown range.
    """
    return _decode(data, location, None, upright)


def values(data: bytes | pathlib.Path, location: str) -> np.ndarray:
    """Values of an image as they are stored, e.g. all 16 bits of each.

    Args:
      data: Bytes of the file, or its path.
      location: Name of the image in messages.

    Returns:
      [h, w] or [h, w, c] of the image's own type.

    Raises:
      BadImage: It cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            return np.asarray(image)
    except Exception as error:
        raise BadImage(f"{location}: cannot be decoded ({error})") from None


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
    return _decode(data, location, ("JPEG",), upright=False)


def _decode(
    data: bytes | pathlib.Path, location: str, formats: tuple[str, ...] | None, upright: bool
) -> Image.Image:
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > PIXELS_MAX:
                raise BadImage(
                    f"{location}: has {image.width} x {image.height} pixels, expected at most "
                    f"{PIXELS_MAX}; scale it down"
                )
            turn = _UPRIGHT.get(_orientation(image)) if upright else None
            if image.mode == "RGB":
                image.load()
                decoded = image
            else:
                decoded = _rgb(image, location)
            return decoded if turn is None else decoded.transpose(turn)
    except BadImage:
        raise
    # On bad bytes Pillow raises OSError, SyntaxError, ValueError, struct.error and more.
    except Exception as error:
        raise BadImage(f"{location}: cannot be decoded ({error})") from None


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    # Damaged EXIF is no reason to do without the image.
    except Exception:
        return 1


def _rgb(image: Image.Image, location: str) -> Image.Image:
    """The RGB image of another mode."""
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in _SIXTEEN_BITS):
        # `convert` would turn every value above 255 white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        numbers = "32-bit integers" if mode == "I" else "floating-point numbers"
        raise BadImage(
            f"{location}: holds {numbers} of unknown range; save it with 8 or 16 bits a value"
        )
    if mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # without this step Pillow warns
    return image.convert("RGB")


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
