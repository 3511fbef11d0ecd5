"""The absolute reward of TuNAS."""

from __future__ import annotations

from typing import Any


def absolute(quality: Any, ratios: Any, exponent: Any) -> Any:
    """R = Q + sum over targets of exponent * |cost / target - 1|: misses are punished on both sides.

    Args:
      quality: [...] accuracy in 0..1.
      ratios: [..., targets] cost / target.
      exponent: below 0; one number, or [targets]. TuNAS uses -0.1.

    Returns:
      [...] reward.

    Source: TuNAS (arXiv 2008.06120), `abs`. Several targets: ours (the paper does not say how its two targets of
    Conv-S combine).
    """
    return quality + (exponent * abs(ratios - 1)).sum(-1)
