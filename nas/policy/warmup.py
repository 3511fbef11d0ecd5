"""Warm-up of the shared weights: every operator and the largest filters are trained before choices matter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from search_spaces import SearchSpace


def probability(step: jax.Array, steps: int, fraction: float) -> jax.Array:
    """1 - step / (fraction * steps) over the first `fraction` of a search, then 0: linear from 1.

    It ends with the whole step in which the policy begins (`controller.learning_rate`), so that where the two
    fractions are alike no architecture that the policy learns from has averaged operators.
    """
    end = round(fraction * steps)
    return jnp.where(step < end, 1 - step / max(fraction * steps, 1), 0)


def warm(space: SearchSpace, vectors: jax.Array, key: jax.Array, p: jax.Array) -> jax.Array:
    """Replace each decision, independently with probability `p`, by what warm-up trains.

    An operator decision becomes its number of options, which means the average of all of them (`Selection`); a filter
    decision becomes its largest option.

    Args:
      space: the space.
      vectors: [replicas, decisions] int32, as sampled.
      key: consumed.
      p: [] probability.

    Returns:
      [replicas, decisions] int32.

    Source: TuNAS, op and filter warm-up.
    """
    trained = np.array([d.options if d.kind == "operator" else d.largest for d in space.decisions], np.int32)
    return jnp.where(jax.random.bernoulli(key, p, vectors.shape), trained, vectors)
