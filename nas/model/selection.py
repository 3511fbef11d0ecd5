"""Selection: the meaning of a decision vector, or of shares, to a layer while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas.model.layers.branches import Branch, weighted_sum
from search_spaces import OneOf, SearchSpace


class Selection:
    """The decisions of one forward pass; a network without holes runs with an empty selection.

    A selection is made from a decision vector (this constructor) or from shares (`from_shares`).
    An operator decision of a vector may also be its number of options: then all options run and
    their outputs are averaged, as operator warm-up asks. No gradient flows to a vector.

    Args:
      space: Search space, or None for a network without holes.
      vector: [decisions] int32, traced; None without a space.

    Raises:
      ValueError: A space without a vector, a vector without a space, or a vector of another length.
    """

    def __init__(self, space: SearchSpace | None = None, vector: jax.Array | None = None):
        if (space is None) != (vector is None):
            raise ValueError(
                "a supernet needs a decision vector, and a network without holes takes none"
            )
        if space is not None and vector is not None:
            meaning = "one entry for each decision"
            _check_shape("a decision vector", space, vector, [len(space.decisions)], meaning)
        self._space, self._vector = space, vector
        self._shares: jax.Array | None = None

    @classmethod
    def from_shares(cls, space: SearchSpace, shares: jax.Array) -> Selection:
        """A selection by shares, through which gradients flow back to a differentiable policy.

        The output of an operator decision is the sum of its options' outputs, each times its
        share; presence decisions mix the block's output with its input in the same way. Options
        with a share of 0 do not run and get no gradient. Sizes (widths, expansions, heads) cannot
        be mixed: they take the option with the largest share, the first one of equals, and send
        no gradient to the shares. One-hot shares select the network of a decision vector.

        Args:
          space: Search space.
          shares: [decisions, options] float, not negative. The last axis has the largest number of
            options of any decision; entries beyond a decision's own options are ignored.

        Returns:
          The selection.

        Raises:
          ValueError: Shares of another shape.
        """
        most = max(decision.options for decision in space.decisions)
        meaning = "one row for each decision and one column for each option"
        _check_shape("shares", space, shares, [len(space.decisions), most], meaning)
        selection = cls()
        selection._space, selection._shares = space, shares
        return selection

    def index(self, hole: OneOf[Any]) -> jax.Array:
        """Index of the chosen option of a hole.

        Args:
          hole: Hole of the space.

        Returns:
          [] int32: for a vector its entry, where the number of options means the average of all;
          for shares the option with the largest share.

        Raises:
          ValueError: The selection has no decisions.
        """
        if self._shares is not None:
            return jnp.argmax(self._shares_of(hole)).astype(jnp.int32)
        position = self._position(hole)
        assert self._vector is not None
        return self._vector[position]

    def width(self, value: int | OneOf[int]) -> int | jax.Array:
        """Chosen channel count (or other size).

        Args:
          value: Size, or hole of sizes.

        Returns:
          A Python int for a fixed size, [] int32 (traced) for a hole.
        """
        if not isinstance(value, OneOf):
            return value
        return jnp.asarray(value.options, jnp.int32)[self.index(value)]

    def product_width(self, a: Any, b: Any, width_of: Callable[[Any, Any], int]) -> int | jax.Array:
        """Width that depends on two values, looked up in a small table so that it is exact.

        Args:
          a: First value, or hole of values.
          b: Second value, or hole of values.
          width_of: Function from two values to a channel count.

        Returns:
          `width_of` of the chosen values: a Python int if all combinations give the same, else
          [] int32 (traced).
        """
        rows = a.options if isinstance(a, OneOf) else (a,)
        columns = b.options if isinstance(b, OneOf) else (b,)
        table = [[width_of(x, y) for y in columns] for x in rows]
        if len({width for row in table for width in row}) == 1:
            return table[0][0]
        row = self.index(a) if isinstance(a, OneOf) else 0
        column = self.index(b) if isinstance(b, OneOf) else 0
        return jnp.asarray(table, jnp.int32)[row, column]

    def operator(self, value: Any, branches: Sequence[Branch | None], x: jax.Array) -> jax.Array:
        """Output of the chosen branch, or the sum of several by their shares; only those run.

        Args:
          value: Value, or hole of values.
          branches: One function for each option of `value`; None leaves x unchanged.
          x: Input of all branches.

        Returns:
          The output, with the shape of a branch's output.
        """
        if not isinstance(value, OneOf):
            return x if branches[0] is None else branches[0](x)
        if self._shares is not None:
            return weighted_sum(self._shares_of(value), branches, x, differentiable=True)
        count = len(branches)
        table = np.concatenate([np.eye(count), np.full((1, count), 1 / count)])
        shares = jnp.asarray(table, x.dtype)[self.index(value)]
        return weighted_sum(shares, branches, x, differentiable=False)

    def maybe_apply(self, present: bool | OneOf[bool], block: Branch, x: jax.Array) -> jax.Array:
        """Output of a block that may be absent: block(x) if it is present, else x.

        Args:
          present: Whether the block is present, or hole of booleans. During warm-up (and for
            shares) the output is the mean over the options (weighted by their shares).
          block: Function that keeps the shape of x; it does not run if the block is absent.
          x: Input of the block.

        Returns:
          The output, with the shape of x.
        """
        if not isinstance(present, OneOf):
            return block(x)
        if self._shares is not None:
            shares = self._shares_of(present).astype(x.dtype)
            is_present = np.array(present.options)
            weight, rest = shares[is_present].sum(), shares[~is_present].sum()
            return jax.lax.cond(
                weight > 0, lambda x: rest * x + weight * block(x), lambda x: rest * x, x
            )
        share = sum(present.options) / len(present.options)
        weight = jnp.asarray([*map(float, present.options), share], x.dtype)[self.index(present)]
        return jax.lax.cond(weight > 0, lambda x: x + weight * (block(x) - x), lambda x: x, x)

    def _position(self, hole: OneOf[Any]) -> int:
        if self._space is None:
            raise ValueError(
                f"the hole {hole.name!r} is open, but no decisions were given; "
                "pass a decision vector or shares"
            )
        return self._space.position(hole.name)

    def _shares_of(self, hole: OneOf[Any]) -> jax.Array:
        """[options of the hole] float."""
        assert self._shares is not None
        return self._shares[self._position(hole), : len(hole.options)]


def _check_shape(
    name: str, space: SearchSpace, array: Any, expected: list[int], meaning: str
) -> None:
    shape = list(jnp.shape(array))
    if shape != expected:
        raise ValueError(
            f"space {space.name!r}: got {name} of shape {shape}, expected {expected}, {meaning}"
        )


def prefix_mask(width: int | jax.Array, channels: int) -> jax.Array | None:
    """Mask of the channels that exist at a width.

    Args:
      width: Number of channels that exist: a Python int, or [] int32 (traced).
      channels: Number of channels of the array.

    Returns:
      [channels] bool, true for the first `width`; None if all channels exist for certain.
    """
    if isinstance(width, int) and width == channels:
        return None
    # The root changes nothing, but XLA never recomputes a root for each use. Without it, XLA
    # recomputes the comparison, and all that leads from the decisions to the width, for every
    # pixel (measured: a fifth of a step).
    return jnp.sqrt((jnp.arange(channels) < width).astype(jnp.float32)) > 0
