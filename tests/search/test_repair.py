"""Repair by swaps: exact counts, and candidates against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from nas.engine import repair
from nas.engine.objective import Objective
from search_spaces import SearchSpace

from ..searches import objective_of

Vector = tuple[int, ...]
START = (1, 0, 0, 1, 0, 0)


@pytest.fixture(scope="module")
def options(tiny_space: SearchSpace) -> Vector:
    return tuple(decision.options for decision in tiny_space.decisions)


@pytest.fixture(scope="module")
def every(options: Vector) -> np.ndarray:
    """All 216 vectors."""
    return np.array(list(itertools.product(*map(range, options))))


@pytest.fixture(scope="module")
def likely(options: Vector) -> np.ndarray:
    """Log-probabilities under which START is the most likely vector."""
    raw = np.random.default_rng(0).normal(size=(6, 3))
    raw[np.arange(6), START] = raw.max() + 1
    raw = np.where(np.arange(3) < np.array(options)[:, None], raw, -np.inf)
    return np.asarray(raw - np.log(np.exp(raw).sum(-1, keepdims=True)))


def near(every: np.ndarray, start: Vector, most: int) -> list[Vector]:
    """Vectors that differ from one in at most so many decisions."""
    return [tuple(v) for v in every.tolist() if (np.array(v) != start).sum() <= most]


def aimed_at(
    space: SearchSpace, vector: Vector, factor: float = 1.0, tolerance: float = 0.005
) -> Objective:
    """The objective whose two targets are the costs of a vector, times a factor."""
    costs = objective_of(space, (1.0, 1.0), ("macs", "params")).costs(np.array(vector))
    return objective_of(space, (factor * costs).tolist(), ("macs", "params"), tolerance=tolerance)


def of_macs(space: SearchSpace, value: float, tolerance: float) -> Objective:
    return objective_of(space, (value,), tolerance=tolerance)


class TestSwapNeighbourhood:
    def test_counts(self) -> None:
        """1 + sum (n_i - 1) + sum over pairs (n_i - 1)(n_j - 1): 1 + (1 + 2 + 3) + (2 + 3 + 6)."""
        got = repair.swap_neighbourhood((2, 3, 4), (1, 0, 3))
        assert got.shape == (18, 3) and got.dtype == np.int32
        assert len(repair.swap_neighbourhood((2,), (0,))) == 2

    def test_are_all_vectors_at_most_two_away(self, options: Vector, every: np.ndarray) -> None:
        got = repair.swap_neighbourhood(options, START)
        assert tuple(got[0]) == START
        assert sorted(tuple(row) for row in got.tolist()) == sorted(near(every, START, 2))


class TestFeasibleCandidates:
    def test_a_target_further_than_two_swaps_is_reached_too(
        self, tiny_space: SearchSpace, options: Vector, every: np.ndarray, likely: np.ndarray
    ) -> None:
        macs = of_macs(tiny_space, 1.0, 0.02).costs
        close = set(near(every, START, 2))
        far = np.array([v for v in every.tolist() if tuple(v) not in close])
        reachable = macs(repair.swap_neighbourhood(options, START))[:, 0]
        targets = [c for c in macs(far)[:, 0] if np.abs(reachable / c - 1).min() > 0.02]
        assert targets  # or this test says nothing
        for target in targets:
            objective = of_macs(tiny_space, target, 0.02)
            got = repair.feasible_candidates(objective, likely, START, survivors=3)
            assert objective.miss(got).min() < np.abs(reachable / target - 1).min()

    def test_are_within_tolerance_of_every_target_and_the_most_likely_first(
        self, tiny_space: SearchSpace, every: np.ndarray, likely: np.ndarray
    ) -> None:
        objective = aimed_at(tiny_space, (1, 1, 0, 0, 0, 0), tolerance=0.1)
        got = repair.feasible_candidates(objective, likely, START, survivors=1000)
        assert len(got) > 3
        assert (np.abs(objective.ratios(got) - 1) <= 0.1).all()
        assert (np.diff(likely[np.arange(6), got].sum(-1)) <= 0).all()

        def inside(targets: int) -> list[Vector]:
            neighbours = near(every, START, 2)
            missed = np.abs(objective.ratios(np.array(neighbours)) - 1)[:, :targets]
            return [v for v, m in zip(neighbours, missed, strict=True) if (m <= 0.1).all()]

        assert networks(tiny_space, inside(2)) == networks(tiny_space, got.tolist())
        assert len(inside(1)) > len(inside(2))  # the second target takes some away

    def test_one_network_comes_once_as_its_most_likely_vector(
        self, tiny_space: SearchSpace, likely: np.ndarray
    ) -> None:
        """Without its block (depth 2) the kernel means nothing: three vectors, one network."""
        start = (1, 0, 2, 1, 0, 0)
        objective = aimed_at(tiny_space, start, tolerance=1e-9)
        got = repair.feasible_candidates(objective, likely, start, survivors=1000).tolist()
        assert len(networks(tiny_space, got)) == len(got)
        assert got.count(list(start)) == 1
        assert [1, 0, 2, 0, 0, 0] not in got and [1, 0, 2, 2, 0, 0] not in got

    def test_itself_is_first_if_on_target(
        self, tiny_space: SearchSpace, likely: np.ndarray
    ) -> None:
        objective = aimed_at(tiny_space, START, 1.004, tolerance=0.01)
        got = repair.feasible_candidates(objective, likely, START, survivors=1)
        assert got.tolist() == [list(START)]

    def test_survivors_cut_the_least_likely(
        self, tiny_space: SearchSpace, likely: np.ndarray
    ) -> None:
        objective = aimed_at(tiny_space, START, tolerance=0.5)
        all_of_them = repair.feasible_candidates(objective, likely, START, survivors=1000)
        few = repair.feasible_candidates(objective, likely, START, survivors=3)
        np.testing.assert_array_equal(few, all_of_them[:3])

    def test_where_only_two_swaps_meet_the_target(
        self, tiny_space: SearchSpace, every: np.ndarray, likely: np.ndarray
    ) -> None:
        wanted = (2, 1, 0, 1, 0, 0)
        objective = aimed_at(tiny_space, wanted, tolerance=0.01)
        singles = np.array(near(every, START, 1))
        assert objective.miss(singles).min() > 0.01
        got = repair.feasible_candidates(objective, likely, START, survivors=8)
        assert list(wanted) in got.tolist()

    def test_falls_back_to_the_closest(
        self, tiny_space: SearchSpace, every: np.ndarray, likely: np.ndarray
    ) -> None:
        """The targets are above every cost."""
        objective = aimed_at(tiny_space, (2, 1, 0, 2, 0, 0), 3.0, tolerance=0.01)
        got = repair.feasible_candidates(objective, likely, START, survivors=1000)
        missed, least = objective.miss(got), objective.miss(every).min()
        assert missed.min() == pytest.approx(least) and missed.max() <= least + 0.01
        assert (np.diff(likely[np.arange(6), got].sum(-1)) <= 0).all()


def networks(space: SearchSpace, vectors: Sequence[Sequence[int]]) -> set[Vector]:
    return {space.canonical(vector) for vector in vectors}


class TestNearestFeasible:
    def test_is_the_least_miss_of_brute_force_or_an_upper_bound(
        self, tiny_space: SearchSpace, every: np.ndarray
    ) -> None:
        for value in np.quantile(of_macs(tiny_space, 1.0, 0.0).costs(every), (0.1, 0.5, 0.9)):
            objective = of_macs(tiny_space, float(value) * 1.003, 0.5)
            missed, costs = repair.nearest_feasible(objective, 0)
            assert missed >= objective.miss(every).min()
            assert missed == pytest.approx(abs(costs[0] / objective.effective_values[0] - 1))
            assert missed < 0.01  # the tolerance of the objective is not used
