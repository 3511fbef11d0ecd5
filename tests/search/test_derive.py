"""What is asked of a searcher, and which finalists are trained again."""

from __future__ import annotations

import numpy as np
import pytest

from nas.engine import derive, finalists


def test_no_more_is_proposed_than_is_evaluated() -> None:
    """A searcher counts what it is asked: evolution begins with a number of random ones."""
    proposed = iter([(0,), (1,), (1,), (2,), (3,), (4,)])
    assert derive._first_new(proposed, {(0,)}, 3) == [(1,), (2,), (3,)]
    assert list(proposed) == [(4,)]
    assert derive._first_new(iter([(0,)]), {(0,)}, 3) == []


@pytest.mark.parametrize(
    ("count", "rounds", "sizes"),
    [
        (20, 4, [20, 10, 5, 3]),
        (16, 1, [16]),
        (5, 4, [5, 3, 2, 2]),
        (2, 3, [2, 2, 2]),
        (1, 2, [1, 1]),
        (0, 2, [0, 0]),
    ],
)
def test_each_round_is_half_of_the_one_before(count: int, rounds: int, sizes: list[int]) -> None:
    assert finalists.round_sizes(count, rounds) == sizes


@pytest.mark.parametrize(("seeds", "trainings"), [(1, 0), (2, 10), (3, 20), (4, 26)])
def test_trainings_that_no_later_round_needs(seeds: int, trainings: int) -> None:
    """20, 10, 5 and 3 candidates: 10 drop out after 1 training, 5 after 2, 2 after 3."""
    assert finalists.trainings_before(20, 4, seeds) == trainings


def test_the_better_half_is_trained_again() -> None:
    """The mean of all trainings decides among those left; what a round drops is done with."""
    results = np.array([[0.9, 0.1, 0.1], [0.8, 0.5, 0.8], [0.7, 0.9, 0.9], [0.6, 1.0, 1.0]])
    trained: list[tuple[list[int], int]] = []

    def train(vectors: np.ndarray, seeds: int) -> np.ndarray:
        trained.append((vectors[:, 0].tolist(), seeds))
        return results[vectors[:, 0], :seeds]

    def accuracy_itself(accuracies: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        assert len(accuracies) == len(vectors)
        return accuracies

    pool = np.arange(5)[:, None]
    halving = finalists.SuccessiveHalving(4, 3, train)
    position, accuracy = halving.best(pool, accuracy_itself)
    assert trained == [([0, 1, 2, 3], 1), ([0, 1], 2), ([1, 0], 3)]
    assert position == 1 and accuracy == pytest.approx(0.7)
    position, _ = halving.best(pool, lambda accuracies, vectors: -accuracies)
    assert position == 2
    halving = finalists.SuccessiveHalving(9, 1, train)
    position, accuracy = halving.best(pool[:1], accuracy_itself)
    assert position == 0 and accuracy == 0.9
