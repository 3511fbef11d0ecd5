"""Ridge-point sweep: how networks compare on every hardware from counting MACs to the largest accelerator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from latency_tables import roofline
from search_spaces import ArchSpec, lower

PLOTTED = (0.0, 5.0, 50.0, 500.0)
"""The ridge points of the paper's figures: MACs only, slow CPU, fast CPU, accelerator."""


def ridge_points(count: int = 41, low: float = 1.0, high: float = 500.0) -> np.ndarray:
    """[count] MACs/byte, 0 (infinite bandwidth) first, the others spaced evenly in their logarithm.

    Source: range 0 to 500 of the paper, section 3; the spacing is ours.
    """
    return np.concatenate([[0.0], np.geomspace(low, high, count - 1)])


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Latency of some networks at some ridge points.

    Attributes:
      names: of the networks.
      points: [p] MACs/byte.
      ms: [networks, p].
    """

    names: tuple[str, ...]
    points: np.ndarray
    ms: np.ndarray

    def ratios(self, reference: str) -> np.ndarray:
        """[networks, p] latency over that of one of the networks.

        Raises:
          ValueError: if the reference is not among the networks.
        """
        if reference not in self.names:
            raise ValueError(f"reference {reference!r} is not among {', '.join(self.names)}")
        return self.ms / self.ms[self.names.index(reference)]


def sweep(specs: Sequence[ArchSpec], points: Sequence[float] | np.ndarray, bandwidth_gb_s: float = 40.0) -> Sweep:
    """Roofline latency of frozen specs at every ridge point; see `roofline.ops_ms`."""
    rows = []
    for spec in specs:
        ops = lower(spec)
        rows.append([roofline.ops_ms(ops, float(point), bandwidth_gb_s).sum() for point in points])
    return Sweep(tuple(spec.name for spec in specs), np.asarray(points, np.float64), np.array(rows))


def pareto(ms: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Which networks no other one beats: [n] latencies and [n] qualities (more is better) -> [n] bool.

    A network is beaten by one that is at least as good in both and better in one.
    """
    no_worse = (ms[:, None] <= ms) & (quality[:, None] >= quality)
    better = (ms[:, None] < ms) | (quality[:, None] > quality)
    return np.logical_not((no_worse & better).any(0))
