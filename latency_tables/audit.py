"""Proxy audit: how well do MACs, parameters, rooflines and tables rank networks as a device does?"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Callable, Mapping

import numpy as np


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b of two [n] arrays: (concordant - discordant) / sqrt(pairs not tied in a * pairs not tied in b).

    NaN where one of them is constant.
    """
    sign_a, sign_b = (np.sign(x[:, None] - x) for x in (np.asarray(a, float), np.asarray(b, float)))
    norm = math.sqrt(float((sign_a**2).sum() * (sign_b**2).sum()))
    return float((sign_a * sign_b).sum() / norm) if norm else math.nan


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho: the correlation of ranks, ties sharing their mean rank. NaN where one array is constant."""
    x, y = (_ranks(np.asarray(v, float)) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / norm) if norm else math.nan


def resampled(
    statistic: Callable[[np.ndarray], float], count: int, *, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of `count` networks.

    Args:
      statistic: of the numbers of the networks drawn (with replacement), [count] -> value; NaN is left out.
      count: networks.
      level: of the interval.
      samples: how often they are drawn.
      seed: of the draws.
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
    """95 % interval of a statistic of paired [n] arrays, see `resampled`."""
    return resampled(lambda draw: statistic(a[draw], b[draw]), len(a), samples=samples, seed=seed)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How one proxy agrees with measurements: both correlations with their 95 % bootstrap intervals.

    `median_error` is the median of |proxy / measured - 1| for a proxy in ms, after the one factor that fits best (the
    median ratio) for others: what remains when only the unit is wrong.
    """

    proxy: str
    kendall: float
    kendall_interval: tuple[float, float]
    spearman: float
    spearman_interval: tuple[float, float]
    median_error: float
    scaled: bool


def audit(proxies: Mapping[str, tuple[np.ndarray, str]], measured: np.ndarray, *, seed: int = 0) -> list[Agreement]:
    """Compare proxies {name: ([n] values, unit)} with [n] measured ms, the best first (Spearman).

    Raises:
      ValueError: for fewer than 5 networks.
    """
    if len(measured) < 5:
        raise ValueError(f"an audit needs at least 5 measured networks, got {len(measured)}")
    out = []
    for name, (values, unit) in proxies.items():
        ratios = values / measured
        scaled = unit != "ms"
        error = float(np.median(np.abs(ratios / (np.median(ratios) if scaled else 1.0) - 1)))
        out.append(
            Agreement(
                name,
                kendall(values, measured),
                bootstrap(kendall, values, measured, seed=seed),
                spearman(values, measured),
                bootstrap(spearman, values, measured, seed=seed),
                error,
                scaled,
            )
        )
    return sorted(out, key=lambda row: -row.spearman)


def read_measured(path: str | os.PathLike[str]) -> dict[str, float]:
    """A CSV of network,ms (header included): {network: ms}.

    Raises:
      ValueError: with file, line and cause.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if not lines or [cell.strip() for cell in lines[0][:2]] != ["network", "ms"]:
        raise ValueError(f"{path}:1: expected the columns network,ms, got {','.join(lines[0]) if lines else 'nothing'}")
    out: dict[str, float] = {}
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) < 2:
            raise ValueError(f"{path}:{number}: expected network,ms")
        name, text = cells[0].strip(), cells[1].strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f"{path}:{number}: ms: got {text!r}, expected a positive number of milliseconds")
        if name in out:
            raise ValueError(f"{path}:{number}: {name!r} stands twice; leave one out")
        out[name] = value
    return out


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
