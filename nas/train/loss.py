"""From uint8 images and class probabilities to a loss: shared by the search and by stand-alone training."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def normalise(images: jax.Array, mean: float, std: float) -> jax.Array:
    """uint8 [..., h, w, c] -> float32 (x / 255 - mean) / std."""
    return (images.astype(jnp.float32) / 255 - mean) / std


def flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """[b, h, w, c], each image mirrored left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def noisy(x: jax.Array, deviation: float, key: jax.Array) -> jax.Array:
    """x [b, h, w, c] with Gaussian noise of this standard deviation."""
    return x + deviation * jax.random.normal(key, x.shape, x.dtype)


def adversarial(loss: Callable[[jax.Array], jax.Array], x: jax.Array, epsilon: float) -> jax.Array:
    """x + epsilon * sign(d loss / d x): the images [b, h, w, c] as they are hardest nearby; a constant.

    Source: Goodfellow et al. 2015 (arXiv 1412.6572), the fast gradient sign method.
    """
    return jax.lax.stop_gradient(x + epsilon * jnp.sign(jax.grad(loss)(x)))


def cross_entropy(logits: jax.Array, targets: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Mean over b of -sum_k q_k log softmax(logits)_k, q = (1 - smoothing) * targets + smoothing / classes.

    Args:
      logits, targets: [b, classes].
      smoothing: 0..1.

    Returns:
      [] float32.
    """
    q = (1 - smoothing) * targets + smoothing / targets.shape[-1]
    return -(q * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1).mean()
