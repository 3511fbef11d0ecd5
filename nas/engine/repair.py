"""Repair: from any architecture to ones that meet the targets, by swaps of up to two decisions.

The most likely option of each decision, taken separately, need not meet a target together: the
policy is a product of independent choices. Costs are exact and cheap, so every swap can be tried on
cost; accuracy decides among the rest.
"""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np

from nas.engine.objective import Objective
from nas.searchers.base import Vector

_STARTS = 8  # random architectures from which `nearest_feasible` starts


def swap_neighbourhood(options: tuple[int, ...], vector: Vector) -> np.ndarray:
    """All decision vectors that differ from one in at most two decisions.

    Args:
      options: Number of options of each decision.
      vector: The decision vector.

    Returns:
      [n, decisions] int32, the vector itself first.
    """
    singles = [(d, o) for d, n in enumerate(options) for o in range(n) if o != vector[d]]
    pairs = [(a, b) for a, b in itertools.combinations(singles, 2) if a[0] != b[0]]
    neighbours = np.tile(np.array(vector, np.int32), (1 + len(singles) + len(pairs), 1))
    swaps = itertools.chain(((single,) for single in singles), pairs)
    for row, changes in enumerate(swaps, start=1):
        for decision, option in changes:
            neighbours[row, decision] = option
    return neighbours


def feasible_candidates(
    objective: Objective, log_probabilities: np.ndarray, vector: Vector, *, survivors: int
) -> np.ndarray:
    """The most likely architectures near a vector that meet the targets.

    Near means at most two swaps away; if none of those meets the targets, at most two swaps from
    what `FeasibilityRepair` returns. If still none meets them, those that miss by at most the
    tolerance more than the closest one. Architectures that are the same network count once.

    Args:
      objective: Targets, costs and tolerance.
      log_probabilities: [decisions, options], of the policy.
      vector: Its most likely architecture.
      survivors: Largest number of candidates.

    Returns:
      [n, decisions] int32, the most likely first; n >= 1.

    Source: ours.
    """
    space, tolerance = objective.space, objective.tolerance
    options = _options(objective)
    pool = swap_neighbourhood(options, vector)
    missed = objective.miss(pool)
    if missed.min() > tolerance:
        pool = swap_neighbourhood(options, FeasibilityRepair(objective)(vector))
        missed = objective.miss(pool)
    likely = log_probabilities[np.arange(pool.shape[1]), pool].sum(-1)
    largest_miss = tolerance if missed.min() <= tolerance else missed.min() + tolerance
    inside = missed <= largest_miss
    order = np.flatnonzero(inside)[np.argsort(-likely[inside], kind="stable")]
    chosen: dict[Vector, np.ndarray] = {}
    for row in order:
        chosen.setdefault(space.canonical(pool[row].tolist()), pool[row])
        if len(chosen) == survivors:
            break
    return np.stack(list(chosen.values()))


class FeasibilityRepair:
    """Turns any architecture into one that meets the targets.

    Itself, else the nearest in cost after two swaps.

    Where no two swaps suffice, they are repeated for as long as the miss shrinks.

    Args:
      objective: Targets, costs and tolerance.

    Source: ours.
    """

    def __init__(self, objective: Objective):
        self._objective = objective
        self._options = _options(objective)

    def __call__(self, vector: Vector) -> Vector:
        """The architecture to take instead.

        Args:
          vector: A decision vector.
        """
        missed = float(self._objective.miss(np.array([vector]))[0])
        while missed > self._objective.tolerance:
            pool = swap_neighbourhood(self._options, vector)
            all_missed = self._objective.miss(pool)
            best = int(np.argmin(all_missed))
            if not all_missed[best] < missed:
                break
            vector = tuple(pool[best].tolist())
            missed = float(all_missed[best])
        return vector


def nearest_feasible(objective: Objective, seed: int) -> tuple[float, np.ndarray]:
    """The architecture closest to the targets that swaps from random ones reach.

    Args:
      objective: Targets and costs; its tolerance is not used.
      seed: Random seed of the starts.

    Returns:
      The miss, an upper bound of the least one, and the costs [targets] of that architecture.
    """
    repair = FeasibilityRepair(dataclasses.replace(objective, tolerance=0.0))
    rng = random.Random(seed)
    vectors = np.array([repair(objective.space.random(rng)) for _ in range(_STARTS)])
    missed = objective.miss(vectors)
    best = int(np.argmin(missed))
    return float(missed[best]), objective.costs(vectors[best])


def _options(objective: Objective) -> tuple[int, ...]:
    return tuple(decision.options for decision in objective.space.decisions)
