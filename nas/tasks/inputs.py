"""From uint8 images to the input of a network.

Normalisation, flips, perturbations; traced by JAX.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def normalise(images: jax.Array, mean: float, std: float) -> jax.Array:
    """Normalise images: (x / 255 - mean) / std.

    Args:
      images: uint8 [..., h, w, c].
      mean: Subtracted after division by 255.
      std: Divisor after that.

    Returns:
      float32 [..., h, w, c].
    """
    return (images.astype(jnp.float32) / 255 - mean) / std


def flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Flip each image horizontally with probability 1/2.

    Args:
      images: [b, h, w, c].
      key: Random key; consumed.

    Returns:
      [b, h, w, c].
    """
    flipped = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def noisy(x: jax.Array, deviation: float, key: jax.Array) -> jax.Array:
    """Add Gaussian noise.

    Args:
      x: [b, h, w, c].
      deviation: Standard deviation of the noise.
      key: Random key; consumed.

    Returns:
      [b, h, w, c].
    """
    return x + deviation * jax.random.normal(key, x.shape, x.dtype)


def adversarial(loss: Callable[[jax.Array], jax.Array], x: jax.Array, epsilon: float) -> jax.Array:
    """Move each pixel in the direction that raises the loss: x + epsilon * sign(d loss / d x).

    Args:
      loss: From images to a scalar.
      x: [b, h, w, c].
      epsilon: Step size, in the unit of `x`.

    Returns:
      [b, h, w, c]; a constant to differentiation.

    Source: Goodfellow et al. 2015 (arXiv 1412.6572), the fast gradient sign method.
    """
    return jax.lax.stop_gradient(x + epsilon * jnp.sign(jax.grad(loss)(x)))
