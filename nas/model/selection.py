"""Selection: what a decision vector means to a layer while it is traced."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_jaxpr

from search_spaces import OneOf, SearchSpace

Branch = Callable[[jax.Array], jax.Array]


class Selection:
    """The decisions of one pass through a network; a network without holes is passed one without decisions.

    An operator decision of a vector may also be its number of options: then all of them run and their outputs are
    averaged, as operator warm-up asks.

    Args:
      space: the space, or None for a network without holes.
      vector: [decisions] int32, traced.
    """

    def __init__(self, space: SearchSpace | None = None, vector: jax.Array | None = None):
        if (space is None) != (vector is None):
            raise ValueError("a supernet needs a decision vector, and a network without holes takes none")
        self._space, self._vector = space, vector

    def index(self, hole: OneOf[Any]) -> jax.Array:
        """The chosen option of a hole (its number of options means: average all), scalar int32."""
        if self._space is None or self._vector is None:
            raise ValueError(f"the hole {hole.name!r} is open, but no decisions were given")
        return self._vector[self._space.position(hole.name)]

    def width(self, value: int | OneOf[int]) -> int | jax.Array:
        """The chosen channel count: a Python int for a fixed one, else a traced scalar."""
        return jnp.asarray(value.options, jnp.int32)[self.index(value)] if isinstance(value, OneOf) else value

    def product_width(self, a: Any, b: Any, width_of: Callable[[Any, Any], int]) -> int | jax.Array:
        """`width_of(a, b)` of two values that may be holes: by a small table, so that it is exact."""
        rows = a.options if isinstance(a, OneOf) else (a,)
        columns = b.options if isinstance(b, OneOf) else (b,)
        table = [[width_of(x, y) for y in columns] for x in rows]
        if len({width for row in table for width in row}) == 1:
            return table[0][0]
        row = self.index(a) if isinstance(a, OneOf) else 0
        column = self.index(b) if isinstance(b, OneOf) else 0
        return jnp.asarray(table, jnp.int32)[row, column]

    def operator(self, value: Any, branches: Sequence[Branch | None], x: jax.Array) -> jax.Array:
        """Run the branch that `value` chooses (branch i is its option i, None leaves x as it is), and only that one."""
        if not isinstance(value, OneOf):
            return x if branches[0] is None else branches[0](x)
        count = len(branches)
        table = np.concatenate([np.eye(count), np.full((1, count), 1 / count)])
        return _weighted_sum(jnp.asarray(table, x.dtype)[self.index(value)], branches, x)

    def keep(self, present: bool | OneOf[bool], block: Branch, x: jax.Array) -> jax.Array:
        """block(x) where the block is present, x where it is not, their mean over the options during warm-up."""
        if not isinstance(present, OneOf):
            return block(x)
        share = sum(present.options) / len(present.options)
        weight = jnp.asarray([*map(float, present.options), share], x.dtype)[self.index(present)]
        return jax.lax.cond(weight > 0, lambda x: x + weight * (block(x) - x), lambda x: x, x)


def prefix_mask(width: int | jax.Array, channels: int) -> jax.Array | None:
    """[channels] bool, true for the first `width`; None if that is all of them."""
    if isinstance(width, int) and width == channels:
        return None
    # The root changes nothing, but XLA never computes a root again for each use. Without it the comparison, and with it
    # all that leads from the decisions to the width, is computed again for every pixel (measured: a fifth of a step).
    return jnp.sqrt((jnp.arange(channels) < width).astype(jnp.float32)) > 0


def _weighted_sum(shares: jax.Array, branches: Sequence[Branch | None], x: jax.Array) -> jax.Array:
    """Sum of shares[i] * branch_i(x); only branches of a share above 0 run, and the derivative runs them again.

    Each branch stands in the program once: a `lax.switch` with the average as one more case has each twice, and takes
    longer to compile. The derivative that JAX makes of a conditional keeps what any of its branches could need, as
    zeros for all that did not run: more memory traffic than running the one again.

    Args:
      shares: [branches], of decisions: no derivative flows to them.
      branches: each from x to one shape; None for x itself.
      x: what goes into all of them.
    """
    explicit = {i: _explicit(branch, x) for i, branch in enumerate(branches) if branch is not None}
    runs, arrays = {i: run for i, (run, _) in explicit.items()}, {i: own for i, (_, own) in explicit.items()}
    identities = [i for i, branch in enumerate(branches) if branch is None]

    def straight(shares: jax.Array, x: jax.Array, like: Any) -> jax.Array:
        return shares[jnp.array(identities)].sum() * x if identities else jnp.zeros(like.shape, like.dtype)

    @jax.custom_vjp
    def total(shares: jax.Array, x: jax.Array, own: Any) -> jax.Array:
        y = straight(shares, x, next((jax.eval_shape(run, x, own[i]) for i, run in runs.items()), x))
        for i, run in runs.items():
            add = functools.partial(_add, run)
            y = jax.lax.cond(shares[i] > 0, add, lambda y, *_: y, y, shares[i], x, own[i])
        return y

    def forward(shares: jax.Array, x: jax.Array, own: Any) -> tuple[jax.Array, Any]:
        return total(shares, x, own), (shares, x, own)

    def backward(saved: Any, dy: jax.Array) -> tuple[None, jax.Array, Any]:
        shares, x, own = saved
        dx, gradient = straight(shares, dy, x), {}
        for i, run in runs.items():
            add = functools.partial(_add_gradient, run)
            dx, gradient[i] = jax.lax.cond(shares[i] > 0, add, _no_gradient, dx, shares[i], dy, x, own[i])
        return None, dx, gradient

    total.defvjp(forward, backward)
    return total(shares, x, arrays)


def _explicit(branch: Branch, x: jax.Array) -> tuple[Callable[..., jax.Array], list[jax.Array]]:
    """(run, own) with run(x, own) = branch(x): what the branch closes over becomes an argument.

    A custom derivative must not close over traced arrays, and `jax.closure_convert` leaves masks where they are.
    """
    closed = jax.make_jaxpr(branch)(x)
    return lambda x, own: eval_jaxpr(closed.jaxpr, own, x)[0], [jnp.asarray(array) for array in closed.consts]


def _add(run: Any, y: jax.Array, share: jax.Array, x: jax.Array, own: list[jax.Array]) -> jax.Array:
    return y + share * run(x, own)


def _add_gradient(run: Any, dx: jax.Array, share: jax.Array, dy: jax.Array, x: jax.Array, own: list[jax.Array]) -> Any:
    more, gradient = jax.vjp(run, x, own)[1](share * dy)
    return dx + more, _of_floats(own, gradient)


def _no_gradient(dx: jax.Array, share: jax.Array, dy: jax.Array, x: jax.Array, own: list[jax.Array]) -> Any:
    return dx, _of_floats(own, [jnp.zeros_like(array) for array in own])


def _of_floats(own: list[jax.Array], values: list[jax.Array]) -> list[jax.Array | None]:
    """The values that belong to floats, and None, which means no derivative, in the place of the others (masks)."""
    pairs = zip(own, values, strict=True)
    return [value if jnp.issubdtype(array.dtype, jnp.inexact) else None for array, value in pairs]
