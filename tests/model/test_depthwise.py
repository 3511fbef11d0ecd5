"""The fast depthwise convolution against the stock one, in value and in both gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.model.layers.depthwise import depthwise, plain, shifted

SIZES = [(5, 6), (8, 5), (2, 1)]
"""(height, width): odd, even, smaller than a kernel, and not square."""

TOLERANCE = {jnp.float32: 2e-6, jnp.bfloat16: 2.0**-6}
"""Of the largest magnitude: sums in another order; bfloat16 keeps 8 bits, and `shifted` may round after each term."""


def _arrays(size: tuple[int, int], kernel: int, stride: int, dtype: Any, channels: int = 3) -> tuple[jax.Array, ...]:
    """Input, kernel and cotangent, random."""
    rng = np.random.default_rng([*size, kernel, stride])
    height, width = (-(-length // stride) for length in size)
    shapes = [(2, *size, channels), (kernel, kernel, channels), (2, height, width, channels)]
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def _value_and_gradients(function: Callable[..., jax.Array], x: Any, kernel: Any, dy: Any) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(dy)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_equals_the_stock_convolution(kernel: int, stride: int, dtype: Any) -> None:
    @jax.jit
    def all_sizes(inputs: Any) -> Any:
        fast = [_value_and_gradients(functools.partial(shifted, stride=stride), *arrays) for arrays in inputs]
        exact = [[array.astype(jnp.float32) for array in arrays] for arrays in inputs]
        return fast, [_value_and_gradients(functools.partial(plain, stride=stride), *arrays) for arrays in exact]

    sizes = SIZES if dtype == jnp.float32 else SIZES[:1]
    results = all_sizes([_arrays(size, kernel, stride, dtype) for size in sizes])
    for size, fast, stock in zip(sizes, *results, strict=True):
        _check(fast, stock, dtype, size)


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_the_switch_by_platform_keeps_value_and_gradients(jit: bool) -> None:
    arrays = _arrays((6, 5), 3, 2, jnp.float32)
    run = functools.partial(_value_and_gradients, functools.partial(depthwise, stride=2))
    stock = _value_and_gradients(functools.partial(plain, stride=2), *arrays)
    _check((jax.jit(run) if jit else run)(*arrays), stock, jnp.float32, (6, 5))


def _check(fast: Any, stock: Any, dtype: Any, size: tuple[int, int]) -> None:
    for name, got, want in zip(("y", "dx", "dkernel"), fast, stock, strict=True):
        assert got.shape == want.shape and got.dtype == dtype, (size, name)
        error = np.abs(got.astype(jnp.float32) - want).max() / np.abs(want).max()
        assert error <= TOLERANCE[dtype], (size, name, error)


def _formula(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """The sum of `depthwise`'s docstring, term by term."""
    batch, height, width, channels = x.shape
    size, out = len(kernel), (-(-height // stride), -(-width // stride))
    pads = [max((o - 1) * stride + size - n, 0) // 2 for o, n in zip(out, (height, width), strict=True)]
    y = np.zeros((batch, *out, channels))
    for i, j, u, v in np.ndindex(*out, size, size):
        row, column = stride * i + u - pads[0], stride * j + v - pads[1]
        if 0 <= row < height and 0 <= column < width:
            y[:, i, j] += x[:, row, column] * kernel[u, v]
    return y


@pytest.mark.parametrize("form", [shifted, plain, depthwise])
def test_equals_its_formula_without_jit(form: Callable[..., jax.Array]) -> None:
    x, kernel, _ = _arrays((6, 5), 5, 2, jnp.float32)
    want = _formula(np.asarray(x, np.float64), np.asarray(kernel, np.float64), 2)
    np.testing.assert_allclose(form(x, kernel, stride=2), want, atol=1e-5)
