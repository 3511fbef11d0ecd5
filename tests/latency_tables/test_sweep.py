from __future__ import annotations

import itertools

import numpy as np
import pytest

import latency_tables
import search_spaces
from latency_tables import sweep

NAMES = ("mnv4-conv-s", "mnv4-conv-m", "mobilenet-v2")
SPECS = [search_spaces.zoo(name) for name in NAMES]


def test_a_sweep_is_the_roofline_at_every_point() -> None:
    got = sweep.sweep(SPECS, sweep.PLOTTED)
    assert got.names == NAMES and got.points.tolist() == [0, 5, 50, 500] and got.ms.shape == (3, 4)
    for (row, spec), (column, point) in itertools.product(
        enumerate(SPECS), enumerate(sweep.PLOTTED)
    ):
        assert got.ms[row, column] == pytest.approx(latency_tables.roofline_ms(spec, point))
    # source: the paper's figures
    np.testing.assert_allclose(got.ms[0], [0.948, 1.000, 0.176, 0.147], atol=6e-4)
    np.testing.assert_allclose(got.ms[1], [5.425, 5.475, 0.678, 0.436], atol=6e-4)
    np.testing.assert_allclose(got.ratios("mnv4-conv-m"), got.ms / got.ms[1])
    with pytest.raises(ValueError, match="reference 'x' is not among mnv4-conv-s, "):
        got.ratios("x")


def test_points() -> None:
    points = sweep.ridge_points(5, 1, 1000)
    np.testing.assert_allclose(points, [0, 1, 10, 100, 1000])
    assert len(sweep.ridge_points()) == 41 and sweep.ridge_points()[-1] == 500


def test_pareto_by_hand() -> None:
    ms = np.array([1.0, 2.0, 2.0, 3.0, 1.0])
    quality = np.array([0.5, 0.6, 0.7, 0.7, 0.5])
    assert sweep.pareto(ms, quality).tolist() == [True, False, True, False, True]  # ties stay


def test_latency_never_grows_with_more_arithmetic() -> None:
    """At a fixed bandwidth a higher ridge point is a faster machine."""
    got = sweep.sweep(SPECS, sweep.ridge_points()[1:])
    assert (np.diff(got.ms, axis=1) <= 1e-15).all()
