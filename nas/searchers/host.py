"""Searchers on the host: random search and regularised evolution. No JAX.

They propose architectures to a supernet that has been trained. To add one: a class with `ask` and
`tell`, and a row in `SEARCHERS`; one of your own can be given to `nas.derive(by=...)` without
editing this package.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Callable

from nas.searchers.base import Repair, Searcher, Vector
from search_spaces import SearchSpace
from search_spaces.families import Family


class Random:
    """Independent uniform architectures, repaired.

    Args:
      space: Search space.
      repair: See `Repair`.
      rng: Random numbers; consumed.
    """

    def __init__(self, space: SearchSpace, repair: Repair, rng: random.Random):
        self._space = space
        self._repair = repair
        self._rng = rng

    def ask(self) -> Vector:
        """See `Searcher`."""
        return self._repair(self._space.random(self._rng))

    def tell(self, vector: Vector, reward: float) -> None:
        """See `Searcher`; random search learns nothing.

        Args:
          vector: The architecture.
          reward: Its reward.
        """


class Evolution:
    """Regularised evolution.

    The best of a few members of the population is mutated; the oldest member leaves.

    A mutation gives one active decision another option. The first `population` architectures are
    random.

    Args:
      space: Search space.
      repair: See `Repair`.
      rng: Random numbers; consumed.
      population: Number of members.
      tournament: Members that compete to be the parent.

    Source: Real et al. 2019 (arXiv 1802.01548).
    """

    def __init__(
        self,
        space: SearchSpace,
        repair: Repair,
        rng: random.Random,
        population: int = 24,
        tournament: int = 6,
    ):
        self._space = space
        self._repair = repair
        self._rng = rng
        self._population = population
        self._tournament = tournament
        self._asked = 0
        self._members: collections.deque[tuple[float, Vector]] = collections.deque(
            maxlen=population
        )

    def ask(self) -> Vector:
        """See `Searcher`."""
        self._asked += 1
        if self._asked <= self._population or not self._members:
            return self._repair(self._space.random(self._rng))
        rivals = self._rng.sample(list(self._members), min(self._tournament, len(self._members)))
        _, parent = max(rivals, key=lambda member: member[0])
        return self._repair(self._mutated(parent))

    def tell(self, vector: Vector, reward: float) -> None:
        """See `Searcher`.

        Args:
          vector: The architecture.
          reward: Its reward.
        """
        self._members.append((reward, vector))

    def _mutated(self, parent: Vector) -> Vector:
        active = [index for index, on in enumerate(self._space.active(parent)) if on]
        index = self._rng.choice(active)
        options = range(self._space.decisions[index].options)
        others = [option for option in options if option != parent[index]]
        return (*parent[:index], self._rng.choice(others), *parent[index + 1 :])


SEARCHERS: Family[Callable[[SearchSpace, Repair, random.Random], Searcher]] = Family(
    "searcher", {"random": Random, "evolution": Evolution}
)
"""Searchers by name."""
