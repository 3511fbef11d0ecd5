"""Windows of a "SAME" convolution as shifted slices, for this package's convolutions on CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax

from search_spaces.ops import Padding


def padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Compute TensorFlow's "SAME" padding along one axis.

    Args:
      length: Pixels of the input.
      size: Side of a window.
      stride: Stride of the windows.

    Returns:
      Pixels to add before and after, so that ceil(length / stride) windows fit; the smaller half
      comes first.
    """
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def pad(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Pad images with zeros as a "SAME" convolution does.

    Args:
      x: [b, h, w, c].
      size: Side of a window.
      stride: Stride of the windows.

    Returns:
      [b, h + ph, w + pw, c].
    """
    return jnp.pad(
        x, ((0, 0), padding(x.shape[1], size, stride), padding(x.shape[2], size, stride), (0, 0))
    )


def mirrored(
    convolve: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, *, stride: int
) -> jax.Array:
    """Convolve with symmetric padding by a function that pads as a "SAME" convolution does.

    Symmetric padding has the odd pixel at the other end, so both image and kernel are mirrored
    along the axes that have one, and so is the result.

    Args:
      convolve: Function of (x, kernel, stride=stride).
      x: [b, h, w, c].
      kernel: [k, k, ...].
      stride: Stride s in both directions.

    Returns:
      [b, ceil(h / s), ceil(w / s), d].
    """
    halves = [padding(length, kernel.shape[0], stride) for length in x.shape[1:3]]
    axes = [axis for axis, (low, high) in enumerate(halves, 1) if low != high]
    if not axes:
        return convolve(x, kernel, stride=stride)
    kernel = jnp.flip(kernel, [axis - 1 for axis in axes])
    return jnp.flip(convolve(jnp.flip(x, axes), kernel, stride=stride), axes)


def explicit(
    shape: tuple[int, ...], size: int, stride: int, kind: Padding
) -> list[tuple[int, int]]:
    """Pixels that a convolution adds before and after, along the height and the width.

    Args:
      shape: [b, h, w, c] of the input.
      size: Side of a window.
      stride: Stride of the windows.
      kind: Padding of the convolution.
    """
    halves = [padding(length, size, stride) for length in shape[1:3]]
    return halves if kind == "same" else [(high, low) for low, high in halves]


def taps(size: int) -> Iterator[tuple[int, int]]:
    """Iterate over the positions (u, v) of a kernel, row by row.

    Args:
      size: Side of the kernel.
    """
    return itertools.product(range(size), range(size))


def window(padded: jax.Array, u: int, v: int, stride: int, out: tuple[int, int]) -> jax.Array:
    """Slice the pixels (u + stride * i, v + stride * j) out of every image.

    Args:
      padded: [b, h, w, c], from `pad`.
      u: First row.
      v: First column.
      stride: Distance of the rows, and of the columns.
      out: Number of rows i and columns j.

    Returns:
      [b, *out, c].
    """
    limits = (
        padded.shape[0],
        u + stride * (out[0] - 1) + 1,
        v + stride * (out[1] - 1) + 1,
        padded.shape[3],
    )
    return lax.slice(padded, (0, u, v, 0), limits, (1, stride, stride, 1))


def patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Collect the pixels of every window along the channel axis.

    Args:
      x: [b, h, w, c].
      size: Side of a window.
      stride: Stride s of the windows.

    Returns:
      [b, ceil(h / s), ceil(w / s), size * size * c].
    """
    padded, out = pad(x, size, stride), (-(-x.shape[1] // stride), -(-x.shape[2] // stride))
    return jnp.concatenate([window(padded, u, v, stride, out) for u, v in taps(size)], -1)


def spread(dy: jax.Array, shape: tuple[int, ...], size: int, stride: int) -> jax.Array:
    """Pad the gradient of a convolution's output with the zeros that `fold` reads.

    Args:
      dy: [b, ceil(h / s), ceil(w / s), d].
      shape: [b, h, w, c] of the convolution's input.
      size: Side of a window.
      stride: Stride s of the windows.

    Returns:
      [b, h', w', d].
    """
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
    """Compute the adjoint of all windows.

    dx[b, y, x, c] = sum over taps (u, v) that meet (y, x) of term(dy there, u, v)

    It works on one residue of the pixels modulo the stride after the other, because only every
    stride-th tap meets a given residue.

    Args:
      dy: [b, h', w', d], from `spread`.
      shape: [b, h, w, c] of dx.
      size: Side of a window.
      stride: Stride s of the windows.
      term: Function of (pixels [b, ceil(h / s), ceil(w / s), d] of dy, u, v) that returns
        [b, ceil(h / s), ceil(w / s), c].

    Returns:
      [b, h, w, c].
    """
    out = (-(-shape[1] // stride), -(-shape[2] // stride))
    low = [padding(length, size, stride)[0] for length in shape[1:3]]

    def residue(rest: tuple[int, int]) -> jax.Array:
        total = jnp.zeros((shape[0], *out, shape[3]), dy.dtype)
        for tap in taps(size):
            places = [divmod(r + p - t, stride) for r, p, t in zip(rest, low, tap, strict=True)]
            if not any(remainder for _, remainder in places):
                i, j = (
                    at - (p + 1 - size) // stride for (at, _), p in zip(places, low, strict=True)
                )
                total = total + term(window(dy, i, j, 1, out), *tap)
        return total

    rows = [jnp.stack([residue((r, q)) for q in range(stride)], 3) for r in range(stride)]
    dx = jnp.stack(rows, 2).reshape(shape[0], stride * out[0], stride * out[1], shape[3])
    return dx[:, : shape[1], : shape[2]]
