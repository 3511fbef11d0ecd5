"""Searchers: what they may propose, and that evolution learns."""

from __future__ import annotations

import random
from typing import get_args

import numpy as np
import pytest

import latency_tables
from latency_tables import CostModel
from nas.policy import repair
from nas.policy.searchers import SEARCHERS, Evolution, Random, Vector
from nas.run.config import DeriveConfig
from rewards import REWARDS
from search_spaces import SearchSpace

BUDGET = 120


def as_it_is(vector: Vector) -> Vector:
    return vector


def reward(vector: Vector) -> float:
    """Largest where every decision takes its first option; no two architectures have the same."""
    return -float(sum(option * 4**place for place, option in enumerate(vector)))


def best_of(space: SearchSpace, name: str, seed: int) -> float:
    searcher = SEARCHERS[name](space, as_it_is, random.Random(seed))
    best = -np.inf
    for _ in range(BUDGET // 4):
        for vector in [searcher.ask() for _ in range(4)]:  # several at a time
            searcher.tell(vector, reward(vector))
            best = max(best, reward(vector))
    return best


def test_a_configuration_knows_them_all() -> None:
    assert {*get_args(DeriveConfig.model_fields["by"].annotation)} == {"policy", *SEARCHERS}


@pytest.mark.parametrize("name", SEARCHERS)
def test_one_seed_one_sequence(name: str, tiny_space: SearchSpace) -> None:
    assert best_of(tiny_space, name, 3) == best_of(tiny_space, name, 3)
    first = [SEARCHERS[name](tiny_space, as_it_is, random.Random(seed)).ask() for seed in range(20)]
    assert len(set(first)) > 3


def test_evolution_mutates_one_active_decision_of_the_best_rival(tiny_space: SearchSpace) -> None:
    searcher = Evolution(tiny_space, as_it_is, random.Random(0), population=5, tournament=5)
    for _ in range(5):
        vector = searcher.ask()
        searcher.tell(vector, reward(vector))
    for _ in range(30):
        parent = max(searcher._members, key=lambda member: member[0])[1]
        child = searcher.ask()
        changed = [place for place, (a, b) in enumerate(zip(parent, child, strict=True)) if a != b]
        assert len(changed) == 1 and tiny_space.active(parent)[changed[0]]
        searcher.tell(child, reward(child))
    assert len(searcher._members) == 5  # the oldest leave


def test_evolution_finds_better_ones_than_chance(tiny_space: SearchSpace) -> None:
    found = {name: np.mean([best_of(tiny_space, name, seed) for seed in range(20)]) for name in SEARCHERS}
    assert found["evolution"] >= found["random"]
    assert found["evolution"] == 0


@pytest.mark.parametrize("kind", [Random, Evolution])
def test_every_proposal_is_near_the_target(kind: type[Random] | type[Evolution], tiny_space: SearchSpace) -> None:
    costs = CostModel.build(tiny_space, [latency_tables.device("macs")])
    target, miss = float(costs(np.array((1, 1, 0, 0, 0, 0)))[0]), REWARDS["absolute"].miss
    near = repair.Near(costs, (target,), miss, 0.1)
    searcher = kind(tiny_space, near, random.Random(0))
    for _ in range(40):
        vector = searcher.ask()
        searcher.tell(vector, reward(vector))
        assert abs(costs(np.array(vector))[0] / target - 1) <= 0.1


def test_near_keeps_what_fits_and_never_makes_it_worse(tiny_space: SearchSpace) -> None:
    costs = CostModel.build(tiny_space, [latency_tables.device("macs")])
    target, rng = costs.range(0)[0] * 1.01, random.Random(0)
    for tolerance in (1e-9, 0.05, 10.0):
        near = repair.Near(costs, (target,), REWARDS["absolute"].miss, tolerance)
        for _ in range(10):
            vector = tiny_space.random(rng)
            before, after = (abs(costs(np.array(v))[0] / target - 1) for v in (vector, near(vector)))
            assert after <= before
            assert before > tolerance or near(vector) == vector
