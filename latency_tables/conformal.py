"""Split-conformal intervals: the error of a device's estimates, from the errors of earlier ones."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pydantic

from search_spaces.frozen import FrozenModel

Level = Annotated[float, pydantic.Field(gt=0, lt=1)]


class Calibration(FrozenModel):
    """Ratios measured / estimated of cases that the estimator had not seen, and their consequences.

    Let r_1 <= ... <= r_n be the ratios, and r the ratio of a new case. If the n + 1 cases are
    exchangeable, r falls between r_j and r_k with probability at least (k - j) / (n + 1), and
    exactly that without ties. There is no other assumption.

    Exchangeable means that any order of the cases is as likely as any other. This asks for:

    - Ratios of an estimator that was fitted without those cases (out-of-fold estimates, or a
      formula), one for each distinct case.
    - A new case that is drawn in the same way. Ratios of operations hold for operations of the same
      kind and sizes on the same device. They do not hold for sums over a network, whose errors
      partly cancel: calibrate those on measured networks. They do not hold for an architecture that
      a search selected because its estimate is low.

    Statements are about the average over cases and calibrations, not about one architecture.
    Out-of-fold ratios belong to a slightly worse model than one that is fitted to all rows.

    Attributes:
      ratios: Sorted ratios. If `normalised`, (measured / estimated) ^ (1 / deviation): each ratio
        as if its relative deviation were 1, so that a less certain estimate gets a wider interval.
      level: Default probability of `interval`.
      normalised: Whether a deviation must be given with every estimate.

    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), chapter 2;
    Lei et al., Distribution-Free Predictive Inference for Regression (2018), section 5.2 for the
    normalised form.
    """

    ratios: Annotated[tuple[float, ...], pydantic.Field(min_length=1)]
    level: Level = 0.9
    normalised: bool = False

    @pydantic.field_validator("ratios")
    @classmethod
    def _sorted(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        for ratio in ratios:
            if not (math.isfinite(ratio) and ratio > 0):
                raise ValueError(
                    f"ratios: got {ratio}, expected positive numbers (measured / estimated)"
                )
        if any(a > b for a, b in itertools.pairwise(ratios)):
            raise ValueError("ratios: must be sorted, the smallest first")
        return ratios

    @classmethod
    def from_ratios(
        cls,
        estimated: Sequence[float] | np.ndarray,
        measured: Sequence[float] | np.ndarray,
        level: float = 0.9,
        deviation: Sequence[float] | np.ndarray | None = None,
    ) -> Calibration:
        """Calibrate on cases that the estimator was not fitted to.

        Args:
          estimated: [n] estimates.
          measured: [n] measured values, in the unit of `estimated`.
          level: Default probability of an interval, e.g. 0.9.
          deviation: [n] relative deviations that the estimator expected; then intervals scale with
            them.

        Returns:
          The calibration.

        Raises:
          ValueError: Shapes that differ, or a value that is not positive.
        """
        scores = _scores(estimated, measured, deviation)
        # rounded to the digits that a device file keeps
        ratios = tuple(float(f"{ratio:.6g}") for ratio in np.exp(np.sort(scores)))
        return cls(ratios=ratios, level=level, normalised=deviation is not None)

    def interval(
        self, ms: float, level: float | None = None, deviation: float | None = None
    ) -> tuple[float, float]:
        """Return the interval that holds the time of a new case with probability at least `level`.

        [ms r_j, ms r_k] with k - j = ceil((n + 1) level), in the middle. r_0 = 0 and
        r_(n+1) = infinity, which occur where there are too few cases for a level. A higher level
        gives an interval around that of a lower one.

        Args:
          ms: Estimate.
          level: Probability; None for that of the calibration.
          deviation: Relative deviation of the estimate, if the calibration is normalised.

        Returns:
          Lowest and highest time, in the unit of `ms`.

        Raises:
          ValueError: A level outside of 0 to 1, an estimate that is not positive, or a deviation
            that is missing or not wanted.
        """
        level = self.level if level is None else level
        if not 0 < level < 1:
            raise ValueError(f"interval: got level {level}, expected more than 0 and less than 1")
        low, high = _ranks(len(self.ratios), level)
        return self._time(ms, low, deviation), self._time(ms, high, deviation)

    def factor(self, p: float, deviation: float | None = None) -> float:
        """Return the smallest factor such that P(time <= estimate * factor) >= p.

        For a constraint that holds with probability p: compare `estimate * factor(p)` with the
        target.

        Args:
          p: Probability.
          deviation: Relative deviation of the estimate, if the calibration is normalised.

        Returns:
          The factor; infinite if p needs more cases.

        Raises:
          ValueError: A probability outside of 0 to 1, or a deviation that is missing or not wanted.
        """
        if not 0 < p < 1:
            raise ValueError(f"factor: got p={p}, expected more than 0 and less than 1")
        return self._time(1.0, _ceil((len(self.ratios) + 1) * p), deviation)

    def probability_below(self, ms: float, target: float, deviation: float | None = None) -> float:
        """Return a lower bound of the probability that a new case takes at most `target`.

        #{i: ms r_i <= target} / (n + 1)

        Args:
          ms: Estimate.
          target: Time, in the unit of `ms`.
          deviation: Relative deviation of the estimate, if the calibration is normalised.

        Returns:
          The probability.

        Raises:
          ValueError: An estimate or a target that is not positive, or a deviation that is missing
            or not wanted.
        """
        if not target > 0:
            raise ValueError(f"probability_below: got target {target}, expected more than 0")
        ranks = range(1, len(self.ratios) + 1)
        return bisect.bisect_right(
            ranks, target, key=lambda rank: self._time(ms, rank, deviation)
        ) / (len(ranks) + 1)

    def _time(self, ms: float, rank: int, deviation: float | None) -> float:
        if (deviation is not None) != self.normalised:
            wanted = (
                "needs the deviation of each estimate"
                if self.normalised
                else "has no use for a deviation"
            )
            raise ValueError(f"calibration: got deviation {deviation}, but this one {wanted}")
        power = 1.0 if deviation is None else deviation
        if not (ms > 0 and power > 0):
            raise ValueError(
                f"calibration: got an estimate of {ms}, deviation {deviation}; expected more than 0"
            )
        if rank < 1:
            return 0.0
        return ms * self.ratios[rank - 1] ** power if rank <= len(self.ratios) else math.inf


def coverage(
    estimated: Sequence[float] | np.ndarray,
    measured: Sequence[float] | np.ndarray,
    level: float = 0.9,
    seed: int = 0,
    repeats: int = 100,
    *,
    deviation: Sequence[float] | np.ndarray | None = None,
    groups: Sequence[int] | np.ndarray | None = None,
) -> float:
    """Estimate the share of cases inside their intervals.

    Calibrates on a random half of the cases, and counts the other half; the mean over repeats.

    Args:
      estimated: [n] estimates of an estimator that was not fitted to the cases.
      measured: [n] measured values, in the unit of `estimated`.
      level: Probability of the intervals.
      seed: Random seed of the splits.
      repeats: Number of splits.
      deviation: [n] relative deviations that the estimator expected, or None.
      groups: [n] integers; cases of one group (e.g. rows of one operation) stay in one half.

    Returns:
      Mean fraction of cases inside their interval.

    Raises:
      ValueError: As `Calibration.from_ratios`; fewer than 2 cases or groups.
    """
    scores = _scores(estimated, measured, deviation)
    labels = (
        np.arange(len(scores))
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    count = int(labels.max()) + 1
    if count < 2 or labels.shape != scores.shape or repeats < 1 or not 0 < level < 1:
        raise ValueError(
            f"coverage: got {len(scores)} cases in {count} groups (labels of shape "
            f"{labels.shape}), level {level}, repeats {repeats}; expected at least 2 groups, one "
            "label a case, a level between 0 and 1"
        )
    rng, fractions = np.random.default_rng(seed), []
    for _ in range(repeats):
        known = (rng.permutation(count) < count // 2)[labels]
        sorted_scores = np.concatenate([[-np.inf], np.sort(scores[known]), [np.inf]])
        low, high = _ranks(len(sorted_scores) - 2, level)
        inside = (scores[~known] >= sorted_scores[low]) & (scores[~known] <= sorted_scores[high])
        fractions.append(inside.mean())
    return float(np.mean(fractions))


def _ranks(count: int, level: float) -> tuple[int, int]:
    """Ranks j < k, from 0 to count + 1, of the ends of an interval."""
    inside = _ceil((count + 1) * level)
    low = (count + 1 - inside) // 2
    return low, low + inside


def _scores(
    estimated: Sequence[float] | np.ndarray,
    measured: Sequence[float] | np.ndarray,
    deviation: Sequence[float] | np.ndarray | None,
) -> np.ndarray:
    """log(measured / estimated) / deviation, [n]."""
    columns = {"estimated": estimated, "measured": measured}
    columns |= {} if deviation is None else {"deviation": deviation}
    arrays = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    shape = arrays["measured"].shape
    for name, values in arrays.items():
        if values.shape != shape or values.ndim != 1 or not len(values):
            raise ValueError(
                f"calibration: {name}: got shape {values.shape}, expected {shape}, one value a case"
            )
        for index in np.flatnonzero(~(np.isfinite(values) & (values > 0))).tolist():
            raise ValueError(
                f"calibration: {name}: case {index}: got {values[index]}, "
                "expected a positive number"
            )
    scores = np.log(arrays["measured"] / arrays["estimated"])
    return scores / arrays["deviation"] if "deviation" in arrays else scores


def _ceil(value: float) -> int:
    # (99 + 1) * 0.07 is 7.000000000000001
    return math.ceil(value - 1e-9)
