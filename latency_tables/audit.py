"""Proxy audit: how well MACs, parameters, rooflines and tables rank networks as a device does."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from latency_tables import csv_files
from latency_tables.rank_statistics import bootstrap, kendall, spearman


@dataclasses.dataclass(frozen=True)
class ProxyAgreement:
    """Agreement of one proxy with measurements; intervals are 95 % bootstrap intervals.

    Attributes:
      proxy: Name of the proxy.
      kendall: Kendall's tau-b.
      kendall_interval: Interval of `kendall`.
      spearman: Spearman's rho.
      spearman_interval: Interval of `spearman`.
      median_error: Median of |proxy / measured - 1|. For a proxy that is not in ms it is taken
        after multiplying with the one factor that fits best (the median ratio): the error that
        remains when only the unit is wrong.
      scaled: Whether that factor was applied.
    """

    proxy: str
    kendall: float
    kendall_interval: tuple[float, float]
    spearman: float
    spearman_interval: tuple[float, float]
    median_error: float
    scaled: bool


def audit(
    proxies: Mapping[str, tuple[np.ndarray, str]], measured: np.ndarray, *, seed: int = 0
) -> list[ProxyAgreement]:
    """Compare proxies with measured times.

    Args:
      proxies: {name: ([n] values, unit)}.
      measured: [n] measured ms.
      seed: Random seed of the bootstrap.

    Returns:
      One entry for each proxy, the highest Spearman correlation first.

    Raises:
      ValueError: Fewer than 5 networks.
    """
    if len(measured) < 5:
        raise ValueError(f"an audit needs at least 5 measured networks, got {len(measured)}")
    out = []
    for name, (values, unit) in proxies.items():
        ratios = values / measured
        scaled = unit != "ms"
        error = float(np.median(np.abs(ratios / (np.median(ratios) if scaled else 1.0) - 1)))
        out.append(
            ProxyAgreement(
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
    """Read the measured times of networks.

    Args:
      path: CSV file with the columns network and ms; others are ignored.

    Returns:
      {network: ms}.

    Raises:
      ValueError: One line with file, line and cause.
    """
    out: dict[str, float] = {}
    lines: dict[str, int] = {}
    for row in csv_files.read(path, ("network", "ms"), others=True):
        name = row["network"].strip()
        if name in out:
            raise ValueError(
                f"{row.where}: network: {name!r} is already in line {lines[name]}; leave one out"
            )
        lines[name] = row.line
        out[name] = row.positive("ms")
    return out
