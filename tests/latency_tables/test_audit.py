from __future__ import annotations

import math
import pathlib

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from latency_tables.audit import audit, read_measured
from latency_tables.rank_statistics import bootstrap, kendall, spearman

values = st.lists(st.integers(0, 6), min_size=3, max_size=12).map(np.array)


@given(values, st.randoms(use_true_random=False))
def test_correlations_are_those_of_scipy(a: np.ndarray, random) -> None:
    b = np.array([random.randint(0, 6) for _ in a])
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(kendall(a, b)) and math.isnan(spearman(a, b))
        return
    assert kendall(a, b) == pytest.approx(scipy.stats.kendalltau(a, b)[0], abs=1e-12)
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b)[0], abs=1e-12)


def test_the_bootstrap_holds_the_truth_of_a_large_sample() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    b = a + rng.normal(size=60)
    low, high = bootstrap(spearman, a, b, samples=500)
    assert low < spearman(a, b) < high and 0 < high - low < 0.5
    assert bootstrap(spearman, a, b, samples=500) == (low, high)


def test_audit_ranks_proxies_and_measures_their_error() -> None:
    measured = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    rows = audit(
        {
            "shuffled": (measured[[1, 0, 3, 2, 5, 4]], "ms"),
            "table": (measured * 1.1, "ms"),
            "macs": (measured * 40, "M"),
        },
        measured,
    )
    assert [row.proxy for row in rows] == ["table", "macs", "shuffled"]
    assert rows[0].kendall == rows[0].spearman == 1 and rows[0].median_error == pytest.approx(0.1)
    assert rows[1].scaled and rows[1].median_error == pytest.approx(0)
    assert rows[2].kendall == pytest.approx((12 - 3) / 15)
    with pytest.raises(ValueError, match="at least 5 measured networks, got 3"):
        audit({}, measured[:3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: got columns none; expected network, ms"),
        (
            "name,us\n",
            ":1: got columns name, us; expected network, ms; "
            "times must be in ms, got a column 'us'",
        ),
        ("network,ms\na\n", ":2: expected 2 values"),
        ("network,ms\na,1\nb,-2\n", ":3: ms: got '-2', expected a positive number"),
        ("network,ms\na,nan\n", ":2: ms: got 'nan'"),
        ("network,ms\na,1\na,2\n", ":3: network: 'a' is already in line 2; leave one out"),
    ],
)
def test_bad_measurements(tmp_path: pathlib.Path, text: str, message: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_measured(path)
    assert str(caught.value).startswith(f"{path}{message}")
