"""The order of the images: permutations cut into batches, known from seed and step alone."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from nas.data.order import batch_indices, permuted


@hypothesis.given(count=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 2**31 - 1))
def test_every_epoch_is_a_permutation(count: int, size: int, seed: int) -> None:
    steps = -(-3 * count // size)
    stream = np.concatenate([batch_indices(count, size, step, seed) for step in range(steps)])
    for epoch in range(3):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


@hypothesis.given(order=st.permutations(range(9)), seed=st.integers(0, 100))
def test_a_batch_depends_on_seed_and_step_alone(order: list[int], seed: int) -> None:
    in_order = [batch_indices(10, 4, step, seed).tolist() for step in range(9)]
    for step in order:
        batch_indices(7, 3, step, seed + 1)  # of another data set, in between
        batch = batch_indices(10, 4, step, seed)
        assert batch.tolist() == in_order[step]
        batch[:] = -1  # what a caller does with a batch touches no later one
        assert batch_indices(10, 4, step, seed).tolist() == in_order[step]


def test_epochs_and_seeds_differ() -> None:
    first, second, other = (
        batch_indices(100, 100, 0, 0),
        batch_indices(100, 100, 1, 0),
        batch_indices(100, 100, 0, 1),
    )
    assert (first != second).mean() > 0.9
    assert (first != other).mean() > 0.9
    assert (first != np.arange(100)).mean() > 0.9


@pytest.mark.parametrize("size", [3, 7, 10])
def test_a_batch_may_be_larger_than_the_split(size: int) -> None:
    batch = batch_indices(3, size, 0, 5)
    assert batch.shape == (size,) and batch.dtype == np.int64
    counts = np.bincount(batch, minlength=3)
    assert counts.max() - counts.min() <= 1


def test_far_steps_are_as_cheap_as_near_ones() -> None:
    assert len(batch_indices(10, 4, 10**12, 0)) == 4


@hypothesis.given(
    count=st.integers(1, 300), key=st.lists(st.integers(0, 2**32), min_size=1, max_size=3)
)
def test_permuted_is_a_permutation(count: int, key: list[int]) -> None:
    taken = permuted(np.arange(count), count, key)
    assert sorted(taken) == list(range(count))
    some = np.array([count - 1, 0, count // 2])
    assert (permuted(some, count, key) == taken[some]).all()


def test_permutations_look_random() -> None:
    """Every image is equally likely in every place.

    Chi-squared of 2,000 permutations of 10, 99.9 % bound of 81 degrees of freedom.
    """
    table = np.zeros((10, 10))
    for seed in range(2000):
        table[np.arange(10), permuted(np.arange(10), 10, [seed])] += 1
    assert ((table - 200) ** 2 / 200).sum() * 0.9 < 126.1


def test_a_billion_images_take_no_memory() -> None:
    batch = batch_indices(10**12, 64, 10**6, 0)
    assert len(set(batch)) == 64 and batch.max() < 10**12


@hypothesis.given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    size=st.integers(1, 30),
    data=st.data(),
)
def test_a_mixture_keeps_its_ratio_and_each_set_its_epochs(
    counts: list[int], size: int, data: st.DataObject
) -> None:
    weights = [data.draw(st.integers(1, 3)) for _ in counts]
    block, ends = sum(weights), np.cumsum(counts)
    steps = -(-12 * block // size)
    sets = list(zip(counts, weights, strict=True))
    stream = np.concatenate([batch_indices(sets, size, step, 3) for step in range(steps)])[
        : 12 * block
    ]
    owner = np.searchsorted(ends, stream, side="right")
    for start in range(0, len(stream), block):
        assert np.bincount(owner[start : start + block], minlength=len(counts)).tolist() == weights
    for number, count in enumerate(counts):
        own = stream[owner == number] - (ends[number] - count)
        for epoch in range(len(own) // count):
            assert sorted(own[epoch * count : (epoch + 1) * count]) == list(range(count))
