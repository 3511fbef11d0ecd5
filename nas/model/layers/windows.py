"""The windows of a "SAME" convolution as shifted slices: what our own convolutions on CPU are made of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

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


def spread(dy: jax.Array, shape: tuple[int, ...], size: int, stride: int) -> jax.Array:
    """Gradient [b, h', w', d] of windows of images of `shape`, with the zeros around it that `fold` reads."""
    margins = []
    for length in shape[1:3]:
        low = padding(length, size, stride)[0]
        margins.append((-((low + 1 - size) // stride), (low + stride - 1) // stride))
    return jnp.pad(dy, ((0, 0), *margins, (0, 0)))


def fold(
    dy: jax.Array,
    shape: tuple[int, ...],
    size: int,
    stride: int,
    term: Callable[[jax.Array, int, int], jax.Array],
) -> jax.Array:
    """The adjoint of all windows: dx[b, y, x, c] = sum over taps (u, v) that see (y, x) of term(dy there, u, v).

    One residue of the pixels modulo the stride after the other, because each is seen by every stride-th tap only.

    Args:
      dy: from `spread`.
      shape: [b, h, w, c] of dx.
      size, stride: of the windows.
      term: (pixels [b, h / s, w / s, d] of dy, u, v) -> [b, h / s, w / s, c].
    """
    out = (-(-shape[1] // stride), -(-shape[2] // stride))
    low = [padding(length, size, stride)[0] for length in shape[1:3]]

    def residue(rest: tuple[int, int]) -> jax.Array:
        total = jnp.zeros((shape[0], *out, shape[3]), dy.dtype)
        for tap in taps(size):
            places = [divmod(r + p - t, stride) for r, p, t in zip(rest, low, tap, strict=True)]
            if not any(remainder for _, remainder in places):
                i, j = (at - (p + 1 - size) // stride for (at, _), p in zip(places, low, strict=True))
                total = total + term(window(dy, i, j, 1, out), *tap)
        return total

    rows = [jnp.stack([residue((r, q)) for q in range(stride)], 3) for r in range(stride)]
    dx = jnp.stack(rows, 2).reshape(shape[0], stride * out[0], stride * out[1], shape[3])
    return dx[:, : shape[1], : shape[2]]
