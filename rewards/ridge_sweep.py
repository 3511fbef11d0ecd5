"""Rewards of a sweep of hardware: one target for each ridge point, a network must hold its ground on all."""

from __future__ import annotations

from typing import Any


def ridge_sweep_worst(quality: Any, ratios: Any, exponent: float) -> Any:
    """R = Q + exponent * |max over targets of cost / target - 1|: as good as its worst hardware.

    Args:
      quality: [...] accuracy in 0..1.
      ratios: [..., targets] cost / target, a target for each ridge point.
      exponent: below 0.

    Returns:
      [...] reward.

    Source: ours, after the paper's sweep (section 3) and the absolute reward of TuNAS.
    """
    return quality + exponent * abs(ratios.max(-1) - 1)


def ridge_sweep_mean(quality: Any, ratios: Any, exponent: float) -> Any:
    """R = Q + exponent * |mean over targets of cost / target - 1|; arguments as `ridge_sweep_worst`. Source: ours."""
    return quality + exponent * abs(ratios.mean(-1) - 1)
