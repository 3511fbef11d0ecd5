"""What is asked of a searcher."""

from __future__ import annotations

import numpy as np
import pytest

from nas.search import derive


def test_no_more_is_proposed_than_is_judged() -> None:
    """A searcher counts what it is asked: evolution begins with so many random ones."""
    proposed = iter([(0,), (1,), (1,), (2,), (3,), (4,)])
    assert derive._first_new(proposed, {(0,)}, 3) == [(1,), (2,), (3,)]
    assert list(proposed) == [(4,)]
    assert derive._first_new(iter([(0,)]), {(0,)}, 3) == []


@pytest.mark.parametrize(
    ("count", "rounds", "sizes"),
    [(20, 4, [20, 10, 5, 3]), (16, 1, [16]), (5, 4, [5, 3, 2, 2]), (2, 3, [2, 2, 2]), (1, 2, [1, 1]), (0, 2, [0, 0])],
)
def test_halves(count: int, rounds: int, sizes: list[int]) -> None:
    assert derive.halves(count, rounds) == sizes


def test_the_better_half_is_trained_again() -> None:
    """The mean of all trainings decides among those that are left; what a round drops is not trained again."""
    results = np.array([[0.9, 0.1, 0.1], [0.8, 0.5, 0.8], [0.7, 0.9, 0.9], [0.6, 1.0, 1.0]])
    trained: list[tuple[list[int], int]] = []

    def train(vectors: np.ndarray, seeds: int) -> np.ndarray:
        trained.append((vectors[:, 0].tolist(), seeds))
        return results[vectors[:, 0], :seeds]

    pool = np.arange(5)[:, None]
    place, accuracy = derive.Finals(4, 3, train).best(pool, lambda vectors, accuracies: accuracies)
    assert trained == [([0, 1, 2, 3], 1), ([0, 1], 2), ([1, 0], 3)]
    assert place == 1 and accuracy == pytest.approx(0.7)
    place, _ = derive.Finals(4, 3, train).best(pool, lambda vectors, accuracies: -accuracies)
    assert place == 2
    place, accuracy = derive.Finals(9, 1, train).best(pool[:1], lambda vectors, accuracies: accuracies)
    assert place == 0 and accuracy == 0.9
