"""Measures of a classifier, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.training import evaluation


def test_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]])
    found = evaluation.measure(p, np.array([0, 2, 0, 2]))
    assert (found.images, found.accuracy, found.top5) == (4, 0.75, 1.0)
    assert found.nll == pytest.approx(-(2 * math.log(0.5) + math.log(0.7) + math.log(0.3)) / 4)
    # Bins of 1/15: .7 alone (right), .6 alone (wrong), both .5 together (right).
    assert found.ece == pytest.approx((0.3 + 0.6 + 2 * 0.5) / 4)
    assert found.confusion.tolist() == [[2, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_the_label_must_be_among_five() -> None:
    p = np.array([[0.3, 0.2, 0.15, 0.12, 0.11, 0.07, 0.05]])
    assert [evaluation.measure(p, np.array([label])).top5 for label in (4, 5)] == [1.0, 0.0]


def test_a_constant_answer_is_no_good_one() -> None:
    found = evaluation.measure(np.full((6, 6), 1 / 6), np.arange(6))
    assert found.top5 == 0.0 and found.accuracy == pytest.approx(1 / 6)


def test_images_without_a_label_do_not_count() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    found = evaluation.measure(p, np.array([0, -1, 0]))
    assert found.images == 2 and found.accuracy == 0.5
    with pytest.raises(ValueError, match="no image has a label"):
        evaluation.measure(p, np.full(3, -1))


@given(st.integers(1, 60), st.integers(2, 9), st.integers(0, 2**31))
def test_of_any_answers(count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, labels = rng.dirichlet(np.full(classes, 0.3), count), rng.integers(0, classes, count)
    found = evaluation.measure(p, labels)
    assert 0 <= found.accuracy <= found.top5 <= 1 and 0 <= found.ece <= 1 and found.nll >= 0
    assert found.confusion.sum() == count
    assert np.trace(found.confusion) == round(found.accuracy * count)
    assert found.confusion.sum(1).tolist() == np.bincount(labels, minlength=classes).tolist()
