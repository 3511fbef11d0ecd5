"""The absolute reward of TuNAS."""

from __future__ import annotations

from typing import Any


def absolute(quality: Any, ratios: Any, exponent: Any) -> Any:
    """Reward that falls with the distance of each cost from its target, on both sides.

    R = Q + sum over targets of exponent * |cost / target - 1|

    Args:
      quality: Accuracy in 0..1, shape [...].
      ratios: Cost / target of each target, shape [..., targets].
      exponent: Weight of a missed target, below 0; one number, or [targets]. TuNAS uses -0.1.

    Returns:
      The reward, shape [...].

    Source: TuNAS (arXiv 2008.06120), `abs`. Several targets: ours (the paper does not say how its
    two targets of Conv-S combine).
    """
    return quality + (exponent * abs(ratios - 1)).sum(-1)
