"""Crops: the random one for training, and the fixed one for evaluation."""

from __future__ import annotations

import math

from PIL import Image, ImageOps

from nas.data.augment.draws import RandomStream

AREA = (0.08, 1.0)
"""Share of the image that a crop covers, uniform. Source: Szegedy et al. 2014, arXiv 1409.4842."""
ASPECT = (3 / 4, 4 / 3)
"""Width / height of a crop, uniform in the logarithm. Source: the same for the range; the logarithm
is that of later code (not stated there)."""
_TRIES = 10


def random_resized_crop(image: Image.Image, size: int, draws: RandomStream) -> Image.Image:
    """Crop a random box, resize it to size x size and flip it horizontally at random (Inception).

    Area and aspect ratio are drawn until a box of that shape fits, at most 10 times; otherwise the
    crop is the largest centred box with an allowed aspect ratio. There are always 41 draws, so that
    later draws do not depend on the image. Resizing is bilinear with antialiasing (the paper names
    no method).

    Args:
      image: RGB image of any size.
      size: Side of the result in pixels.
      draws: Random stream; 41 numbers are consumed.

    Returns:
      RGB image of size x size.

    Source: Szegedy et al. 2014; number of tries: torchvision and TensorFlow use 10 and 100.
    """
    box = None
    for _ in range(_TRIES):
        area = image.width * image.height * draws.uniform(*AREA)
        aspect = math.exp(draws.uniform(*map(math.log, ASPECT)))
        across = draws.uniform()
        down = draws.uniform()
        width = round(math.sqrt(area * aspect))
        height = round(math.sqrt(area / aspect))
        if box is None and 0 < width <= image.width and 0 < height <= image.height:
            left = int(across * (image.width - width + 1))
            top = int(down * (image.height - height + 1))
            box = (left, top, left + width, top + height)
    flipped = draws.integer(2) == 1
    crop = image.resize((size, size), Image.Resampling.BILINEAR, box or _allowed_box(image))
    return ImageOps.mirror(crop) if flipped else crop


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Crop the largest centred square and resize it to size x size (bicubic, antialiased).

    Args:
      image: RGB image of any size.
      size: Side of the result in pixels.

    Returns:
      RGB image of size x size; an image of that size is returned unchanged.
    """
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC, _centred_box(image, 1.0))


def _allowed_box(image: Image.Image) -> tuple[float, float, float, float]:
    aspect = image.width / image.height
    return _centred_box(image, min(max(aspect, ASPECT[0]), ASPECT[1]))


def _centred_box(image: Image.Image, aspect: float) -> tuple[float, float, float, float]:
    """The largest centred box of this width / height."""
    width = min(image.width, image.height * aspect)
    height = width / aspect
    left = (image.width - width) / 2
    top = (image.height - height) / 2
    return left, top, left + width, top + height
