"""Depthwise convolution: XLA's own on accelerators, in C++ or as a sum of products on CPU.

XLA's grouped convolution on CPU is 4 to 40 times slower than the sum of shifted products, which
fuses into one loop over memory. The sum takes about twice the time of the C++ form
(experiments/RESULTS.md).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from nas.model.layers import convolution, native, portable, windows
from nas.model.layers.windows import fold, pad, spread, taps, window
from search_spaces.ops import Padding


def depthwise(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = "same"
) -> jax.Array:
    """Convolve every channel with padding, p pixels before the first.

    y[b, i, j, c] = sum over u, v of x[b, s*i + u - p, s*j + v - p, c] * kernel[u, v, c]

    Args:
      x: [b, h, w, c].
      kernel: [k, k, c].
      stride: Stride s in both directions.
      padding: Zeros around the image.

    Returns:
      [b, ceil(h / s), ceil(w / s), c].
    """
    if portable.active():
        return plain(x, kernel, stride=stride, padding=padding)
    on_cpu = native.depthwise if native.available() else shifted
    if padding == "symmetric":
        on_cpu = functools.partial(windows.mirrored, on_cpu)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(on_cpu, stride=stride),
        default=functools.partial(plain, stride=stride, padding=padding),
    )


def plain(x: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding = "same") -> jax.Array:
    """Convolve as `depthwise` does, by XLA's own grouped convolution.

    Args:
      x: [b, h, w, c].
      kernel: [k, k, c].
      stride: Stride s in both directions.
      padding: Zeros around the image.

    Returns:
      [b, ceil(h / s), ceil(w / s), c].
    """
    return convolution.plain(
        x, kernel[:, :, None], stride=stride, groups=x.shape[-1], padding=padding
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    size, out = kernel.shape[0], (-(-x.shape[1] // stride), -(-x.shape[2] // stride))
    padded = pad(x, size, stride)
    products = (window(padded, u, v, stride, out) * kernel[u, v] for u, v in taps(size))
    return sum(products, start=jnp.zeros((), x.dtype))


def shifted(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolve as `depthwise` does, by a sum of shifted images, each times a kernel weight.

    Args:
      x: [b, h, w, c].
      kernel: [k, k, c].
      stride: Stride s in both directions.

    Returns:
      [b, ceil(h / s), ceil(w / s), c].
    """
    return _shifted(x, kernel, stride)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _shifted(x, kernel, stride), (x, kernel)


def _backward(
    stride: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size = kernel.shape[0]
    dx = fold(
        spread(dy, x.shape, size, stride), x.shape, size, stride, lambda g, u, v: g * kernel[u, v]
    )
    return dx, _kernel_gradient(x, dy, kernel, stride)


_shifted.defvjp(_forward, _backward)


def _kernel_gradient(x: jax.Array, dy: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Gradient of the kernel.

    dkernel[u, v, c] = sum over b, i, j of x[b, s*i + u - p, s*j + v - p, c] * dy[b, i, j, c]

    It reads only the pixels that a tap meets, so nothing is padded. The products of one image after
    the other are added elementwise to one accumulator for each tap, and the accumulators are summed
    over i, j at the end. XLA vectorises that; a reduction of each product is 3 to 4 times slower
    (measured).
    """
    size = kernel.shape[0]
    spans = [
        [
            _seen(pixels, out, tap, size, stride)
            for pixels, out, tap in zip(x.shape[1:], dy.shape[1:], at, strict=False)
        ]
        for at in taps(size)
    ]

    def add(
        totals: tuple[jax.Array, ...], image: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, ...], None]:
        xi, gi = image[0], image[1].astype(jnp.float32)
        products = (
            xi[rows.pixels, columns.pixels] * gi[rows.outputs, columns.outputs]
            for rows, columns in spans
        )
        return tuple(total + product for total, product in zip(totals, products, strict=True)), None

    zeros = tuple(
        jnp.zeros((rows.length, columns.length, dy.shape[3]), jnp.float32)
        for rows, columns in spans
    )
    totals, _ = lax.scan(add, zeros, (x, dy))
    return (
        jnp.stack([total.sum((0, 1)) for total in totals])
        .reshape(kernel.shape)
        .astype(kernel.dtype)
    )


class _Seen(NamedTuple):
    """Outputs along one axis for which a tap lies on a pixel, and these pixels."""

    outputs: slice
    pixels: slice
    length: int


def _seen(pixels: int, out: int, tap: int, size: int, stride: int) -> _Seen:
    # output i meets pixel stride * i + offset
    offset = tap - windows.padding(pixels, size, stride)[0]
    first, end = max(0, -(offset // stride)), min(out, (pixels - 1 - offset) // stride + 1)
    length = max(end - first, 0)
    start = stride * first + offset if length else 0
    return _Seen(
        slice(first, first + length), slice(start, start + stride * length, stride), length
    )
