"""The order of the images: permutations cut into batches, known from seed and step alone."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from nas.data.order import batch_indices


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
    first, second, other = batch_indices(100, 100, 0, 0), batch_indices(100, 100, 1, 0), batch_indices(100, 100, 0, 1)
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
