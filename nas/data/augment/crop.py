"""Crops: the random one of training, and the fixed one of evaluation."""

from __future__ import annotations

import math

from PIL import Image, ImageOps

from nas.data.augment.draws import Draws

AREA = (0.08, 1.0)
"""Share of the image that a crop covers, uniform. Source: Szegedy et al. 2014, arXiv 1409.4842."""
ASPECT = (3 / 4, 4 / 3)
"""Width / height of a crop. Source: the same; uniform in the logarithm, as in later code (not stated there)."""
_TRIES = 10


def inception_crop(image: Image.Image, size: int, draws: Draws) -> Image.Image:
    """A random part of the image, resized to size x size; mirrored at random.

    Area and aspect ratio are drawn until a part of that shape fits, at most 10 times, then the largest centred part
    with an allowed aspect ratio is taken. Always 41 draws, so that what is drawn next does not depend on the image.
    Resizing is bilinear with antialiasing (the paper names none).

    Args:
      image: RGB, of any size.
      size: pixels of a side.
      draws: consumed.

    Source: Szegedy et al. 2014; number of tries: torchvision and TensorFlow use 10 and 100.
    """
    box = None
    for _ in range(_TRIES):
        area = image.width * image.height * draws.uniform(*AREA)
        aspect = math.exp(draws.uniform(*map(math.log, ASPECT)))
        across, down = draws.uniform(), draws.uniform()
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if box is None and 0 < width <= image.width and 0 < height <= image.height:
            left, top = int(across * (image.width - width + 1)), int(down * (image.height - height + 1))
            box = (left, top, left + width, top + height)
    mirrored = draws.whole(2) == 1
    part = image.resize((size, size), Image.Resampling.BILINEAR, box or _allowed(image))
    return ImageOps.mirror(part) if mirrored else part


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square, resized to size x size (bicubic, antialiased); an image of that size as it is."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC, _centred(image, 1.0))


def _allowed(image: Image.Image) -> tuple[float, float, float, float]:
    aspect = image.width / image.height
    return _centred(image, min(max(aspect, ASPECT[0]), ASPECT[1]))


def _centred(image: Image.Image, aspect: float) -> tuple[float, float, float, float]:
    """The largest centred box of this width / height."""
    width = min(image.width, image.height * aspect)
    height = width / aspect
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return left, top, left + width, top + height
