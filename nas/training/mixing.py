"""Mixup and CutMix of a batch; traced by JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from nas.run.train_config import MixConfig


def mixed(
    x: jax.Array, targets: jax.Array, key: jax.Array, config: MixConfig
) -> tuple[jax.Array, jax.Array]:
    """Mix each image with the one at the mirrored place of the batch, or none of them.

    Mixup: share * x + (1 - share) * x[::-1], share ~ Beta(a, a).
    CutMix: a box of x[::-1] that covers 1 - share of the image; at an edge it is cut, and the share
    is that of what is left.
    Targets are mixed by the same share.

    Args:
      x: Normalised images [b, h, w, c].
      targets: Class probabilities [b, classes].
      key: Random key; consumed.
      config: Probabilities and distributions.

    Returns:
      Images and targets of the same shapes.

    Source: Zhang et al. 2018 (arXiv 1710.09412), Yun et al. 2019 (arXiv 1905.04899); one share for
    a batch and the mirrored order as in public training code, where the paper is silent.
    """
    keys = jax.random.split(key, 5)
    cuts = jax.random.bernoulli(keys[0], config.switch)
    share = jnp.where(
        cuts,
        jax.random.beta(keys[1], config.cutmix, config.cutmix),
        jax.random.beta(keys[2], config.mixup, config.mixup),
    )
    _, height, width, _ = x.shape
    kept = jnp.where(cuts, _outside_of_box(share, height, width, keys[3]), share)
    kept = jnp.where(jax.random.bernoulli(keys[4], config.probability), kept, 1.0)
    pixels = kept[None, :, :, None].astype(x.dtype)
    share = kept.mean()
    return (
        pixels * x + (1 - pixels) * x[::-1],
        share * targets + (1 - share) * targets[::-1],
    )


def _outside_of_box(share: jax.Array, height: int, width: int, key: jax.Array) -> jax.Array:
    """[h, w]: 0 inside a random box that would cover 1 - share of the image, 1 outside."""
    side = jnp.sqrt(1 - share)
    centre = jax.random.uniform(key, (2,))

    def inside(size: int, middle: jax.Array) -> jax.Array:
        half, at = side * size / 2, jnp.arange(size) + 0.5
        return jnp.abs(at - middle * size) < half

    box = inside(height, centre[0])[:, None] & inside(width, centre[1])[None]
    return 1.0 - box.astype(jnp.float32)
