"""Warm-up: its schedule, and what becomes of a decision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.engine import warmup
from nas.searchers import reinforce
from search_spaces import SearchSpace


@pytest.mark.parametrize(
    ("step", "fraction", "expected"),
    [
        (0, 0.25, 1.0),
        (10, 0.25, 0.6),
        (25, 0.25, 0.0),
        (99, 0.25, 0.0),
        (50, 1.0, 0.5),
        (1, 0.0, 0.0),
    ],
)
def test_probability(step: int, fraction: float, expected: float) -> None:
    assert float(warmup.probability(jnp.asarray(step), 100, fraction)) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("steps", [4, 10, 250, 350, 450])
def test_it_is_over_when_the_policy_begins(steps: int) -> None:
    every = jnp.arange(steps)
    rate = reinforce.learning_rate(every, steps, delay=0.25, initial=0.01)
    p = warmup.probability(every, steps, 0.25)
    assert ((rate > 0) == (p == 0)).all() and p[0] == 1 and (p >= 0).all()


def test_no_warmup_is_none_at_the_first_step_that_learns() -> None:
    """A fraction of 0 leaves at most step 0 warm."""
    assert float(warmup.probability(jnp.asarray(1), 1, 0.0)) == 0


def test_at_1_operators_are_averaged_and_sizes_are_largest(tiny_space: SearchSpace) -> None:
    """Sizes: width (8, 16, 24), expansion (2, 3), and end (32, 16), whose largest comes first."""
    vectors = jnp.zeros((5, 6), jnp.int32)
    got = warmup.warm(tiny_space, vectors, jax.random.key(0), jnp.asarray(1.0))
    wanted = {"width": 2, "expansion": 1, "depth": 3, "kernel": 3, "alternative": 2, "end": 0}
    assert [dict(zip(wanted, row, strict=True)) for row in got.tolist()] == [wanted] * 5
    assert [d.name for d in tiny_space.decisions] == list(wanted)


def test_at_0_the_sample_stays(tiny_space: SearchSpace) -> None:
    vectors = jnp.array([[0, 0, 1, 2, 1, 1], [2, 1, 0, 0, 0, 0]], jnp.int32)
    got = warmup.warm(tiny_space, vectors, jax.random.key(0), jnp.asarray(0.0))
    np.testing.assert_array_equal(got, vectors)
    assert got.dtype == jnp.int32


def test_decisions_and_replicas_are_replaced_independently(tiny_space: SearchSpace) -> None:
    n, p = 4000, 0.3
    vectors = jnp.full((n, 6), -1, jnp.int32)
    got = warmup.warm(tiny_space, vectors, jax.random.key(2), jnp.asarray(p))
    replaced = np.asarray(got) >= 0
    np.testing.assert_allclose(replaced.mean(0), p, atol=4 * 0.5 / n**0.5)
    off_diagonal = np.asarray(np.corrcoef(replaced.T))[~np.eye(6, dtype=bool)]
    assert np.abs(off_diagonal).max() < 4 / n**0.5
