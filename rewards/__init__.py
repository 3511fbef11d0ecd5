"""What a network is worth: formulas on arrays, numpy's or JAX's alike.

To add a reward: a module with its formula, a row in `REWARDS`, and rows in the table of
`tests/rewards/test_rewards.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from rewards.absolute import absolute
from rewards.mnasnet import mnasnet_hard, mnasnet_soft
from rewards.ridge_sweep import ridge_sweep_mean, ridge_sweep_worst


def _worst_miss(ratios: Any) -> Any:
    return abs(ratios - 1).max(-1)


def _worst_excess(ratios: Any) -> Any:
    return (ratios - 1).clip(0).max(-1)


@dataclasses.dataclass(frozen=True)
class Reward:
    """A reward, and what it takes for missing the targets.

    Attributes:
      formula: (quality [...], cost ratios [..., targets], exponent or [targets] of them) -> reward [...].
      joint: the targets count together, so there is one exponent.
      limits: targets are upper limits; below them nothing is lost.
      miss: cost ratios [..., targets] -> [...], 0 where the targets are met; what repair makes small.
    """

    formula: Callable[[Any, Any, Any], Any]
    joint: bool = False
    limits: bool = False
    miss: Callable[[Any], Any] = _worst_miss

    def __call__(self, quality: Any, ratios: Any, exponent: Any) -> Any:
        """The reward, see `formula`."""
        return self.formula(quality, ratios, exponent)


REWARDS: dict[str, Reward] = {
    "absolute": Reward(absolute),
    "mnasnet-soft": Reward(mnasnet_soft),
    "mnasnet-hard": Reward(mnasnet_hard, limits=True, miss=_worst_excess),
    "ridge-sweep-worst": Reward(ridge_sweep_worst, joint=True, miss=lambda ratios: abs(ratios.max(-1) - 1)),
    "ridge-sweep-mean": Reward(ridge_sweep_mean, joint=True, miss=lambda ratios: abs(ratios.mean(-1) - 1)),
}

__all__ = [
    "REWARDS",
    "Reward",
    "absolute",
    "mnasnet_hard",
    "mnasnet_soft",
    "ridge_sweep_mean",
    "ridge_sweep_worst",
]
