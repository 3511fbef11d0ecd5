"""Searchers on the host: what they may propose, and that evolution learns."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nas.engine.repair import FeasibilityRepair
from nas.run.config import DeriveConfig
from nas.searchers.base import Vector
from nas.searchers.host import SEARCHERS, Evolution, Random
from search_spaces import SearchSpace

from ..searches import objective_of

BUDGET = 120


def unchanged(vector: Vector) -> Vector:
    return vector


def reward(vector: Vector) -> float:
    """Largest where every decision takes its first option; no two architectures have the same."""
    return -float(sum(option * 4**index for index, option in enumerate(vector)))


def best_of(space: SearchSpace, name: str, seed: int) -> float:
    searcher = SEARCHERS[name](space, unchanged, random.Random(seed))
    best = -np.inf
    for _ in range(BUDGET // 4):
        for vector in [searcher.ask() for _ in range(4)]:  # several at a time
            searcher.tell(vector, reward(vector))
            best = max(best, reward(vector))
    return best


@pytest.mark.parametrize("name", ["policy", *SEARCHERS])
def test_a_configuration_knows_them_all(name: str) -> None:
    assert DeriveConfig(by=name).by == name


@pytest.mark.parametrize("name", SEARCHERS)
def test_one_seed_one_sequence(name: str, tiny_space: SearchSpace) -> None:
    assert best_of(tiny_space, name, 3) == best_of(tiny_space, name, 3)
    first = [
        SEARCHERS[name](tiny_space, unchanged, random.Random(seed)).ask() for seed in range(20)
    ]
    assert len(set(first)) > 3


def test_evolution_mutates_one_active_decision_of_the_best_rival(tiny_space: SearchSpace) -> None:
    searcher = Evolution(tiny_space, unchanged, random.Random(0), population=5, tournament=5)
    for _ in range(5):
        vector = searcher.ask()
        searcher.tell(vector, reward(vector))
    for _ in range(30):
        parent = max(searcher._members, key=lambda member: member[0])[1]
        child = searcher.ask()
        changed = [index for index, (a, b) in enumerate(zip(parent, child, strict=True)) if a != b]
        assert len(changed) == 1 and tiny_space.active(parent)[changed[0]]
        searcher.tell(child, reward(child))
    assert len(searcher._members) == 5  # the oldest leave


def test_evolution_finds_better_ones_than_chance(tiny_space: SearchSpace) -> None:
    best = {
        name: np.mean([best_of(tiny_space, name, seed) for seed in range(20)]) for name in SEARCHERS
    }
    assert best["evolution"] >= best["random"]
    assert best["evolution"] == 0


@pytest.mark.parametrize("kind", [Random, Evolution])
def test_every_proposal_is_near_the_target(
    kind: type[Random] | type[Evolution], tiny_space: SearchSpace
) -> None:
    cost = float(objective_of(tiny_space).costs(np.array((1, 1, 0, 0, 0, 0)))[0])
    objective = objective_of(tiny_space, (cost,), tolerance=0.1)
    searcher = kind(tiny_space, FeasibilityRepair(objective), random.Random(0))
    for _ in range(40):
        vector = searcher.ask()
        searcher.tell(vector, reward(vector))
        assert abs(objective.ratios(np.array(vector))[0] - 1) <= 0.1


def test_repair_keeps_what_fits_and_never_makes_it_worse(tiny_space: SearchSpace) -> None:
    target, rng = objective_of(tiny_space).costs.range(0)[0] * 1.01, random.Random(0)
    for tolerance in (1e-9, 0.05, 10.0):
        objective = objective_of(tiny_space, (target,), tolerance=tolerance)
        repair = FeasibilityRepair(objective)
        for _ in range(10):
            vector = tiny_space.random(rng)
            before, after = objective.miss(np.array([vector, repair(vector)]))
            assert after <= before
            assert before > tolerance or repair(vector) == vector
