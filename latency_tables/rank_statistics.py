"""Rank correlations, and bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Kendall's tau-b.

    (concordant - discordant) / sqrt(pairs not tied in a * pairs not tied in b)

    Args:
      a: [n] values.
      b: [n] values.

    Returns:
      The correlation; NaN where one array is constant.
    """
    sign_a, sign_b = (np.sign(x[:, None] - x) for x in (np.asarray(a, float), np.asarray(b, float)))
    norm = math.sqrt(float((sign_a**2).sum() * (sign_b**2).sum()))
    return float((sign_a * sign_b).sum() / norm) if norm else math.nan


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Spearman's rho, the correlation of ranks; ties share their mean rank.

    Args:
      a: [n] values.
      b: [n] values.

    Returns:
      The correlation; NaN where one array is constant.
    """
    x, y = (_ranks(np.asarray(v, float)) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / norm) if norm else math.nan


def resampled(
    statistic: Callable[[np.ndarray], float],
    count: int,
    *,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of a statistic of networks.

    Args:
      statistic: Function of the indices of the networks drawn (with replacement), [count] -> value;
        NaN is left out.
      count: Number of networks.
      level: Probability of the interval.
      samples: Number of draws.
      seed: Random seed of the draws.

    Returns:
      (low, high); NaN where every draw gives NaN.
    """
    rng = np.random.default_rng(seed)
    values = np.array([statistic(draw) for draw in rng.integers(0, count, (samples, count))])
    if np.isnan(values).all():
        return math.nan, math.nan
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    a: np.ndarray,
    b: np.ndarray,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of a statistic of paired arrays; see `resampled`.

    Args:
      statistic: Function of both arrays.
      a: [n] values.
      b: [n] values.
      samples: Number of draws.
      seed: Random seed of the draws.

    Returns:
      (low, high); NaN where every draw gives NaN.
    """
    return resampled(lambda draw: statistic(a[draw], b[draw]), len(a), samples=samples, seed=seed)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
