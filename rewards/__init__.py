"""What a network is worth: formulas on arrays, numpy's or JAX's alike.

To add a reward: a module with its formula, a row in `REWARDS`, and rows in the table of
`tests/rewards/test_rewards.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rewards.absolute import absolute
from rewards.mnasnet import mnasnet_hard, mnasnet_soft

Reward = Callable[[Any, Any, float], Any]
"""(quality [...], cost ratios [..., targets], exponent) -> reward [...]."""

REWARDS: dict[str, Reward] = {
    "absolute": absolute,
    "mnasnet-soft": mnasnet_soft,
    "mnasnet-hard": mnasnet_hard,
}

__all__ = ["REWARDS", "Reward", "absolute", "mnasnet_hard", "mnasnet_soft"]
