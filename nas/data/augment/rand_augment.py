"""RandAugment: some operations of a published list, one after the other, all at one magnitude.

Source: Cubuk et al. 2019 (arXiv 1909.13719): the list of 14 operations; what a magnitude means for each is not in that
paper and follows the ranges of AutoAugment (arXiv 1805.09501, table 6), as the released code of both does.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

from nas.data.augment.draws import Draws

MAGNITUDE_MAX = 10
"""The magnitude at which an operation is as strong as AutoAugment's range allows. Source: the released code."""

_FILL = (128, 128, 128)
"""Colour of what comes in from outside. Source: the released code."""
_SHEAR, _TRANSLATE, _ROTATE = 0.3, 150 / 331, 30.0
"""Largest shear, shift (of a side; AutoAugment: 150 of 331 pixels) and angle in degrees. Source: AutoAugment."""
_ENHANCE = (0.1, 1.8)
"""Colour, contrast, brightness, sharpness: factor 0.1 + 1.8 * share. Source: the released code; so at magnitude 5 these
four leave an image alone."""

Operation = Callable[[Image.Image, float, int], Image.Image]
"""(image, share of the largest strength 0..1, random sign) -> image."""


def rand_augment(image: Image.Image, layers: int, magnitude: float, draws: Draws) -> Image.Image:
    """Apply `layers` operations drawn with repetition from `OPERATIONS`; two draws each.

    Args:
      image: RGB.
      layers: "l" of a recipe such as l2m9.
      magnitude: "m", 0..10.
      draws: consumed.
    """
    names = sorted(OPERATIONS)
    for _ in range(layers):
        operation, sign = OPERATIONS[names[draws.whole(len(names))]], draws.sign()
        image = operation(image, magnitude / MAGNITUDE_MAX, sign)
    return image


def _affine(image: Image.Image, coefficients: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Pixel (x, y) shows (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=_FILL)


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, share, _: kind(image).enhance(_ENHANCE[0] + _ENHANCE[1] * share)


def _posterize(image: Image.Image, share: float, _: int) -> Image.Image:
    """Keep 8 bits of a channel, down to 4: AutoAugment's range, stronger with the magnitude (released code: weaker)."""
    return ImageOps.posterize(image, 8 - round(4 * share))


def _solarize(image: Image.Image, share: float, _: int) -> Image.Image:
    """Invert what is brighter than a threshold that falls from 256 to 0 (released code: rises)."""
    return ImageOps.solarize(image, round(256 * (1 - share)))


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, share, sign: image,
    "auto_contrast": lambda image, share, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, share, sign: ImageOps.equalize(image),
    "rotate": lambda image, share, sign: image.rotate(
        sign * share * _ROTATE, Image.Resampling.BILINEAR, fillcolor=_FILL
    ),
    "posterize": _posterize,
    "solarize": _solarize,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": lambda image, share, sign: _affine(image, (1, sign * share * _SHEAR, 0, 0, 1, 0)),
    "shear_y": lambda image, share, sign: _affine(image, (1, 0, 0, sign * share * _SHEAR, 1, 0)),
    "translate_x": lambda image, share, sign: _affine(image, (1, 0, sign * share * _TRANSLATE * image.width, 0, 1, 0)),
    "translate_y": lambda image, share, sign: _affine(image, (1, 0, 0, 0, 1, sign * share * _TRANSLATE * image.height)),
}
"""By name, in the paper's spelling made snake case."""
