"""Rank statistics of a supernet's accuracies against those of trained networks.

They tell whether the supernet's ranking of networks can be trusted.

Letters: n networks, s seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
import pydantic

from latency_tables.rank_statistics import kendall, resampled, spearman
from search_spaces.frozen import FrozenModel

NEAR = 0.1
"""Relative difference in cost below which two networks are near.

A search has to tell such pairs apart, and MACs cannot.
"""
_SHARE_OF_CEILING = 0.8
_LEAST_RELIABILITY = 0.1  # trainings that agree less explain nothing
_TOP = (1, 3, 5)
_RESAMPLES = 1000

Pairs = list[tuple[np.ndarray, np.ndarray]]


_Statistic = Annotated[float, pydantic.Field(allow_inf_nan=True)]  # NaN where it is not defined


class Interval(FrozenModel):
    """A statistic with its 95 % bootstrap interval over networks; NaN where it is not defined.

    Attributes:
      value: Value of the statistic on all networks.
      low: Lower end of the interval.
      high: Upper end of the interval.
    """

    value: _Statistic
    low: _Statistic
    high: _Statistic

    def __str__(self) -> str:
        """Text such as "0.61 [0.42, 0.76]"."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class RankAgreement(FrozenModel):
    """Agreement of one estimate's ranking with that of trained networks.

    Each statistic compares the estimate with one training of each network, and is the mean over
    the seeds, as the ceiling is.

    Attributes:
      kendall: Kendall's tau.
      spearman: Spearman's rho.
      near: Kendall's tau of the pairs of nearly equal cost alone.
    """

    kendall: Interval
    spearman: Interval
    near: Interval


class Diagnosis(FrozenModel):
    """Whether the ranking of a supernet can be trusted.

    Attributes:
      networks: Number of networks, n.
      seeds: Number of trainings of each network, s.
      near_pairs: Number of pairs of networks whose costs differ by less than `NEAR`.
      ceiling: Test-retest ceiling: agreement of two trainings of the same networks. None with one
        seed. An estimate that has less noise than a training can exceed it somewhat.
      estimates: Agreement of the supernet and of proxies, by name.
      gain: Kendall's tau of the supernet minus that of MACs.
      regret: {k: accuracy of the best network minus that of the best among the supernet's top k}.
      bias: Spearman's correlation of the supernet with cost, minus what its agreement with the
        truth explains of it: rho(supernet, cost) - rho(supernet, trained) rho(trained, cost) / r,
        where r is the reliability of the mean of the s trainings (Spearman-Brown, from the
        ceiling). 0 for a supernet that is only noisy. Above 0: wide networks are overrated. NaN
        with one seed.
      trusted: Whether the ranking reaches 0.8 of the ceiling and is shown to beat that of MACs.
      verdict: Conclusion in one sentence.
    """

    networks: int
    seeds: int
    near_pairs: int
    ceiling: RankAgreement | None
    estimates: dict[str, RankAgreement]
    gain: Interval
    regret: dict[int, _Statistic]
    bias: Interval
    trusted: bool
    verdict: str


