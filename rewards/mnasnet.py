"""The rewards of MnasNet."""

from __future__ import annotations

from typing import Any


def mnasnet_soft(quality: Any, ratios: Any, exponent: Any) -> Any:
    """R = Q * prod over targets of (cost / target)^exponent; shapes as in `rewards.absolute`.

    Source: MnasNet (arXiv 1807.11626); TuNAS `mnas`.
    """
    return quality * (ratios**exponent).prod(-1)


def mnasnet_hard(quality: Any, ratios: Any, exponent: Any) -> Any:
    """R = Q * prod over targets of min((cost / target)^exponent, 1): no gain below the target; shapes as `absolute`.

    Source: MnasNet; TuNAS `mnas_hard`.
    """
    return quality * (ratios**exponent).clip(None, 1.0).prod(-1)
