"""Rewards of a sweep over hardware: one target for each ridge point of a roofline."""

from __future__ import annotations

from typing import Any


def ridge_sweep_worst(quality: Any, ratios: Any, exponent: float) -> Any:
    """Reward of the hardware on which the network costs most.

    R = Q + exponent * |max over targets of cost / target - 1|

    Args:
      quality: Accuracy in 0..1, shape [...].
      ratios: Cost / target for each ridge point, shape [..., targets].
      exponent: Weight of a missed target, below 0.

    Returns:
      The reward, shape [...].

    Source: ours, after the paper's sweep (section 3) and the absolute reward of TuNAS.
    """
    return quality + exponent * abs(ratios.max(-1) - 1)


def ridge_sweep_mean(quality: Any, ratios: Any, exponent: float) -> Any:
    """Reward of the mean cost over all hardware.

    R = Q + exponent * |mean over targets of cost / target - 1|

    Args:
      quality: Accuracy in 0..1, shape [...].
      ratios: Cost / target for each ridge point, shape [..., targets].
      exponent: Weight of a missed target, below 0.

    Returns:
      The reward, shape [...].

    Source: ours.
    """
    return quality + exponent * abs(ratios.mean(-1) - 1)
