"""Weighted sums of branches, of which only those with a share above 0 run.

`weighted_sum` computes the same as `weighted_sum_reference`, which is the version to read first.
This is the only file that works on traced programs (`make_jaxpr`, `eval_jaxpr`, `custom_vjp`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr

Branch = Callable[[jax.Array], jax.Array]
"""A function of one array; traced arrays that it closes over (weights, masks) count as inputs."""


def weighted_sum_reference(
    shares: jax.Array, branches: Sequence[Branch | None], x: jax.Array
) -> jax.Array:
    """Sum of shares[i] * branch_i(x) in which every branch runs, with JAX's own derivatives.

    Args:
      shares: [branches] float.
      branches: Functions from x to one shape; None stands for x itself.
      x: Input of all branches.

    Returns:
      The sum, with the shape of a branch's output.
    """
    outputs = [x if branch is None else branch(x) for branch in branches]
    return sum(
        (share.astype(x.dtype) * y for share, y in zip(shares, outputs, strict=True)),
        start=jnp.zeros_like(outputs[0]),
    )


def weighted_sum(
    shares: jax.Array, branches: Sequence[Branch | None], x: jax.Array, *, differentiable: bool
) -> jax.Array:
    """Sum of shares[i] * branch_i(x) in which only branches with a share above 0 run.

    The backward pass runs those branches again. The derivative that JAX makes of a conditional
    keeps what any of its branches could need, as zeros for all that did not run: more memory
    traffic than a second run. Each branch stands in the program once; a `lax.switch` with the
    average as one more case has each of them twice, and takes longer to compile.

    Args:
      shares: [branches] float, not negative.
      branches: Functions from x to one shape; None stands for x itself.
      x: Input of all branches.
      differentiable: Whether a gradient flows to the shares. If so, the derivative for shares[i]
        is <dy, branch_i(x)> where the share is above 0. It is 0 where the share is 0, because that
        branch did not run; a softmax has no such shares.

    Returns:
      The sum, with the shape of a branch's output.
    """
    explicit = {i: _explicit(branch, x) for i, branch in enumerate(branches) if branch is not None}
    runs = {i: run for i, (run, _) in explicit.items()}
    constants_of = {i: constants for i, (_, constants) in explicit.items()}
    identities = [i for i, branch in enumerate(branches) if branch is None]

    def straight(weights: jax.Array, x: jax.Array, like: Any) -> jax.Array:
        """The terms of the branches that are x itself."""
        if not identities:
            return jnp.zeros(like.shape, like.dtype)
        return weights[jnp.array(identities)].sum() * x

    @jax.custom_vjp
    def total(shares: jax.Array, x: jax.Array, constants: Any) -> jax.Array:
        weights = shares.astype(x.dtype)
        outputs = (jax.eval_shape(run, x, constants[i]) for i, run in runs.items())
        y = straight(weights, x, next(outputs, x))
        for i, run in runs.items():
            add = functools.partial(_add, run)
            y = jax.lax.cond(weights[i] > 0, add, lambda y, *_: y, y, weights[i], x, constants[i])
        return y

    def forward(shares: jax.Array, x: jax.Array, constants: Any) -> tuple[jax.Array, Any]:
        return total(shares, x, constants), (shares, x, constants)

    def backward(saved: Any, dy: jax.Array) -> tuple[jax.Array | None, jax.Array, Any]:
        shares, x, constants = saved
        weights = shares.astype(x.dtype)
        zero = jnp.zeros((), jnp.float32) if differentiable else None
        dx, d_constants, d_shares = straight(weights, dy, x), {}, {}
        for i, run in runs.items():
            add = functools.partial(_add_gradient, run)
            dx, d_constants[i], d_shares[i] = jax.lax.cond(
                weights[i] > 0, add, _no_gradient, dx, zero, weights[i], dy, x, constants[i]
            )
        if not differentiable:
            return None, dx, d_constants
        for i in identities:
            d_shares[i] = jnp.where(weights[i] > 0, _inner_product(dy, x), 0)
        in_order = jnp.stack([d_shares[i] for i in range(len(branches))])
        return in_order.astype(shares.dtype), dx, d_constants

    total.defvjp(forward, backward)
    return total(shares, x, constants_of)


def _explicit(branch: Branch, x: jax.Array) -> tuple[Callable[..., jax.Array], list[jax.Array]]:
    """(run, constants) with run(x, constants) = branch(x): closed-over arrays become an argument.

    A custom derivative must not close over traced arrays, and `jax.closure_convert` leaves masks
    where they are.
    """
    closed = jax.make_jaxpr(branch)(x)
    return lambda x, constants: eval_jaxpr(closed.jaxpr, constants, x)[0], [
        jnp.asarray(array) for array in closed.consts
    ]


def _add(
    run: Any, y: jax.Array, share: jax.Array, x: jax.Array, constants: list[jax.Array]
) -> jax.Array:
    return y + share * run(x, constants)


def _add_gradient(
    run: Any,
    dx: jax.Array,
    zero: jax.Array | None,
    share: jax.Array,
    dy: jax.Array,
    x: jax.Array,
    constants: list[jax.Array],
) -> tuple[jax.Array, list[jax.Array | None], jax.Array | None]:
    """Add the branch's gradient to dx; return it with those of its constants and its share."""
    y, pull_back = jax.vjp(run, x, constants)
    more, d_constants = pull_back(share * dy)
    d_share = None if zero is None else _inner_product(dy, y)
    return dx + more, _floats_only(constants, d_constants), d_share


def _no_gradient(
    dx: jax.Array,
    zero: jax.Array | None,
    share: jax.Array,
    dy: jax.Array,
    x: jax.Array,
    constants: list[jax.Array],
) -> tuple[jax.Array, list[jax.Array | None], jax.Array | None]:
    """Results of `_add_gradient` for a branch that did not run."""
    return dx, _floats_only(constants, [jnp.zeros_like(array) for array in constants]), zero


def _inner_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """<a, b>, summed in float32."""
    return (a.astype(jnp.float32) * b.astype(jnp.float32)).sum()


def _floats_only(constants: list[jax.Array], values: list[jax.Array]) -> list[jax.Array | None]:
    """The values of float constants; None, which means no derivative, for the others (masks)."""
    pairs = zip(constants, values, strict=True)
    return [value if jnp.issubdtype(array.dtype, jnp.inexact) else None for array, value in pairs]