def diagnose(
    supernet: np.ndarray, trained: np.ndarray, cost: np.ndarray, proxies: dict[str, np.ndarray]
) -> Diagnosis:
    """Compare accuracies inside the supernet with those after training.

    Args:
      supernet: [n] accuracies inside the supernet.
      trained: [n, s] accuracies after stand-alone training, one column a seed.
      cost: [n] costs, which decide which networks are near.
      proxies: {name: [n]} estimates that need no training; must have "MACs".

    Returns:
      The diagnosis.
    """
    n = len(supernet)
    estimates = {"supernet": _agreement(_with_each_seed(supernet, trained), cost)}
    estimates |= {
        name: _agreement(_with_each_seed(values, trained), cost) for name, values in proxies.items()
    }
    seeds = trained.shape[1]
    pairs = [(trained[:, a], trained[:, b]) for a, b in itertools.combinations(range(seeds), 2)]
    ceiling = _agreement(pairs, cost) if pairs else None
    macs = proxies["MACs"]

    def gain(draw: np.ndarray) -> float:
        of_supernet = _mean(kendall, _with_each_seed(supernet, trained), draw)
        return of_supernet - _mean(kendall, _with_each_seed(macs, trained), draw)

    gain_interval = _interval(gain, n)
    mean = trained.mean(1)
    order = np.argsort(-supernet, kind="stable")
    regret = {k: float(mean.max() - mean[order[:k]].max()) for k in _TOP if k <= n}

    def bias(draw: np.ndarray) -> float:
        if not pairs:
            return math.nan
        s, m, c = supernet[draw], mean[draw], cost[draw]
        agreed = max(_mean(spearman, pairs, draw), 0)
        reliability = max(seeds * agreed / (1 + (seeds - 1) * agreed), _LEAST_RELIABILITY)
        return spearman(s, c) - spearman(s, m) * spearman(m, c) / reliability

    agreed = ceiling.kendall.value if ceiling else math.nan
    share = estimates["supernet"].kendall.value / agreed if agreed > 0 else math.nan
    trusted = bool(share >= _SHARE_OF_CEILING and gain_interval.low > 0)
    bias_interval = _interval(bias, n)
    return Diagnosis(
        networks=n,
        seeds=seeds,
        near_pairs=int(np.triu(_near(cost), 1).sum()),
        ceiling=ceiling,
        estimates=estimates,
        gain=gain_interval,
        regret=regret,
        bias=bias_interval,
        trusted=trusted,
        verdict=_verdict(agreed, share, gain_interval, bias_interval, trusted),
    )


def near_kendall(a: np.ndarray, b: np.ndarray, cost: np.ndarray) -> float:
    """Kendall's tau over the pairs that are near in cost and tied in neither ranking.

    tau = (concordant - discordant) / pairs

    Args:
      a: [n] values of one ranking.
      b: [n] values of the other ranking.
      cost: [n] costs.

    Returns:
      The statistic; NaN without such pairs.
    """
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    chosen = signs[np.triu(_near(cost), 1) & (signs != 0)]
    return float(chosen.mean()) if len(chosen) else math.nan


def _near(cost: np.ndarray) -> np.ndarray:
    return np.maximum(cost[:, None], cost) < (1 + NEAR) * np.minimum(cost[:, None], cost)


def _with_each_seed(values: np.ndarray, trained: np.ndarray) -> Pairs:
    return [(values, column) for column in trained.T]


def _agreement(pairs: Pairs, cost: np.ndarray) -> RankAgreement:
    def near(draw: np.ndarray) -> float:
        return float(np.mean([near_kendall(a[draw], b[draw], cost[draw]) for a, b in pairs]))

    count = len(cost)
    return RankAgreement(
        kendall=_interval(lambda draw: _mean(kendall, pairs, draw), count),
        spearman=_interval(lambda draw: _mean(spearman, pairs, draw), count),
        near=_interval(near, count),
    )


def _mean(
    statistic: Callable[[np.ndarray, np.ndarray], float], pairs: Pairs, draw: np.ndarray
) -> float:
    return float(np.mean([statistic(a[draw], b[draw]) for a, b in pairs]))


def _interval(statistic: Callable[[np.ndarray], float], count: int) -> Interval:
    low, high = resampled(statistic, count, samples=_RESAMPLES)
    return Interval(value=statistic(np.arange(count)), low=low, high=high)


def _verdict(agreed: float, share: float, gain: Interval, bias: Interval, trusted: bool) -> str:
    parts = []
    if agreed <= 0:
        parts.append("two trainings of the same networks do not agree at all: train them longer")
    elif math.isnan(share):
        parts.append("no ceiling is known: train every network with two seeds or more")
    else:
        parts.append(f"the supernet's ranking reaches {share:.0%} of what two trainings agree on")
    if gain.low > 0:
        parts.append("it knows more than MACs do")
    elif gain.high < 0:
        parts.append("MACs alone rank better")
    else:
        parts.append("inconclusive: the supernet is not shown to rank better than MACs")
    if bias.low > 0:
        parts.append("it overrates wide networks")
    elif bias.high < 0:
        parts.append("it overrates narrow networks")
    head = "trust it" if trusted else "do not rely on it"
    return f"{head}: {'; '.join(parts)}"
