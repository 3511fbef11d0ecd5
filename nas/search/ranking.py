"""Can the supernet's ranking of networks be trusted? Statistics of its accuracies against those of trained networks.

Letters: n networks, s seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from latency_tables.audit import kendall, resampled, spearman
from search_spaces.choice import Frozen

NEAR = 0.1
"""Pairs whose costs differ by less are what a search has to tell apart, and MACs cannot."""
_SHARE_OF_CEILING = 0.8
_LEAST_RELIABILITY = 0.1  # trainings that agree less explain nothing
_TOP = (1, 3, 5)
_RESAMPLES = 1000


class Interval(Frozen):
    """A number with the ends of its 95 % bootstrap interval over networks; NaN where it is not defined."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """E.g. "0.61 [0.42, 0.76]"."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Agreement(Frozen):
    """How one estimate ranks the networks.

    Attributes:
      kendall, spearman: against one training of each network, mean over the seeds (as the ceiling is).
      near: Kendall's tau of the pairs of nearly equal cost alone.
    """

    kendall: Interval
    spearman: Interval
    near: Interval


class Diagnosis(Frozen):
    """What there is to say of a supernet.

    Attributes:
      networks, seeds: n and s.
      near_pairs: pairs of networks whose costs differ by less than `NEAR`.
      ceiling: one training of the networks against another one, None with one seed. What had less noise than a training
        could agree with single trainings somewhat better.
      estimates: the supernet, and what costs nothing.
      gain: tau of the supernet less that of MACs.
      regret: {k: accuracy of the best network less that of the best among the supernet's first k}.
      bias: Spearman's correlation of the supernet with cost, less what its agreement with the truth explains of it:
        rho(supernet, cost) - rho(supernet, trained) rho(trained, cost) / r, where r is the reliability of the mean of
        the s trainings (Spearman-Brown, from the ceiling). 0 for a supernet that is noisy and nothing else; above 0,
        wide networks are overrated. NaN with one seed.
      trusted: whether the ranking reaches 0.8 of the ceiling, and MACs less surely.
      verdict: a sentence for people.
    """

    networks: int
    seeds: int
    near_pairs: int
    ceiling: Agreement | None
    estimates: dict[str, Agreement]
    gain: Interval
    regret: dict[int, float]
    bias: Interval
    trusted: bool
    verdict: str


def diagnose(supernet: np.ndarray, trained: np.ndarray, cost: np.ndarray, free: dict[str, np.ndarray]) -> Diagnosis:
    """Compare accuracies inside the supernet with those after training.

    Args:
      supernet: [n].
      trained: [n, s], a column a seed.
      cost: [n], says which networks are near.
      free: {name: [n]} of what costs nothing to know; must have "MACs".
    """
    n = len(supernet)
    estimates = {"supernet": _agreement(_each(supernet, trained), cost)}
    estimates |= {name: _agreement(_each(values, trained), cost) for name, values in free.items()}
    seeds = trained.shape[1]
    pairs = [(trained[:, a], trained[:, b]) for a, b in itertools.combinations(range(seeds), 2)]
    ceiling = _agreement(pairs, cost) if pairs else None
    macs = free["MACs"]

    def gain(draw: np.ndarray) -> float:
        return _mean(kendall, _each(supernet, trained), draw) - _mean(kendall, _each(macs, trained), draw)

    gained = _interval(gain, n)
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
    trusted = bool(share >= _SHARE_OF_CEILING and gained.low > 0)
    leaning = _interval(bias, n)
    return Diagnosis(
        networks=n,
        seeds=seeds,
        near_pairs=int(np.triu(_near(cost), 1).sum()),
        ceiling=ceiling,
        estimates=estimates,
        gain=gained,
        regret=regret,
        bias=leaning,
        trusted=trusted,
        verdict=_verdict(agreed, share, gained, leaning, trusted),
    )


def near_kendall(a: np.ndarray, b: np.ndarray, cost: np.ndarray) -> float:
    """(concordant - discordant) / pairs, over pairs of [n] near in cost and tied in neither; NaN without any."""
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    chosen = signs[np.triu(_near(cost), 1) & (signs != 0)]
    return float(chosen.mean()) if len(chosen) else math.nan


def _near(cost: np.ndarray) -> np.ndarray:
    return np.maximum(cost[:, None], cost) < (1 + NEAR) * np.minimum(cost[:, None], cost)


Pairs = list[tuple[np.ndarray, np.ndarray]]


def _each(values: np.ndarray, trained: np.ndarray) -> Pairs:
    return [(values, column) for column in trained.T]


def _agreement(pairs: Pairs, cost: np.ndarray) -> Agreement:
    def near(draw: np.ndarray) -> float:
        return float(np.mean([near_kendall(a[draw], b[draw], cost[draw]) for a, b in pairs]))

    count = len(cost)
    return Agreement(
        kendall=_interval(lambda draw: _mean(kendall, pairs, draw), count),
        spearman=_interval(lambda draw: _mean(spearman, pairs, draw), count),
        near=_interval(near, count),
    )


def _mean(statistic: Callable[[np.ndarray, np.ndarray], float], pairs: Pairs, draw: np.ndarray) -> float:
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
        parts.append("whether it knows more than MACs these networks cannot tell")
    if bias.low > 0:
        parts.append("it overrates wide networks")
    elif bias.high < 0:
        parts.append("it overrates narrow networks")
    head = "trust it" if trusted else "do not rely on it"
    return f"{head}: {'; '.join(parts)}"
