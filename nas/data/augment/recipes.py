"""The augmentations of the paper's distilled sets, as functions of an image and a seed.

| recipe | augmentation | paper (section 5.4 and table 7) |
|---|---|---|
| plain | the centre, resized | - (evaluation) |
| crop | Inception crop | - (training on photographs without a teacher) |
| d1 | Inception crop, RandAugment l2m9 | D1: 500 replicas of ImageNet (its table says 1000) |
| d2 | Inception crop, extreme Mixup | D2: 1000 replicas |
| d3 | Inception crop, RandAugment l2m5 | D3: class-balanced resampling (`nas.data.distil.balance`), 10 replicas |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from PIL import Image

from nas.data.augment.crop import centre_crop, inception_crop
from nas.data.augment.draws import Draws
from nas.data.augment.rand_augment import rand_augment


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How images are augmented.

    Attributes:
      description: for people.
      augment: (image, size, draws) -> RGB image of size x size.
      mixes: whether the result is mixed with another image, treated in the same way.
      balances: whether classes are brought to one number of images first.
    """

    description: str
    augment: Callable[[Image.Image, int, Draws], Image.Image]
    mixes: bool = False
    balances: bool = False


def _cropped(layers: int, magnitude: float) -> Callable[[Image.Image, int, Draws], Image.Image]:
    def augment(image: Image.Image, size: int, draws: Draws) -> Image.Image:
        return rand_augment(inception_crop(image, size, draws), layers, magnitude, draws)

    return augment


RECIPES: dict[str, Recipe] = {
    "plain": Recipe("the centre", lambda image, size, _: centre_crop(image, size)),
    "crop": Recipe("Inception crop", inception_crop),
    "d1": Recipe("Inception crop, RandAugment l2m9", _cropped(2, 9)),
    "d2": Recipe("Inception crop, extreme Mixup", inception_crop, mixes=True),
    "d3": Recipe("class-balanced; Inception crop, RandAugment l2m5", _cropped(2, 5), balances=True),
}
"""By name."""


def replay(
    recipe: Recipe, open_image: Callable[[int], Image.Image], image: int, partners: int, size: int, key: tuple[int, ...]
) -> Image.Image:
    """The augmented image that belongs to a key: the same on every call.

    With Mixup: share * augmented(image) + (1 - share) * augmented(partner), share uniform in [0, 1], partner uniform.
    Source of the mixing: Beyer et al. 2021 (arXiv 2106.05237), whose "aggressive" Mixup the paper calls extreme.

    Args:
      recipe: one of `RECIPES`.
      open_image: number -> RGB image.
      image: number of the image.
      partners: images that may be mixed in are 0..partners - 1.
      size: pixels of a side.
      key: of the draws.
    """
    draws = Draws(*key)
    if not recipe.mixes:
        return recipe.augment(open_image(image), size, draws)
    partner, share = draws.whole(partners), draws.uniform()
    first = recipe.augment(open_image(image), size, draws)
    return Image.blend(recipe.augment(open_image(partner), size, draws), first, share)
