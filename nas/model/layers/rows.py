"""Sums over rows: products with their derivatives, statistics of channels, lengths of vectors.

On CPU the order of XLA's own sums depends on its number of threads, so that one process with two
cores and two processes with one core each would train different weights. The sums of the C++
library (`native`) take an order that depends on shapes alone, and half the time. Without that
library, and on accelerators, XLA's sums are used.

Letters: r rows, c and d channels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from nas.model.layers import native

_WIDTH = 512  # columns into which a vector is folded before it is summed


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiply the channels of every pixel by a matrix.

    Args:
      x: [..., c].
      kernel: [c, d], of the same dtype.

    Returns:
      [..., d].
    """
    return _product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return x @ kernel


def _product_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return dy @ kernel.T, products(x, dy)


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


def products(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Sum over the rows of outer products: x.T @ dy; it has no derivative.

    Args:
      x: [r, c].
      dy: [r, d], of the same dtype.

    Returns:
      [c, d].
    """
    on_cpu = native.row_products if native.available() else _products
    return lax.platform_dependent(x, dy, cpu=on_cpu, default=_products)


def _products(x: jax.Array, dy: jax.Array) -> jax.Array:
    return x.T @ dy


def sums(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums over all axes but the channels; they have no derivative.

    Args:
      x: [..., c].
      y: [..., c], of the same dtype.

    Returns:
      The sum of y and the sum of x * y, [c] float32 each.
    """
    on_cpu = native.row_sums if native.available() else _sums
    rows = (x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
    return lax.platform_dependent(*rows, cpu=on_cpu, default=_sums)


def _sums(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    y32 = y.astype(jnp.float32)
    return y32.sum(0), (x.astype(jnp.float32) * y32).sum(0)


@jax.custom_vjp
def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means over all axes but the channels.

    Args:
      x: [..., c].

    Returns:
      The mean of x and the mean of x * x, [c] float32 each.
    """
    count = x.size // x.shape[-1]
    total, squares = sums(x, x)
    return total / count, squares / count


def _moments_backward(x: jax.Array, gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array]:
    count = x.size // x.shape[-1]
    of_mean, of_square = (gradient / count for gradient in gradients)
    return ((of_mean + 2 * x.astype(jnp.float32) * of_square).astype(x.dtype),)


moments.defvjp(lambda x: (moments(x), x), _moments_backward)


@jax.custom_vjp
def affine(x: jax.Array, gain: jax.Array, shift: jax.Array) -> jax.Array:
    """Scale and shift every channel.

    Args:
      x: [..., c].
      gain: [c] float32.
      shift: [c] float32.

    Returns:
      [..., c], with the dtype of x.
    """
    return (x * gain + shift).astype(x.dtype)


def _affine_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, gain = saved
    of_shift, of_gain = sums(x, dy)
    return (dy * gain).astype(x.dtype), of_gain, of_shift


affine.defvjp(lambda x, gain, shift: (affine(x, gain, shift), (x, gain)), _affine_backward)


@jax.custom_vjp
def add(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Add a bias to every pixel.

    Args:
      x: [..., c].
      bias: [c], of the same dtype.

    Returns:
      [..., c].
    """
    return x + bias


add.defvjp(lambda x, bias: (x + bias, None), lambda _, dy: (dy, sums(dy, dy)[0].astype(dy.dtype)))


def length(vector: jax.Array) -> jax.Array:
    """Euclidean length of a vector; it has no derivative.

    Args:
      vector: [n].

    Returns:
      [] float32.
    """
    rows = jnp.pad(vector, (0, -len(vector) % _WIDTH)).reshape(-1, _WIDTH)
    return jnp.sqrt(sums(rows, rows)[1].sum())
