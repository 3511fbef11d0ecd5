"""Our own convolutions against XLA's, in value and in both gradients."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.model.layers import convolution as dense
from nas.model.layers import depthwise, native

SIZES = [(5, 6), (8, 5), (2, 1)]
"""(height, width): odd, even, smaller than a kernel, and not square."""

TOLERANCE = {jnp.float32: 2e-6, jnp.bfloat16: 2.0**-6}
"""Largest error relative to the largest magnitude, by dtype.

Sums are in another order; bfloat16 keeps 8 bits, and `shifted` may round after each term.
"""


class Form(NamedTuple):
    """A kind of convolution: the switch, our form, XLA's form, and a kernel's axes after k x k."""

    switch: Callable[..., jax.Array]
    fast: Callable[..., jax.Array]
    plain: Callable[..., jax.Array]
    channels: tuple[int, ...]


FORMS = {
    "depthwise": Form(depthwise.depthwise, depthwise.shifted, depthwise.plain, (3,)),
    "native": Form(depthwise.depthwise, native.depthwise, depthwise.plain, (11,)),
    "dense": Form(dense.convolution, dense.by_products, dense.plain, (3, 4)),
}


def _form(name: str) -> Form:
    if name == "native" and not native.available():
        pytest.skip("no C++ compiler")
    return FORMS[name]


def _arrays(
    form: Form, size: tuple[int, int], kernel: int, stride: int, dtype: Any
) -> tuple[jax.Array, ...]:
    """Input, kernel and cotangent, random."""
    rng = np.random.default_rng([*size, kernel, stride])
    out = (-(-length // stride) for length in size)
    shapes = [
        (2, *size, form.channels[0]),
        (kernel, kernel, *form.channels),
        (2, *out, form.channels[-1]),
    ]
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def _value_and_gradients(
    function: Callable[..., jax.Array], x: Any, kernel: Any, dy: Any
) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(dy)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(
    ("name", "kernel", "stride"),
    [
        *itertools.product(FORMS, (3, 5), (1, 2)),
        ("dense", 1, 2),
        ("dense", 4, 4),
        ("depthwise", 3, 3),
        ("native", 3, 3),
    ],
)
def test_equals_the_stock_convolution(name: str, kernel: int, stride: int, dtype: Any) -> None:
    form = _form(name)

    @jax.jit
    def all_sizes(inputs: Any) -> Any:
        fast = [
            _value_and_gradients(functools.partial(form.fast, stride=stride), *arrays)
            for arrays in inputs
        ]
        exact = [[array.astype(jnp.float32) for array in arrays] for arrays in inputs]
        return fast, [
            _value_and_gradients(functools.partial(form.plain, stride=stride), *arrays)
            for arrays in exact
        ]

    sizes = SIZES if dtype == jnp.float32 else SIZES[:1]
    results = all_sizes([_arrays(form, size, kernel, stride, dtype) for size in sizes])
    for size, fast, stock in zip(sizes, *results, strict=True):
        _check(fast, stock, dtype, size)


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("name", FORMS)
def test_the_switch_by_platform_keeps_value_and_gradients(name: str, jit: bool) -> None:
    form = _form(name)
    arrays = _arrays(form, (6, 5), 3, 2, jnp.float32)
    run = functools.partial(_value_and_gradients, functools.partial(form.switch, stride=2))
    stock = _value_and_gradients(functools.partial(form.plain, stride=2), *arrays)
    _check((jax.jit(run) if jit else run)(*arrays), stock, jnp.float32, (6, 5))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("name", FORMS)
def test_symmetric_padding_has_half_a_kernel_at_each_end(name: str, kernel: int) -> None:
    """On CPU, and as XLA's own operation, against an explicit padding of k // 2."""
    form = _form(name)

    def stock(x: jax.Array, kernel: jax.Array) -> jax.Array:
        size = len(kernel)
        padded = jnp.pad(x, ((0, 0), *[(size // 2, size // 2)] * 2, (0, 0)))
        grouped = kernel if kernel.ndim == 4 else kernel[:, :, None]
        y = jax.lax.conv_general_dilated(
            *(padded, grouped, (2, 2), "VALID"),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=1 if kernel.ndim == 4 else x.shape[3],
        )
        return y

    for size in ((8, 6), (7, 6), (4, 9)):
        arrays = _arrays(form, size, kernel, 2, jnp.float32)
        wanted = _value_and_gradients(stock, *arrays)
        for way in (form.switch, form.plain):
            run = functools.partial(way, stride=2, padding="symmetric")
            _check(_value_and_gradients(run, *arrays), wanted, jnp.float32, size)


def _check(fast: Any, stock: Any, dtype: Any, size: tuple[int, int]) -> None:
    for name, got, want in zip(("y", "dx", "dkernel"), fast, stock, strict=True):
        assert got.shape == want.shape and got.dtype == dtype, (size, name)
        error = np.abs(got.astype(jnp.float32) - want).max() / np.abs(want).max()
        assert error <= TOLERANCE[dtype], (size, name, error)


def _formula(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """The sum of the docstrings, term by term."""
    batch, height, width, _ = x.shape
    size, out = len(kernel), (-(-height // stride), -(-width // stride))
    pads = [
        max((o - 1) * stride + size - n, 0) // 2 for o, n in zip(out, (height, width), strict=True)
    ]
    y = np.zeros((batch, *out, kernel.shape[-1]))
    for i, j, u, v in np.ndindex(*out, size, size):
        row, column = stride * i + u - pads[0], stride * j + v - pads[1]
        if 0 <= row < height and 0 <= column < width:
            pixels = x[:, row, column]
            y[:, i, j] += pixels * kernel[u, v] if kernel.ndim == 3 else pixels @ kernel[u, v]
    return y


@pytest.mark.parametrize("way", ["switch", "fast", "plain"])
@pytest.mark.parametrize("name", FORMS)
def test_equals_its_formula_without_jit(name: str, way: str) -> None:
    form = _form(name)
    x, kernel, _ = _arrays(form, (6, 5), 5, 2, jnp.float32)
    want = _formula(np.asarray(x, np.float64), np.asarray(kernel, np.float64), 2)
    np.testing.assert_allclose(getattr(form, way)(x, kernel, stride=2), want, atol=1e-5)
