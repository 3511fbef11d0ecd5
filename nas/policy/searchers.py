"""Searchers that are asked for an architecture and told its reward: random and regularised evolution.

They propose to a supernet that is trained already; to add one: a class, a row in `SEARCHERS`, and its name in
`DeriveConfig.by`.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from typing import Protocol

from search_spaces import SearchSpace

Vector = tuple[int, ...]
Admit = Callable[[Vector], Vector]
"""Turns any architecture into one that may be proposed, e.g. the nearest that meets the targets."""


class Searcher(Protocol):
    """Asked and told in turn; several may be asked for before any is told."""

    def ask(self) -> Vector:
        """An architecture to be judged."""
        ...

    def tell(self, vector: Vector, reward: float) -> None:
        """Its reward."""
        ...


class Random:
    """Independent uniform architectures, made admissible.

    Args:
      space: the space.
      admit: see `Admit`.
      rng: consumed.
    """

    def __init__(self, space: SearchSpace, admit: Admit, rng: random.Random):
        self._space, self._admit, self._rng = space, admit, rng

    def ask(self) -> Vector:
        """See `Searcher`."""
        return self._admit(self._space.random(self._rng))

    def tell(self, vector: Vector, reward: float) -> None:
        """Nothing is learned."""


class Evolution:
    """Regularised evolution: the best of a few members of the population is mutated; the oldest member leaves.

    A mutation gives one active decision another option. The first `population` architectures are random.

    Args:
      space: the space.
      admit: see `Admit`.
      rng: consumed.
      population: members.
      tournament: members that compete to be the parent.

    Source: Real et al. 2019 (arXiv 1802.01548).
    """

    def __init__(self, space: SearchSpace, admit: Admit, rng: random.Random, population: int = 24, tournament: int = 6):
        self._space, self._admit, self._rng = space, admit, rng
        self._asked, self._tournament = 0, tournament
        self._members: collections.deque[tuple[float, Vector]] = collections.deque(maxlen=population)

    def ask(self) -> Vector:
        """See `Searcher`."""
        self._asked += 1
        assert self._members.maxlen
        if self._asked <= self._members.maxlen or not self._members:
            return self._admit(self._space.random(self._rng))
        rivals = self._rng.sample(list(self._members), min(self._tournament, len(self._members)))
        _, parent = max(rivals, key=lambda member: member[0])
        return self._admit(self._mutated(parent))

    def tell(self, vector: Vector, reward: float) -> None:
        """See `Searcher`."""
        self._members.append((reward, vector))

    def _mutated(self, parent: Vector) -> Vector:
        active = [place for place, on in enumerate(self._space.active(parent)) if on]
        place = self._rng.choice(active)
        others = [k for k in range(self._space.decisions[place].options) if k != parent[place]]
        return (*parent[:place], self._rng.choice(others), *parent[place + 1 :])


SEARCHERS: dict[str, Callable[[SearchSpace, Admit, random.Random], Searcher]] = {
    "random": Random,
    "evolution": Evolution,
}
