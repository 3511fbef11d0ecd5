from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latency_tables
from latency_tables import CostModel
from latency_tables.cost_model import gather
from search_spaces import ArchSpec, CoarseOptions, SearchSpace, coarse_space, freeze, lower

Vectors = Callable[[SearchSpace], st.SearchStrategy[tuple[int, ...]]]
NAMES = latency_tables.devices()


@functools.cache
def model_of(space: SearchSpace) -> CostModel:
    return CostModel.build(space, [latency_tables.device(name) for name in NAMES])


def every_vector(space: SearchSpace) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(decision.options) for decision in space.decisions)))


@functools.cache
def lowered_costs(space: SearchSpace, vector: tuple[int, ...]) -> list[float]:
    ops = lower(freeze(space, vector))
    return [latency_tables.device(name).cost(ops) for name in NAMES]


@given(data=st.data())
def test_the_table_gives_the_cost_of_the_lowered_network(
    space: SearchSpace, vectors: Vectors, data: st.DataObject
) -> None:
    vector = data.draw(vectors(space))
    np.testing.assert_allclose(model_of(space)(vector), lowered_costs(space, vector), rtol=1e-12)


def test_all_vectors_of_a_small_space(tiny_space: SearchSpace) -> None:
    """Shared names, depth and alternatives; a batch of any shape gives the costs of its vectors."""
    vectors = every_vector(tiny_space)
    costs = model_of(tiny_space)(np.array(vectors).reshape(4, 54, 6))
    assert costs.shape == (4, 54, len(NAMES)) and costs.dtype == np.float64
    expected = [lowered_costs(tiny_space, vector) for vector in vectors]
    np.testing.assert_allclose(costs.reshape(216, -1), expected, rtol=1e-12)


def test_a_block_has_an_entry_for_each_combination_of_its_local_decisions(
    tiny_space: SearchSpace,
) -> None:
    """Stem: width. Then width with: expansion, kernel and depth, depth, alternative (twice), end.

    Head: end.
    """
    sizes = [3, 3 * 2, 3 * 3 * 3, 3 * 3, 3 * 2, 3 * 2, 3 * 2, 2, 2]
    model = model_of(tiny_space)
    assert np.diff(model.offsets, append=model.table.shape[1]).tolist() == sizes
    features = sum(len(device.terms[0].weights) for device in model.devices)
    assert model.table.shape == (features, sum(sizes))


def test_inactive_decisions_cost_nothing(tiny_space: SearchSpace) -> None:
    model = model_of(tiny_space)
    for vector in every_vector(tiny_space):
        np.testing.assert_array_equal(model(vector), model(tiny_space.canonical(vector)))


class TestRange:
    @pytest.mark.parametrize("device", range(len(NAMES)), ids=NAMES)
    def test_is_brute_force_on_a_small_space(self, tiny_space: SearchSpace, device: int) -> None:
        costs = [lowered_costs(tiny_space, vector)[device] for vector in every_vector(tiny_space)]
        # all fit into caches, so the range is exact
        expected = pytest.approx((min(costs), max(costs)), rel=1e-12)
        assert model_of(tiny_space).range(device) == expected

    @pytest.mark.parametrize("device", range(len(NAMES)), ids=NAMES)
    def test_is_brute_force_on_a_coarse_space(self, small_32: ArchSpec, device: int) -> None:
        space = coarse_space(small_32, CoarseOptions(multipliers=(0.5, 1.0, 1.5), min_depth=2))
        model = model_of(space)
        costs = model(np.array(every_vector(space)))[:, device]
        assert model.range(device) == pytest.approx((costs.min(), costs.max()), rel=1e-12)

    @given(data=st.data())
    def test_holds_for_every_vector(
        self, space: SearchSpace, vectors: Vectors, data: st.DataObject
    ) -> None:
        model = model_of(space)
        costs = model(data.draw(vectors(space)))
        for device in range(len(NAMES)):
            low, high = ranges_of(space)[device]
            assert low * (1 - 1e-12) <= costs[device] <= high * (1 + 1e-12)


class TestDifference:
    def test_is_brute_force(self, tiny_space: SearchSpace) -> None:
        model = model_of(tiny_space)
        costs = model(np.array(every_vector(tiny_space)))
        aims = [float(column.mean()) for column in costs.T]
        for first, second in itertools.permutations(range(len(NAMES)), 2):
            found = model.difference(first, second, aims)
            if max(len(model.devices[place].terms) for place in (first, second)) > 1:
                assert found is None  # a cache: not a sum
                continue
            differences = costs[:, first] / aims[first] - costs[:, second] / aims[second]
            assert found == pytest.approx(
                (differences.min(), differences.max()), rel=1e-9, abs=1e-12
            )


@functools.cache
def ranges_of(space: SearchSpace) -> list[tuple[float, float]]:
    return [model_of(space).range(device) for device in range(len(NAMES))]


def test_gather_by_hand() -> None:
    """Two blocks: 2 entries by decision 0; 6 by decisions (0, 1)."""
    table = np.array([[1.0, 2.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]])
    offsets, strides = np.array([0, 2]), np.array([[1, 0], [3, 1]])
    got = gather(table, offsets, strides, np.array([[0, 0], [0, 2], [1, 0], [1, 2]]))
    assert got.tolist() == [[11.0], [31.0], [42.0], [62.0]]


def test_gather_takes_jax_arrays(tiny_space: SearchSpace) -> None:
    model, vectors = model_of(tiny_space), np.array(every_vector(tiny_space))
    got = model.totals(
        gather(*map(jnp.asarray, (model.table, model.offsets, model.strides, vectors)))
    )
    np.testing.assert_allclose(got, model(vectors), rtol=1e-6)


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_the_model_of_one_device(tiny_space: SearchSpace, index: int) -> None:
    one = model_of(tiny_space).on_device(index)
    built = CostModel.build(tiny_space, [latency_tables.device(NAMES[index])])
    assert one.devices == built.devices and one.range() == built.range()
    vectors = np.array(every_vector(tiny_space))
    np.testing.assert_array_equal(one(vectors), built(vectors))


@pytest.mark.parametrize(
    ("index", "count"), [(0, 1), (99, None), (-1, None)], ids=["short", "above", "below"]
)
def test_vectors_that_do_not_fit_are_refused(
    tiny_space: SearchSpace, index: int, count: int | None
) -> None:
    model = CostModel.build(tiny_space, [latency_tables.device("macs")])
    with pytest.raises(ValueError, match="decision vectors of tiny"):
        model([index] * (count or len(tiny_space.decisions)))


def test_no_device_is_refused(tiny_space: SearchSpace) -> None:
    with pytest.raises(ValueError, match="at least one device"):
        CostModel.build(tiny_space, [])
