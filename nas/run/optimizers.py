"""Optimisers of network weights by name. The table knows their names without loading optax.

To add one: a function from a learning-rate schedule to a transformation, and a row in `OPTIMIZERS`;
one of your own can be given to `nas.search(optimizer=...)` without editing this package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search_spaces.families import Family

if TYPE_CHECKING:
    import optax


def _sgd(rate: optax.Schedule) -> optax.GradientTransformation:
    import optax

    return optax.sgd(rate, momentum=0.9, nesterov=True)


def _rmsprop(rate: optax.Schedule) -> optax.GradientTransformation:
    """Source: TuNAS."""
    import optax

    return optax.rmsprop(rate, decay=0.9, eps=1.0, initial_scale=1.0, momentum=0.9)


def _adamw(rate: optax.Schedule) -> optax.GradientTransformation:
    import optax

    return optax.adamw(rate, weight_decay=0.01)


OPTIMIZERS: Family[Callable[[optax.Schedule], optax.GradientTransformation]] = Family(
    "optimizer", {"sgd": _sgd, "rmsprop": _rmsprop, "adamw": _adamw}
)
"""Optimisers by name."""


def build(
    name: str, learning_rate: float, steps: int, warmup: float, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """An optimiser with linear warm-up and cosine decay to 0.

    Args:
      name: A key of `OPTIMIZERS`.
      learning_rate: Peak learning rate.
      steps: Length of the run.
      warmup: Fraction of the steps over which the rate rises linearly, 0..1. Source of the form:
        TuNAS.
      clip_norm: Maximum global gradient norm; None disables clipping.

    Returns:
      The optimiser, over one flat vector.

    Raises:
      ValueError: No optimiser has that name.
    """
    import optax

    rise = max(round(warmup * steps), 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, rise, max(steps, rise + 1))
    optimizer = OPTIMIZERS.get(name)(rate)
    if clip_norm is not None:
        optimizer = optax.chain(_clip(clip_norm), optimizer)
    # One vector: a program of a few loops, not of several for each parameter.
    return optax.flatten(optimizer)


def _clip(longest: float) -> optax.GradientTransformation:
    """As `optax.clip_by_global_norm` on one vector, with a sum whose order never changes."""
    import jax.numpy as jnp
    import optax

    from nas.model.layers import rows

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return gradient * (longest / jnp.maximum(rows.length(gradient), longest)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
