"""Exchange repair: exact counts, and candidates against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import latency_tables
from latency_tables import CostModel
from nas.policy import repair
from rewards import REWARDS
from search_spaces import SearchSpace

START = (1, 0, 0, 1, 0, 0)
MISS = REWARDS["absolute"].miss


@pytest.fixture(scope="module")
def costs(tiny_space: SearchSpace) -> CostModel:
    return CostModel.build(tiny_space, [latency_tables.device(name) for name in ("macs", "params")])


@pytest.fixture(scope="module")
def likely(tiny_space: SearchSpace) -> np.ndarray:
    """Log-probabilities under which START is the most likely vector."""
    raw = np.random.default_rng(0).normal(size=(6, 3))
    raw[np.arange(6), START] = raw.max() + 1
    raw = np.where(np.arange(3) < np.array([d.options for d in tiny_space.decisions])[:, None], raw, -np.inf)
    return np.asarray(raw - np.log(np.exp(raw).sum(-1, keepdims=True)))


def near(space: SearchSpace, start: tuple[int, ...], most: int) -> list[tuple[int, ...]]:
    every = itertools.product(*(range(decision.options) for decision in space.decisions))
    return [v for v in every if sum(a != b for a, b in zip(v, start, strict=True)) <= most]


class TestExchanges:
    def test_counts(self) -> None:
        """1 + sum (n_i - 1) + sum over pairs of (n_i - 1)(n_j - 1): 1 + (1 + 2 + 3) + (2 + 3 + 6)."""
        got = repair.exchanges((2, 3, 4), (1, 0, 3))
        assert got.shape == (18, 3) and got.dtype == np.int32
        assert len(repair.exchanges((2,), (0,))) == 2

    def test_are_all_vectors_at_most_two_away(self, tiny_space: SearchSpace) -> None:
        got = repair.exchanges(tuple(d.options for d in tiny_space.decisions), START)
        assert tuple(got[0]) == START
        rows = [tuple(row) for row in got.tolist()]
        assert sorted(rows) == sorted(near(tiny_space, START, 2))


class TestCandidates:
    def test_a_target_further_than_two_exchanges_is_reached_too(
        self, tiny_space: SearchSpace, costs: CostModel, likely: np.ndarray
    ) -> None:
        macs = CostModel.build(tiny_space, [latency_tables.device("macs")])
        options = tuple(decision.options for decision in tiny_space.decisions)
        far = [v for v in itertools.product(*map(range, options)) if v not in set(near(tiny_space, START, 2))]
        reachable = macs(repair.exchanges(options, START))[:, 0]
        targets = [cost for cost in macs(np.array(far))[:, 0] if np.abs(reachable / cost - 1).min() > 0.02]
        assert targets  # or this test says nothing
        for target in targets:
            got = repair.candidates(macs, (target,), likely, START, miss=MISS, tolerance=0.02, survivors=3)
            assert np.abs(macs(got)[:, 0] / target - 1).min() < np.abs(reachable / target - 1).min()

    def test_are_within_tolerance_of_every_target_and_the_most_likely_first(
        self, tiny_space: SearchSpace, costs: CostModel, likely: np.ndarray
    ) -> None:
        targets = tuple(costs(np.array((1, 1, 0, 0, 0, 0))))
        got = repair.candidates(costs, targets, likely, START, miss=MISS, tolerance=0.1, survivors=1000)
        assert len(got) > 3
        assert (np.abs(costs(got) / targets - 1) <= 0.1).all()
        score = likely[np.arange(6), got].sum(-1)
        assert (np.diff(score) <= 0).all()
        inside = [v for v in near(tiny_space, START, 2) if (np.abs(costs(np.array(v)) / targets - 1) <= 0.1).all()]
        assert {tiny_space.canonical(v) for v in inside} == {tiny_space.canonical(v) for v in got.tolist()}
        one_target = [v for v in near(tiny_space, START, 2) if abs(costs(np.array(v))[0] / targets[0] - 1) <= 0.1]
        assert len(one_target) > len(inside)  # the second target takes some away

    def test_one_network_comes_once_as_its_most_likely_vector(
        self, tiny_space: SearchSpace, costs: CostModel, likely: np.ndarray
    ) -> None:
        """Without its block (depth 2) the kernel says nothing: three vectors, one network."""
        start = (1, 0, 2, 1, 0, 0)
        targets = tuple(costs(np.array(start)))
        got = repair.candidates(costs, targets, likely, start, miss=MISS, tolerance=1e-9, survivors=1000)
        networks = [tiny_space.canonical(v) for v in got.tolist()]
        assert len(set(networks)) == len(networks)
        assert got.tolist().count(list(start)) == 1
        assert [1, 0, 2, 0, 0, 0] not in got.tolist() and [1, 0, 2, 2, 0, 0] not in got.tolist()

    def test_itself_is_first_if_on_target(self, costs: CostModel, likely: np.ndarray) -> None:
        targets = tuple(costs(np.array(START)) * 1.004)
        got = repair.candidates(costs, targets, likely, START, miss=MISS, tolerance=0.01, survivors=1)
        assert got.tolist() == [list(START)]

    def test_survivors_cut_the_least_likely(self, costs: CostModel, likely: np.ndarray) -> None:
        targets = tuple(costs(np.array(START)))
        every = repair.candidates(costs, targets, likely, START, miss=MISS, tolerance=0.5, survivors=1000)
        few = repair.candidates(costs, targets, likely, START, miss=MISS, tolerance=0.5, survivors=3)
        np.testing.assert_array_equal(few, every[:3])

    def test_where_only_two_exchanges_meet_the_target(
        self, tiny_space: SearchSpace, costs: CostModel, likely: np.ndarray
    ) -> None:
        goal = (2, 1, 0, 1, 0, 0)
        targets = tuple(costs(np.array(goal)))
        singles = np.array(near(tiny_space, START, 1))
        assert np.abs(costs(singles) / targets - 1).max(-1).min() > 0.01
        got = repair.candidates(costs, targets, likely, START, miss=MISS, tolerance=0.01, survivors=8)
        assert list(goal) in got.tolist()

    def test_falls_back_to_the_closest(self, tiny_space: SearchSpace, costs: CostModel, likely: np.ndarray) -> None:
        targets = tuple(costs(np.array((2, 1, 0, 2, 0, 0))) * 3)  # dearer than everything
        got = repair.candidates(costs, targets, likely, START, miss=MISS, tolerance=0.01, survivors=1000)
        miss = np.abs(costs(got) / targets - 1).max(-1)
        options = tuple(decision.options for decision in tiny_space.decisions)
        every = np.abs(costs(np.array(list(itertools.product(*map(range, options))))) / targets - 1).max(-1)
        assert miss.min() == pytest.approx(every.min()) and miss.max() <= every.min() + 0.01
        assert (np.diff(likely[np.arange(6), got].sum(-1)) <= 0).all()
