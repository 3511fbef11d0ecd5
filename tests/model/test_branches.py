"""Weighted sums of branches against the plain version, in value and in every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.model.layers.branches import Branch, weighted_sum, weighted_sum_reference

SHARES = {
    "the first": [1.0, 0.0, 0.0],
    "the last": [0.0, 0.0, 1.0],
    "average": [1 / 3, 1 / 3, 1 / 3],
    "softmax": [0.2, 0.5, 0.3],
    "one of them 0": [0.6, 0.0, 0.4],
    "not normalised": [2.0, 0.5, 1.5],
}

Weights = tuple[jax.Array, jax.Array]


def _with_identity(a: jax.Array, b: jax.Array) -> list[Branch | None]:
    """No function, a function with a mask (an array without a derivative), another function."""
    mask = jnp.arange(3) < jnp.int32(2)
    return [None, lambda x: jnp.where(mask, jnp.tanh(x @ a), 0), lambda x: jnp.sin(x * b) @ a]


def _of_another_shape(a: jax.Array, b: jax.Array) -> list[Branch | None]:
    """Functions from [n, 3] to [n]."""
    return [lambda x: (x @ a)[:, 0], lambda x: jnp.cos(x) @ b, lambda x: (x * b).sum(-1)]


def _nested(a: jax.Array, b: jax.Array) -> list[Branch | None]:
    """A branch that is a weighted sum itself, with shares that are closed over."""
    inner = jnp.array([0.3, 0.7, 0.0])
    return [
        lambda x: weighted_sum(inner, _with_identity(a, b), x, differentiable=True),
        None,
        lambda x: x * b,
    ]


BRANCHES: dict[str, Callable[[jax.Array, jax.Array], list[Branch | None]]] = {
    "with identity": _with_identity,
    "of another shape": _of_another_shape,
    "nested": _nested,
}


def _random(*shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def _value_and_gradients(total: Callable[..., jax.Array], branches: Callable[..., Any]) -> Any:
    """Function of (shares, x, weights): the sum, and the gradients of a loss for all of them."""

    @jax.jit
    def run(shares: jax.Array, x: jax.Array, weights: Weights) -> Any:
        def loss(shares: jax.Array, x: jax.Array, weights: Weights) -> tuple[jax.Array, jax.Array]:
            y = total(shares, branches(*weights), x)
            return (jnp.cos(jnp.arange(y.size)).reshape(y.shape) * y).sum(), y

        (_, y), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(shares, x, weights)
        return y, gradients

    return run


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("kind", BRANCHES)
def test_agrees_with_the_plain_version(kind: str, differentiable: bool) -> None:
    def ours(shares: jax.Array, branches: list[Branch | None], x: jax.Array) -> jax.Array:
        return weighted_sum(shares, branches, x, differentiable=differentiable)

    fast = _value_and_gradients(ours, BRANCHES[kind])
    plain = _value_and_gradients(weighted_sum_reference, BRANCHES[kind])
    x, a, b = _random((4, 3), (3, 3), (3,))
    for name, values in SHARES.items():
        shares = jnp.array(values)
        y, (d_shares, *others) = fast(shares, x, (a, b))
        want_y, (want_shares, *want_others) = plain(shares, x, (a, b))
        np.testing.assert_allclose(y, want_y, rtol=1e-5, atol=1e-6, err_msg=name)
        jax.tree.map(
            lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5),
            others,
            want_others,
        )
        ran = np.array(values) > 0
        want = np.where(ran, want_shares, 0) if differentiable else np.zeros(3)
        np.testing.assert_allclose(d_shares, want, rtol=1e-5, atol=1e-5, err_msg=name)
        assert not differentiable or np.abs(want_shares).min() > 1e-2, "the test could not fail"


@pytest.mark.parametrize("differentiable", [False, True])
def test_only_branches_with_a_share_run_forward_and_backward(differentiable: bool) -> None:
    runs: list[int] = []

    def branch(number: int) -> Branch:
        def run(x: jax.Array) -> jax.Array:
            jax.debug.callback(lambda: runs.append(number))
            return x * (number + 1.0)

        return run

    def total(x: jax.Array) -> jax.Array:
        shares = jnp.array([0.5, 0.0, 0.5])
        branches = [branch(number) for number in range(3)]
        return weighted_sum(shares, branches, x, differentiable=differentiable)

    y, gradient = jax.value_and_grad(total)(jnp.array(2.0))
    jax.effects_barrier()
    assert (float(y), float(gradient)) == (4.0, 2.0)
    assert sorted(runs) == [0, 0, 2, 2]


def test_a_batch_of_shares() -> None:
    """Under `jax.vmap`, as for several policies at once: row by row the same as alone."""
    x, a, b = _random((4, 3), (3, 3), (3,))
    shares = jnp.array(list(SHARES.values()))

    def loss(shares: jax.Array) -> jax.Array:
        return (weighted_sum(shares, _with_identity(a, b), x, differentiable=True) ** 2).sum()

    together = jax.jit(jax.vmap(jax.value_and_grad(loss)))(shares)
    alone = [jax.value_and_grad(loss)(row) for row in shares]
    for position, (value, gradient) in enumerate(alone):
        np.testing.assert_allclose(together[0][position], value, rtol=1e-5)
        np.testing.assert_allclose(together[1][position], gradient, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_shares_is_float32_for_activations_in_bfloat16() -> None:
    x, a, b = _random((4, 3), (3, 3), (3,))
    shares, half = jnp.array([0.2, 0.5, 0.3]), jnp.bfloat16

    def loss(shares: jax.Array, dtype: Any) -> jax.Array:
        branches = _with_identity(a.astype(dtype), b.astype(dtype))
        y = weighted_sum(shares, branches, x.astype(dtype), differentiable=True)
        assert y.dtype == dtype
        return (y.astype(jnp.float32) ** 2).sum()

    got, want = jax.grad(loss)(shares, half), jax.grad(loss)(shares, jnp.float32)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=0.03)
