"""Depthwise convolution: stock on accelerators, a sum of shifted products with its own derivative on CPU.

XLA's grouped convolution on CPU is 4 to 40 times slower than this sum, which fuses into one loop over memory.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise convolution with "SAME" padding (TensorFlow's: the odd pixel goes to the end).

    y[b, i, j, c] = sum over u, v of x[b, s*i + u - p, s*j + v - p, c] * kernel[u, v, c]

    Args:
      x: [b, h, w, c].
      kernel: [k, k, c].
      stride: s.

    Returns:
      [b, ceil(h / s), ceil(w / s), c].
    """
    return lax.platform_dependent(
        x, kernel, cpu=functools.partial(shifted, stride=stride), default=functools.partial(plain, stride=stride)
    )


def plain(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """As `depthwise`, by the stock grouped convolution."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    size = kernel.shape[0]
    padded = jnp.pad(x, ((0, 0), _padding(x.shape[1], size, stride), _padding(x.shape[2], size, stride), (0, 0)))
    return _window_sum(padded, kernel, stride, (-(-x.shape[1] // stride), -(-x.shape[2] // stride)))


def shifted(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """As `depthwise`, as a sum over the kernel's positions of shifted images times their weight."""
    return _shifted(x, kernel, stride)


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _shifted(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _input_gradient(dy, kernel, x.shape, stride), _kernel_gradient(x, dy, kernel, stride)


_shifted.defvjp(_forward, _backward)


def _input_gradient(dy: jax.Array, kernel: jax.Array, shape: tuple[int, ...], stride: int) -> jax.Array:
    """dx: the same sum with the flipped kernel over dy, its pixels spread `stride` apart."""
    size, flipped = kernel.shape[0], kernel[::-1, ::-1]
    config = []
    for length, out in zip(shape[1:3], dy.shape[1:3], strict=True):
        low = size - 1 - _padding(length, size, stride)[0]
        config.append((low, length + size - 1 - low - ((out - 1) * stride + 1), stride - 1))
    spread = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    return _window_sum(spread, flipped, 1, (shape[1], shape[2]))


def _kernel_gradient(x: jax.Array, dy: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """dkernel[u, v, c] = sum over b, i, j of x[b, s*i + u - p, s*j + v - p, c] * dy[b, i, j, c].

    Image after image is added to one accumulator a tap, elementwise; only at the end are those summed over i, j. XLA
    turns that into one vectorised loop, but a reduction of each product into a slow one (3 to 4 times slower,
    measured).
    """
    size, out = kernel.shape[0], (dy.shape[1], dy.shape[2])
    pads = ((0, 0), _padding(x.shape[1], size, stride), _padding(x.shape[2], size, stride), (0, 0))
    padded = lax.optimization_barrier(jnp.pad(x, pads))  # else the padding is computed again for every tap
    taps = list(itertools.product(range(size), range(size)))

    def add(totals: tuple[jax.Array, ...], image: tuple[jax.Array, jax.Array]) -> tuple[tuple[jax.Array, ...], None]:
        xi, gi = image[0][None], image[1].astype(jnp.float32)
        windows = (_window(xi, u, v, stride, out)[0] for u, v in taps)
        return tuple(total + window * gi for total, window in zip(totals, windows, strict=True)), None

    zeros = tuple(jnp.zeros(dy.shape[1:], jnp.float32) for _ in taps)
    totals, _ = lax.scan(add, zeros, (padded, dy))
    return jnp.stack(totals).sum((1, 2)).reshape(kernel.shape).astype(kernel.dtype)


def _window_sum(padded: jax.Array, kernel: jax.Array, stride: int, out: tuple[int, int]) -> jax.Array:
    size = kernel.shape[0]
    windows = (_window(padded, u, v, stride, out) * kernel[u, v] for u in range(size) for v in range(size))
    return sum(windows, start=jnp.zeros((), padded.dtype))


def _window(padded: jax.Array, u: int, v: int, stride: int, out: tuple[int, int]) -> jax.Array:
    """Pixels (u + stride*i, v + stride*j) of every image."""
    limits = (padded.shape[0], u + stride * (out[0] - 1) + 1, v + stride * (out[1] - 1) + 1, padded.shape[3])
    return lax.slice(padded, (0, u, v, 0), limits, (1, stride, stride, 1))


def _padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME": total so that ceil(length / stride) windows fit, the smaller half first."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2
