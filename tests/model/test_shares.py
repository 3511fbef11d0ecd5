"""Supernets that run by shares: the door of differentiable policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.model.network import Network, split
from search_spaces import ArchSpec, SearchSpace


def _padded(space: SearchSpace, rows: list[list[float]]) -> np.ndarray:
    """[decisions, options] float32 of rows with one share for each option."""
    most = max(decision.options for decision in space.decisions)
    return np.array([[*row, *[0.0] * (most - len(row))] for row in rows], np.float32)


def _one_hot(space: SearchSpace, vector: tuple[int, ...]) -> np.ndarray:
    return _padded(
        space,
        [
            list(np.eye(decision.options)[index])
            for decision, index in zip(space.decisions, vector, strict=True)
        ],
    )


@pytest.mark.parametrize("name", ["alternatives", "hybrid"])
def test_one_hot_shares_give_the_logits_of_the_vector(
    spaces: dict[str, SearchSpace],
    randomised: Callable[[SearchSpace], Network],
    distinct_vectors: Callable[[SearchSpace, int], list[tuple[int, ...]]],
    images_for: Callable[[ArchSpec], jax.Array],
    name: str,
) -> None:
    space = spaces[name]
    graph, *arrays = split(randomised(space))
    images = images_for(space.spec)

    @jax.jit
    def both(vector: jax.Array, shares: jax.Array) -> tuple[jax.Array, jax.Array]:
        network = nnx.merge(graph, *arrays)
        return network(images, vector, mode="batch"), network(images, shares=shares, mode="batch")

    for vector in distinct_vectors(space, 3):
        want, got = both(jnp.asarray(vector, jnp.int32), jnp.asarray(_one_hot(space, vector)))
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def _softmax(space: SearchSpace, logits: jax.Array) -> jax.Array:
    """[decisions, options], 0 beyond a decision's own options."""
    counts = np.array([decision.options for decision in space.decisions])
    exists = np.arange(logits.shape[1]) < counts[:, None]
    return jax.nn.softmax(jnp.where(exists, logits, -jnp.inf))


def _smooth(spec: ArchSpec) -> ArchSpec:
    """The network with gelu everywhere: finite differences meet the kinks of a relu."""
    return spec.with_blocks(
        [
            block.model_copy(update={"activation": "gelu"})
            if "activation" in type(block).model_fields
            else block
            for block in spec.blocks
        ]
    )


def _check_policy_gradient(space: SearchSpace, supernet: Network, images: jax.Array) -> None:
    """Gradient with respect to the logits of a softmax policy against finite differences."""
    graph, *arrays = split(supernet)
    shape = _one_hot(space, (0,) * len(space.decisions)).shape

    @jax.jit
    def loss(arrays: Any, logits: jax.Array) -> jax.Array:
        shares = _softmax(space, logits)
        y = nnx.merge(graph, *arrays)(images, shares=shares, mode="batch")
        return (jnp.cos(jnp.arange(y.size)).reshape(y.shape) * y).mean()

    rng = np.random.default_rng(3)
    logits = jnp.asarray(rng.normal(size=shape), jnp.float32)
    gradient = np.asarray(jax.jit(jax.grad(loss, 1))(arrays, logits))
    counts = np.array([decision.options for decision in space.decisions])
    exists = np.arange(shape[1]) < counts[:, None]
    assert (np.abs(gradient[exists]) > 0).all(), "every option of every operator gets a gradient"
    assert (gradient[~exists] == 0).all()
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-4 * np.abs(gradient).max())
    # uphill, and the same with the signs of half of the decisions turned around
    signs = np.where(np.arange(shape[0]) % 2, 1.0, -1.0)[:, None]
    for direction in (gradient, signs * gradient):
        unit = direction / np.linalg.norm(direction)
        step = 0.01
        high, low = (float(loss(arrays, logits + s * step * unit)) for s in (1, -1))
        slope = float((gradient * unit).sum())
        assert (high - low) / (2 * step) == pytest.approx(
            slope, abs=0.01 * float(np.linalg.norm(gradient))
        )


def test_a_softmax_policy_gets_its_gradient_through_a_supernet(
    small_base: ArchSpec,
    randomised: Callable[[SearchSpace], Network],
    images_for: Callable[[ArchSpec], jax.Array],
) -> None:
    space = search_spaces.fine_space(_smooth(small_base))
    _check_policy_gradient(space, randomised(space), images_for(space.spec))


@pytest.mark.slow
def test_a_softmax_policy_gets_its_gradient_through_small_32(
    small_32: ArchSpec,
    randomised: Callable[[SearchSpace], Network],
    images_for: Callable[[ArchSpec], jax.Array],
) -> None:
    space = search_spaces.fine_space(_smooth(small_32))
    _check_policy_gradient(space, randomised(space), images_for(space.spec))
