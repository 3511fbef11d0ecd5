"""The rewards of MnasNet."""

from __future__ import annotations

from typing import Any


def mnasnet_soft(quality: Any, ratios: Any, exponent: Any) -> Any:
    """Reward that falls with cost everywhere, so that costs below the target gain.

    R = Q * prod over targets of (cost / target)^exponent

    Args:
      quality: Accuracy in 0..1, shape [...].
      ratios: Cost / target of each target, shape [..., targets].
      exponent: Weight of cost, below 0; one number, or [targets].

    Returns:
      The reward, shape [...].

    Source: MnasNet (arXiv 1807.11626); TuNAS `mnas`.
    """
    return quality * (ratios**exponent).prod(-1)


def mnasnet_hard(quality: Any, ratios: Any, exponent: Any) -> Any:
    """Reward that falls with cost above the target only; costs below it gain nothing.

    R = Q * prod over targets of min((cost / target)^exponent, 1)

    Args:
      quality: Accuracy in 0..1, shape [...].
      ratios: Cost / target of each target, shape [..., targets].
      exponent: Weight of cost above the target, below 0; one number, or [targets].

    Returns:
      The reward, shape [...].

    Source: MnasNet; TuNAS `mnas_hard`.
    """
    return quality * (ratios**exponent).clip(None, 1.0).prod(-1)
