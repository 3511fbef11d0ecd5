"""Augmentation recipes of the paper's distilled sets, as functions of an image and a seed.

| recipe | augmentation | paper (section 5.4 and table 7) |
|---|---|---|
| plain | the centre, resized | - (evaluation) |
| crop | Inception crop | - (training on photographs without a teacher) |
| d1 | Inception crop, RandAugment l2m9 | D1: 500 replicas of ImageNet (its table says 1000) |
| d2 | Inception crop, extreme Mixup | D2: 1000 replicas |
| d3 | Inception crop, RandAugment l2m5 | D3: class-balanced resampling, 10 replicas |

The resampling of d3 is in `nas.distillation.balance`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from PIL import Image

from nas.data.augment.crop import centre_crop, random_resized_crop
from nas.data.augment.draws import RandomStream
from nas.data.augment.rand_augment import rand_augment
from search_spaces.families import Family

Augment = Callable[[Image.Image, int, RandomStream], Image.Image]
"""(RGB image, size, random stream) -> RGB image of size x size."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Augmentation of the training images of a data set.

    Args:
      description: Short description for reports.
      augment: Function from (image, size, draws) to an RGB image of size x size.
      mixes: Whether the result is mixed with another image, augmented in the same way.
      balances: Whether all classes are first resampled to the same number of images.
    """

    description: str
    augment: Augment
    mixes: bool = False
    balances: bool = False


def _cropped(layers: int, magnitude: float) -> Augment:
    def augment(image: Image.Image, size: int, draws: RandomStream) -> Image.Image:
        return rand_augment(random_resized_crop(image, size, draws), layers, magnitude, draws)

    return augment


RECIPES: Family[Recipe] = Family(
    "augmentation recipe",
    {
        "plain": Recipe("the centre", lambda image, size, _: centre_crop(image, size)),
        "crop": Recipe("Inception crop", random_resized_crop),
        "d1": Recipe("Inception crop, RandAugment l2m9", _cropped(2, 9)),
        "d2": Recipe("Inception crop, extreme Mixup", random_resized_crop, mixes=True),
        "d3": Recipe(
            "class-balanced; Inception crop, RandAugment l2m5", _cropped(2, 5), balances=True
        ),
    },
)
"""Recipes by name."""


def replay(
    recipe: Recipe,
    open_image: Callable[[int], Image.Image],
    image: int,
    partners: int,
    size: int,
    key: tuple[int, ...],
) -> Image.Image:
    """Compute the augmented image that belongs to a key; it is the same on every call.

    With Mixup: share * augmented(image) + (1 - share) * augmented(partner), where share is uniform
    in [0, 1] and the partner is uniform.

    Args:
      recipe: Recipe, e.g. one of `RECIPES`.
      open_image: Function from the number of an image to an RGB image.
      image: Number of the image.
      partners: Number of images that may be mixed in: 0..partners - 1.
      size: Side of the result in pixels.
      key: Key of the random stream.

    Returns:
      RGB image of size x size.

    Source: the mixing is from Beyer et al. 2021 (arXiv 2106.05237), whose "aggressive" Mixup the
    paper calls extreme.
    """
    draws = RandomStream(*key)
    if not recipe.mixes:
        return recipe.augment(open_image(image), size, draws)
    partner = draws.integer(partners)
    share = draws.uniform()
    first = recipe.augment(open_image(image), size, draws)
    return Image.blend(recipe.augment(open_image(partner), size, draws), first, share)
