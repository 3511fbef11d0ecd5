"""Class-balanced choice: most relevant first, rare classes repeated."""

from __future__ import annotations

import numpy as np
import pytest

from nas.distillation import balance

SCORES = np.array(
    [[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [np.nan, np.nan], [0.2, 0.8], [0.7, 0.3], [0.55, 0.45]],
    np.float32,
)


def test_the_most_relevant_of_each_class_come_first() -> None:
    assert balance.select(SCORES, 2, 0.3, ("a", "b")).tolist() == [0, 2, 4, 1]


def test_rare_classes_are_repeated_in_the_same_order() -> None:
    assert balance.select(SCORES, 5, 0.3, ("a", "b")).tolist() == [0, 2, 5, 6, 0, 4, 1, 4, 1, 4]


def test_the_threshold_leaves_out_what_is_not_clear() -> None:
    assert balance.select(SCORES, 3, 0.65, ("a", "b")).tolist() == [0, 2, 5, 4, 4, 4]


def test_an_empty_class_is_named_with_what_it_reached() -> None:
    with pytest.raises(
        ValueError, match="class 'b': no image .* more than 0.85 .* 0.800.*lower `threshold`"
    ):
        balance.select(SCORES, 2, 0.85, ("a", "b"))
