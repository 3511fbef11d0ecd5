"""Ridge-point sweep: networks compared on all hardware, from MACs only to large accelerators."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from latency_tables import roofline
from search_spaces import ArchSpec, lower

PLOTTED = (0.0, 5.0, 50.0, 500.0)
"""The ridge points of the paper's figures: MACs only, slow CPU, fast CPU, accelerator."""


def ridge_points(count: int = 41, low: float = 1.0, high: float = 500.0) -> np.ndarray:
    """Return ridge points that are evenly spaced in their logarithm, after 0 (infinite bandwidth).

    Args:
      count: Number of ridge points.
      low: Lowest one above 0, MACs/byte.
      high: Highest one, MACs/byte.

    Returns:
      [count] MACs/byte.

    Source: range 0 to 500 of the paper, section 3; the spacing is ours.
    """
    return np.concatenate([[0.0], np.geomspace(low, high, count - 1)])


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Latency of some networks at some ridge points.

    Attributes:
      names: Names of the networks.
      points: [p] ridge points in MACs/byte.
      ms: [networks, p] ms.
    """

    names: tuple[str, ...]
    points: np.ndarray
    ms: np.ndarray

    def ratios(self, reference: str) -> np.ndarray:
        """Divide the latencies by those of one network.

        Args:
          reference: Name of the network.

        Returns:
          [networks, p].

        Raises:
          ValueError: The reference is not among the networks.
        """
        if reference not in self.names:
            raise ValueError(f"reference {reference!r} is not among {', '.join(self.names)}")
        return self.ms / self.ms[self.names.index(reference)]


def sweep(
    specs: Sequence[ArchSpec], points: Sequence[float] | np.ndarray, bandwidth_gb_s: float = 40.0
) -> Sweep:
    """Compute the roofline latency of networks at every ridge point; see `roofline.ops_ms`.

    Args:
      specs: Networks without choices.
      points: [p] ridge points in MACs/byte.
      bandwidth_gb_s: Memory bandwidth in GB/s.

    Returns:
      The latencies.
    """
    rows = []
    for spec in specs:
        ops = lower(spec)
        rows.append([roofline.ops_ms(ops, float(point), bandwidth_gb_s).sum() for point in points])
    return Sweep(tuple(spec.name for spec in specs), np.asarray(points, np.float64), np.array(rows))


def pareto(ms: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Determine the networks on the Pareto front.

    A network is on it if no other one is at least as good in both quantities and better in one.

    Args:
      ms: [n] latencies.
      quality: [n] qualities; higher is better.

    Returns:
      [n] bool.
    """
    no_worse = (ms[:, None] <= ms) & (quality[:, None] >= quality)
    better = (ms[:, None] < ms) | (quality[:, None] > quality)
    return np.logical_not((no_worse & better).any(0))
