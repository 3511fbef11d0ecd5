"""Selection: what a decision vector means to a layer while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

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

    def operator(self, value: Any, branches: Sequence[Branch], x: jax.Array) -> jax.Array:
        """Run the branch that `value` chooses (branch i is its option i), and only that one."""
        if not isinstance(value, OneOf):
            return branches[0](x)
        return jax.lax.switch(self.index(value), [*branches, _average(branches)], x)

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


def _average(branches: Sequence[Branch]) -> Branch:
    return lambda x: sum((branch(x) for branch in branches[1:]), branches[0](x)) / len(branches)
