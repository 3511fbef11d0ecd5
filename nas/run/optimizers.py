"""Optimisers of network weights by name. The table knows their names without loading optax.

To add one: a function from a learning-rate schedule to a transformation, and a row in `OPTIMIZERS`;
one of your own can be given to `nas.search(optimizer=...)` without editing this package.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search_spaces.families import Family

if TYPE_CHECKING:
    import numpy as np
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


@dataclasses.dataclass(frozen=True, eq=False)
class AdamWOptions:
    """Options of AdamW besides its learning rate.

    Attributes:
      weight_decay: Decoupled weight decay.
      decayed: [parameters] bool, the weights of the flat vector that decay; None for all. A tree as
        in `optax.adamw(mask=...)` would have no effect: the optimiser sees one flat vector.
      beta1: Decay of the first moment.
      beta2: Decay of the second moment.
      epsilon: Offset of the denominator.
    """

    weight_decay: float = 0.01
    decayed: np.ndarray | None = None
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def build(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """AdamW over one flat vector.

        Args:
          rate: Learning rate of each step.
        """
        import jax.numpy as jnp
        import optax

        def decay(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            kept = params if self.decayed is None else jnp.where(self.decayed, params, 0)
            return updates + self.weight_decay * kept, state

        return optax.chain(
            optax.scale_by_adam(self.beta1, self.beta2, self.epsilon),
            optax.GradientTransformation(lambda params: optax.EmptyState(), decay),
            optax.scale_by_learning_rate(rate),
        )


def build(
    name: str,
    learning_rate: float,
    steps: int,
    warmup: float,
    clip_norm: float | None = None,
    *,
    final: float = 0.0,
    from_start: bool = False,
    adamw: AdamWOptions | None = None,
) -> optax.GradientTransformation:
    """An optimiser with linear warm-up and cosine decay, see `learning_rates`.

    Args:
      name: A key of `OPTIMIZERS`.
      learning_rate: Peak learning rate.
      steps: Length of the run.
      warmup: Fraction of the steps over which the rate rises linearly, 0..1.
      clip_norm: Maximum global gradient norm; None disables clipping.
      final: Learning rate at the end, as a share of the peak.
      from_start: Begin the cosine at step 0, see `learning_rates`.
      adamw: Options of AdamW; None for the defaults. Other optimisers take none.

    Returns:
      The optimiser, over one flat vector.

    Raises:
      ValueError: No optimiser has that name.
    """
    import optax

    rate = learning_rates(learning_rate, steps, warmup, final, from_start=from_start)
    optimizer = OPTIMIZERS.get(name)(rate) if adamw is None else adamw.build(rate)
    if clip_norm is not None:
        optimizer = optax.chain(_clip(clip_norm), optimizer)
    # One vector: a program of a few loops, not of several for each parameter.
    return optax.flatten(optimizer)


def learning_rates(
    peak: float, steps: int, warmup: float, final: float = 0.0, *, from_start: bool = False
) -> optax.Schedule:
    """Linear warm-up from 0, then cosine decay.

    rate(t) = final + (peak - final) * (1 + cos(pi * (t - rise) / (steps - rise))) / 2 for t >= rise

    With `from_start` the cosine is that of rise = 0, and the warm-up rises to its value at `rise`.

    Args:
      peak: Peak learning rate.
      steps: Length of the run.
      warmup: Fraction of the steps over which the rate rises, 0..1.
      final: Learning rate at the end, as a share of the peak.
      from_start: Begin the cosine at step 0.

    Returns:
      Learning rate of each step.

    Source: the first form is that of optax and TuNAS, the second that of TensorFlow's Model Garden,
    which trained the published networks.
    """
    import optax

    rise = max(round(warmup * steps), 1)
    if not from_start:
        length = max(steps, rise + 1)
        return optax.warmup_cosine_decay_schedule(0.0, peak, rise, length, end_value=final * peak)
    cosine = optax.cosine_decay_schedule(peak, steps, final)
    top = peak * ((1 - final) * (1 + math.cos(math.pi * min(rise / steps, 1))) / 2 + final)
    ramp = optax.linear_schedule(0.0, top, rise)
    # A joined schedule counts anew from its boundary.
    return optax.join_schedules([ramp, lambda step: cosine(step + rise)], [rise])


def _clip(longest: float) -> optax.GradientTransformation:
    """As `optax.clip_by_global_norm` on one vector, with a sum whose order never changes."""
    import jax.numpy as jnp
    import optax

    from nas.model.layers import rows

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return updates * (longest / jnp.maximum(rows.length(updates), longest)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
