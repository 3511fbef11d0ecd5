"""Sparse labels: what is kept, what the rest becomes, and what is lost."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from nas.data.distilled import labels


def test_the_rest_is_spread_evenly() -> None:
    p = np.array([[0.5, 0.25, 0.125, 0.0625, 0.0625]], np.float32)
    sparse = labels.keep_top(p, 2)
    assert sparse.classes.tolist() == [[0, 1]] and sparse.values.tolist() == [[0.5, 0.25]]
    np.testing.assert_allclose(
        labels.dense(sparse, 5), [[0.5, 0.25, 1 / 12, 1 / 12, 1 / 12]], rtol=1e-6
    )
    assert labels.rest_mass(sparse) == pytest.approx(0.25)
    lost = 0.125 * np.log(0.125 * 12) + 2 * 0.0625 * np.log(0.0625 * 12)
    assert labels.lost_nats(p, sparse) == pytest.approx(lost, rel=1e-4)


def test_ties_are_kept_in_the_order_of_the_classes() -> None:
    assert labels.keep_top(np.full((1, 4), 0.25, np.float32), 3).classes.tolist() == [[0, 1, 2]]


@hypothesis.given(
    logits=st.lists(st.floats(-20, 20), min_size=2, max_size=30),
    k=st.integers(1, 30),
    seed=st.integers(0, 5),
)
def test_dense_is_a_distribution_close_to_the_teacher(
    logits: list[float], k: int, seed: int
) -> None:
    p = np.exp(np.array([logits], np.float64) - max(logits))
    p = (p / p.sum()).astype(np.float32)
    k = min(k, p.shape[1])
    sparse = labels.keep_top(p, k)
    q = labels.dense(sparse, p.shape[1])
    assert q.dtype == np.float32 and (q >= 0).all() and abs(q.sum() - 1) < 1e-5
    kept = sparse.classes[0].astype(int)
    np.testing.assert_allclose(q[0, kept], p[0, kept], rtol=2e-3, atol=1e-6)
    if k == p.shape[1]:
        assert labels.lost_nats(p, sparse)[0] < 1e-4
    assert labels.lost_nats(p, sparse)[0] >= -1e-4


@pytest.mark.parametrize(("p", "expected"), [([1.0, 0.0], 0.0), ([0.5, 0.5], 1.0)])
def test_entropy_is_a_share_of_the_largest(p: list[float], expected: float) -> None:
    assert labels.entropy(np.array([p], np.float32)) == pytest.approx(expected)
