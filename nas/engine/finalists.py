"""Finalists: candidates that are trained one by one, in rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class SuccessiveHalving:
    """Rounds of stand-alone trainings, for candidates that the supernet does not tell apart.

    All candidates are trained once, the better half of them (at least two) again with another seed,
    and so on; a network is represented by the mean over its trainings. So most trainings are spent
    where the choice is close.

    Attributes:
      count: Candidates in the first round, those of the best reward in the supernet.
      rounds: Number of rounds, which is the number of trainings of the last candidates; at least 1.
      train: From (vectors [n, decisions], seeds) to held-out accuracies after training [n, seeds].

    Source: successive halving (arXiv 1502.07943); another seed instead of a longer training is
      ours.
    """

    count: int
    rounds: int
    train: Callable[[np.ndarray, int], np.ndarray]

    def best(
        self, pool: np.ndarray, rewards: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> tuple[int, float]:
        """The candidate that is left after the last round.

        Args:
          pool: [n, decisions], those of the best reward in the supernet first.
          rewards: From (accuracies [n], vectors [n, decisions]) to rewards [n].

        Returns:
          Its position in the pool, and the mean of its accuracies.
        """
        left = np.arange(len(pool))
        accuracies = np.zeros(len(pool))
        for seeds, size in enumerate(round_sizes(self.count, self.rounds), start=1):
            left = left[:size]
            accuracies = self.train(pool[left], seeds).mean(1)
            order = np.argsort(-rewards(accuracies, pool[left]), kind="stable")
            left = left[order]
            accuracies = accuracies[order]
        return int(left[0]), float(accuracies[0])


def round_sizes(count: int, rounds: int) -> list[int]:
    """Number of candidates in each round.

    The better half of those before, at least two if there are two.

    Args:
      count: Candidates in the first round.
      rounds: Number of rounds.

    Returns:
      One number for each round.
    """
    sizes = [count]
    while len(sizes) < rounds:
        sizes.append(min(max(-(-sizes[-1] // 2), 2), count))
    return sizes


def trainings_before(count: int, rounds: int, seeds: int) -> int:
    """Trainings of all rounds before one, without those that its candidates have had.

    Args:
      count: Candidates in the first round.
      rounds: Number of rounds.
      seeds: Number of the round, from 1: its candidates have been trained `seeds` - 1 times.

    Returns:
      The number of trainings of candidates that have dropped out.
    """
    sizes = round_sizes(count, rounds)
    return sum(sizes[: seeds - 1]) - sizes[seeds - 1] * (seeds - 1)
