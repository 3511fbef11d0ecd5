"""RandAugment: operations of a published list, applied in sequence at one magnitude.

Source: Cubuk et al. 2019 (arXiv 1909.13719) for the list of 14 operations. That paper does not say
what a magnitude means for each of them; the ranges are those of AutoAugment (arXiv 1805.09501,
table 6), as in the released code of both.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

from nas.data.augment.draws import RandomStream

MAGNITUDE_MAX = 10
"""Magnitude at which an operation is as strong as AutoAugment's range allows. Source: the released
code."""

_FILL = (128, 128, 128)
"""Colour of pixels from outside the image. Source: the released code."""
_SHEAR = 0.3
"""Largest shear. Source: AutoAugment."""
_TRANSLATE = 150 / 331
"""Largest shift, as a share of a side. Source: AutoAugment (150 of 331 pixels)."""
_ROTATE = 30.0
"""Largest angle in degrees. Source: AutoAugment."""
_ENHANCE = (0.1, 1.8)
"""Factor of colour, contrast, brightness and sharpness: 0.1 + 1.8 * share, so at magnitude 5 these
four leave an image unchanged. Source: the released code."""

Operation = Callable[[Image.Image, float, int], Image.Image]
"""(image, share of the largest strength 0..1, random sign) -> image."""


def rand_augment(
    image: Image.Image, layers: int, magnitude: float, draws: RandomStream
) -> Image.Image:
    """Apply operations drawn with repetition from `OPERATIONS`.

    Args:
      image: RGB image.
      layers: Number of operations, the "l" of a recipe such as l2m9.
      magnitude: Strength 0..10, the "m" of the recipe.
      draws: Random stream; two numbers per operation are consumed.

    Returns:
      RGB image of the same size.
    """
    names = sorted(OPERATIONS)
    for _ in range(layers):
        operation = OPERATIONS[names[draws.integer(len(names))]]
        sign = draws.sign()
        image = operation(image, magnitude / MAGNITUDE_MAX, sign)
    return image


def _affine(
    image: Image.Image, coefficients: tuple[float, float, float, float, float, float]
) -> Image.Image:
    """Pixel (x, y) of the result shows (a x + b y + c, d x + e y + f) of the image."""
    return image.transform(
        image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=_FILL
    )


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, share, _: kind(image).enhance(_ENHANCE[0] + _ENHANCE[1] * share)


def _posterize(image: Image.Image, share: float, _: int) -> Image.Image:
    """Keep 8 bits per channel, down to 4 at full strength.

    AutoAugment's range, stronger with the magnitude (released code: weaker).
    """
    return ImageOps.posterize(image, 8 - round(4 * share))


def _solarize(image: Image.Image, share: float, _: int) -> Image.Image:
    """Invert pixels brighter than a threshold that falls from 256 to 0 (released code: rises)."""
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
    "translate_x": lambda image, share, sign: _affine(
        image, (1, 0, sign * share * _TRANSLATE * image.width, 0, 1, 0)
    ),
    "translate_y": lambda image, share, sign: _affine(
        image, (1, 0, 0, 0, 1, sign * share * _TRANSLATE * image.height)
    ),
}
"""Operations by their name in the paper, in snake case."""
