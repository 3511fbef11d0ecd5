"""Convolution without groups: XLA's own, with derivatives as matrix products on CPU.

XLA's own derivatives on CPU take 2 to 7 times as long (measured; the largest factors are those of
strided convolutions and of few input channels).
"""

from __future__ import annotations

import functools

import jax
from jax import lax

from nas.model.layers import portable, rows
from nas.model.layers.windows import explicit, fold, mirrored, patches, spread
from search_spaces.ops import Padding

_FEW = 16
"""Up to this many channels XLA takes a convolution whose sums depend on its number of threads.

Seen in XLA of jaxlib 0.10.2: `IsConvolutionOpSupportedByYnn`.
"""


def convolution(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = "same"
) -> jax.Array:
    """Convolve with padding, p pixels before the first.

    y[b, i, j, d] = sum over u, v, c of x[b, s*i + u - p, s*j + v - p, c] * kernel[u, v, c, d]

    Args:
      x: [b, h, w, c].
      kernel: [k, k, c, d].
      stride: Stride s in both directions.
      padding: Zeros around the image.

    Returns:
      [b, ceil(h / s), ceil(w / s), d].
    """
    if portable.active():
        return plain(x, kernel, stride=stride, padding=padding)
    if kernel.shape[0] == stride == 1:
        # a product of [b * h * w, c] is 4 times faster than the convolution
        return rows.product(x, kernel[0, 0])
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(
            by_products if padding == "same" else functools.partial(mirrored, by_products),
            stride=stride,
        ),
        default=functools.partial(plain, stride=stride, padding=padding),
    )


def plain(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    groups: int = 1,
    padding: Padding = "same",
) -> jax.Array:
    """Convolve as `convolution` does, by XLA's own operation.

    Args:
      x: [b, h, w, c].
      kernel: [k, k, c / groups, d].
      stride: Stride s in both directions.
      groups: Number of groups.
      padding: Zeros around the image.

    Returns:
      [b, ceil(h / s), ceil(w / s), d].
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME" if padding == "same" else explicit(x.shape, kernel.shape[0], stride, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def by_products(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolve as `plain` does, with derivatives as matrix products with the patches.

    The backward pass makes the patches again, because keeping them takes more memory.

    Args:
      x: [b, h, w, c].
      kernel: [k, k, c, d].
      stride: Stride s in both directions.

    Returns:
      [b, ceil(h / s), ceil(w / s), d].
    """
    return _by_products(x, kernel, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    size, _, channels, filters = kernel.shape
    if max(channels, filters) <= _FEW:
        return rows.product(patches(x, size, stride), kernel.reshape(-1, filters))
    return plain(x, kernel, stride=stride)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _by_products(x, kernel, stride), (x, kernel)


def _backward(
    stride: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size, _, channels, filters = kernel.shape
    to_patches = rows.product(spread(dy, x.shape, size, stride), kernel.reshape(-1, filters).T)

    def of_tap(columns: jax.Array, u: int, v: int) -> jax.Array:
        first = (u * size + v) * channels
        return columns[..., first : first + channels]

    columns = patches(x, size, stride).reshape(-1, size * size * channels)
    dkernel = rows.products(columns, dy.reshape(-1, filters)).reshape(kernel.shape)
    return fold(to_patches, x.shape, size, stride, of_tap), dkernel


_by_products.defvjp(_forward, _backward)
