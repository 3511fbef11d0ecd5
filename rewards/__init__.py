"""Rewards: formulas that combine quality and cost, on arrays of numpy or JAX.

To add a reward: a module with its formula, a row in `REWARDS`, and rows in the table of
`tests/rewards/test_rewards.py`. A reward of a user's own is a function like those here, given in
place of a name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from rewards.absolute import absolute
from rewards.mnasnet import mnasnet_hard, mnasnet_soft
from rewards.ridge_sweep import ridge_sweep_mean, ridge_sweep_worst
from search_spaces.families import Family


def _worst_miss(ratios: Any) -> Any:
    return abs(ratios - 1).max(-1)


def _worst_excess(ratios: Any) -> Any:
    return (ratios - 1).clip(0).max(-1)


@dataclasses.dataclass(frozen=True)
class Reward:
    """A reward formula, and how it treats costs that miss their targets.

    Attributes:
      formula: Function of quality [...], cost ratios [..., targets] and an exponent or [targets] of
        them; returns the reward [...].
      joint: Whether the targets count together, so that there is one exponent.
      limits: Whether targets are upper limits, below which nothing is lost.
      miss: Function from cost ratios [..., targets] to [...], 0 where the targets are met. Repair
        minimises it.
    """

    formula: Callable[[Any, Any, Any], Any]
    joint: bool = False
    limits: bool = False
    miss: Callable[[Any], Any] = _worst_miss

    def __call__(self, quality: Any, ratios: Any, exponent: Any) -> Any:
        """Evaluate the formula.

        Args:
          quality: Accuracy in 0..1, shape [...].
          ratios: Cost / target of each target, shape [..., targets].
          exponent: Weight of a missed target, below 0; one number, or [targets].

        Returns:
          The reward, shape [...].
        """
        return self.formula(quality, ratios, exponent)


def _as_reward(member: Any) -> Reward:
    if isinstance(member, Reward):
        return member
    if not callable(member):
        raise ValueError(
            f"reward: got {member!r}; give a name ({', '.join(REWARDS)}), or a function "
            "(quality, ratios, exponent) -> reward"
        )
    return Reward(member)


REWARDS: Family[Reward] = Family(
    "reward",
    {
        "absolute": Reward(absolute),
        "mnasnet-soft": Reward(mnasnet_soft),
        "mnasnet-hard": Reward(mnasnet_hard, limits=True, miss=_worst_excess),
        "ridge-sweep-worst": Reward(
            ridge_sweep_worst, joint=True, miss=lambda ratios: abs(ratios.max(-1) - 1)
        ),
        "ridge-sweep-mean": Reward(
            ridge_sweep_mean, joint=True, miss=lambda ratios: abs(ratios.mean(-1) - 1)
        ),
    },
    convert=_as_reward,
)
"""The rewards by the names that configurations use; a plain function is converted to a `Reward`."""

__all__ = [
    "REWARDS",
    "Reward",
    "absolute",
    "mnasnet_hard",
    "mnasnet_soft",
    "ridge_sweep_mean",
    "ridge_sweep_worst",
]


def __dir__() -> list[str]:
    return __all__
