"""Optimisers of network weights by name; to add one: a row in `OPTIMIZERS`."""

from __future__ import annotations

from collections.abc import Callable

import optax

OPTIMIZERS: dict[str, Callable[[optax.Schedule], optax.GradientTransformation]] = {
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "rmsprop": lambda rate: optax.rmsprop(rate, decay=0.9, eps=1.0, initial_scale=1.0, momentum=0.9),  # TuNAS
    "adamw": lambda rate: optax.adamw(rate, weight_decay=0.01),
}


def make(
    name: str, learning_rate: float, steps: int, warmup: float, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """An optimiser whose rate rises linearly over the first `warmup` of the steps and falls to 0 by a cosine.

    Args:
      name: key of `OPTIMIZERS`.
      learning_rate: peak.
      steps: length of the run.
      warmup: fraction of the steps, 0..1. Source of the form: TuNAS.
      clip_norm: gradients longer than this are shortened to it.
    """
    rise = max(round(warmup * steps), 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, rise, max(steps, rise + 1))
    optimizer = OPTIMIZERS[name](rate)
    if clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    return optax.flatten(optimizer)  # one vector: a program of a few loops, not of several a parameter
