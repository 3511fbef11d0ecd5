"""Intervals of means over seeds."""

from __future__ import annotations

import math

import pytest

from nas.report.train_matrix import interval


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        ([0.5], 0.5, math.nan),
        ([0.4, 0.6], 0.5, 12.706 * 0.1),
        ([0.4, 0.5, 0.6], 0.5, 4.303 * 0.1 / 3**0.5),
        ([0.0, 1.0] * 31, 0.5, 2.0 * (0.25 * 62 / 61 / 62) ** 0.5),
    ],
)
def test_mean_and_half_width(values: list[float], mean: float, half: float) -> None:
    found = interval(values)
    assert found.mean == pytest.approx(mean)
    assert found.half_width == pytest.approx(half, rel=2e-3, nan_ok=True)
    assert str(found).count("\u00b1") == (len(values) > 1)
