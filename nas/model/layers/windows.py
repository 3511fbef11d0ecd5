"""The windows of a "SAME" convolution as shifted slices: what our own convolutions on CPU are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax


def padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME": total so that ceil(length / stride) windows fit, the smaller half first."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def pad(x: jax.Array, size: int, stride: int) -> jax.Array:
    """[b, h, w, c] -> [b, h + ph, w + pw, c], zeros around it."""
    return jnp.pad(x, ((0, 0), padding(x.shape[1], size, stride), padding(x.shape[2], size, stride), (0, 0)))


def taps(size: int) -> Iterator[tuple[int, int]]:
    """(u, v) of a size x size kernel, row by row."""
    return itertools.product(range(size), range(size))


def window(padded: jax.Array, u: int, v: int, stride: int, out: tuple[int, int]) -> jax.Array:
    """[b, *out, c]: pixels (u + stride*i, v + stride*j) of every image."""
    limits = (padded.shape[0], u + stride * (out[0] - 1) + 1, v + stride * (out[1] - 1) + 1, padded.shape[3])
    return lax.slice(padded, (0, u, v, 0), limits, (1, stride, stride, 1))


def patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """[b, h, w, c] -> [b, ceil(h / s), ceil(w / s), size*size*c]: all that a k x k kernel sees, side by side."""
    padded, out = pad(x, size, stride), (-(-x.shape[1] // stride), -(-x.shape[2] // stride))
    return jnp.concatenate([window(padded, u, v, stride, out) for u, v in taps(size)], -1)
