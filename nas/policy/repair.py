"""From a policy to candidates that meet the target: exchange up to two decisions of its most likely architecture.

The most likely option of each decision, taken apart, need not meet a target together (the policy is a product of
independent choices). Costs are exact and cheap, so all exchanges can be tried on cost; accuracy decides among the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from latency_tables.cost_model import CostModel


def exchanges(space_options: tuple[int, ...], vector: tuple[int, ...]) -> np.ndarray:
    """All decision vectors that differ from `vector` in at most two decisions, [n, decisions] int32; itself first."""
    singles = [(d, o) for d, n in enumerate(space_options) for o in range(n) if o != vector[d]]
    pairs = [(a, b) for a, b in itertools.combinations(singles, 2) if a[0] != b[0]]
    out = np.tile(np.array(vector, np.int32), (1 + len(singles) + len(pairs), 1))
    for row, changes in enumerate(itertools.chain(((s,) for s in singles), pairs), start=1):
        for decision, option in changes:
            out[row, decision] = option
    return out


def candidates(
    costs: CostModel,
    targets: tuple[float, ...],
    log_probabilities: np.ndarray,
    vector: tuple[int, ...],
    *,
    miss: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
    survivors: int,
) -> np.ndarray:
    """The most likely architectures near `vector` that miss the targets by `tolerance` at most.

    Near is at most two exchanges away; if none of those fits, at most two from what `Near` finds. If none fits in the
    end, those that miss by what the closest one misses and the tolerance. Architectures that are the same network count
    once.

    Args:
      costs: of the space.
      targets: one for each of the cost model's devices.
      log_probabilities: [decisions, options] of the policy.
      vector: its most likely architecture.
      miss: of the reward: cost ratios [n, targets] -> [n].
      tolerance: largest miss.
      survivors: how many at most.

    Returns:
      [n, decisions] int32, the most likely first; n >= 1.

    Source: ours.
    """
    space, aims = costs.space, np.array(targets)
    options = tuple(decision.options for decision in space.decisions)
    pool = exchanges(options, vector)
    missed = miss(costs(pool) / aims)
    if missed.min() > tolerance:
        pool = exchanges(options, Near(costs, targets, miss, tolerance)(vector))
        missed = miss(costs(pool) / aims)
    likely = log_probabilities[np.arange(pool.shape[1]), pool].sum(-1)
    inside = missed <= (tolerance if missed.min() <= tolerance else missed.min() + tolerance)
    order = np.flatnonzero(inside)[np.argsort(-likely[inside], kind="stable")]
    chosen: dict[tuple[int, ...], np.ndarray] = {}
    for row in order:
        chosen.setdefault(space.canonical(pool[row].tolist()), pool[row])
        if len(chosen) == survivors:
            break
    return np.stack(list(chosen.values()))


class Near:
    """Turns any architecture into one that meets the targets: itself, else the nearest in cost after two exchanges.

    Where no two exchanges suffice, they are repeated for as long as the miss gets smaller.

    Args:
      costs, targets, miss, tolerance: as in `candidates`.

    Source: ours.
    """

    def __init__(
        self,
        costs: CostModel,
        targets: tuple[float, ...],
        miss: Callable[[np.ndarray], np.ndarray],
        tolerance: float,
    ):
        self._costs, self._targets, self._miss, self._tolerance = costs, np.array(targets), miss, tolerance
        self._options = tuple(decision.options for decision in costs.space.decisions)

    def __call__(self, vector: tuple[int, ...]) -> tuple[int, ...]:
        """The architecture to take in its place."""
        missed = float(self._miss(self._costs(np.array([vector])) / self._targets)[0])
        while missed > self._tolerance:
            pool = exchanges(self._options, vector)
            all_missed = self._miss(self._costs(pool) / self._targets)
            best = int(np.argmin(all_missed))
            if not all_missed[best] < missed:
                break
            vector, missed = tuple(pool[best].tolist()), float(all_missed[best])
        return vector
