"""Warm-up of the shared weights: every operator, and the largest sizes, before choices matter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from search_spaces import SearchSpace


def probability(step: jax.Array, steps: int, fraction: float) -> jax.Array:
    """Probability of warm-up: linear from 1 to 0 over the first part of a search.

    p = 1 - step / (fraction * steps) for step < round(fraction * steps), else 0

    It ends with the step in which the policy begins to learn (`reinforce.learning_rate`). If the
    two fractions are equal, no architecture that the policy learns from has averaged operators.

    Args:
      step: [...] number of the step.
      steps: Number of steps of the search.
      fraction: Fraction of the steps that warm-up takes.

    Returns:
      [...] probability.
    """
    end = round(fraction * steps)
    return jnp.where(step < end, 1 - step / max(fraction * steps, 1), 0)


def warm(space: SearchSpace, vectors: jax.Array, key: jax.Array, p: jax.Array) -> jax.Array:
    """Replace each decision, independently with probability `p`, by its warm-up choice.

    An operator decision becomes its number of options, which means the average of all of them
    (`Selection`). A size decision becomes its largest option.

    Args:
      space: Search space.
      vectors: [replicas, decisions] int32, sampled decisions.
      key: Random key, consumed.
      p: [] probability.

    Returns:
      [replicas, decisions] int32.

    Source: TuNAS, op and filter warm-up.
    """
    choices = np.array(
        [d.options if d.kind == "operator" else d.largest for d in space.decisions], np.int32
    )
    return jnp.where(jax.random.bernoulli(key, p, vectors.shape), choices, vectors)
