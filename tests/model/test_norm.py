"""Batch norm with masks: closed forms, and what a mask must not do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nas.model.context import LayerConfig, NormMode
from nas.model.layers.norm import BatchNorm

MODES: list[NormMode] = ["train", "batch", "running"]
MASK = jnp.array([True, True, False])
CONFIG = LayerConfig(momentum=0.75, epsilon=0.125)


@pytest.fixture
def norm() -> BatchNorm:
    norm = BatchNorm(3, CONFIG)
    norm.scale[...], norm.bias[...] = jnp.array([1.0, -2.0, 3.0]), jnp.array([0.5, 0.25, 4.0])
    norm.mean[...], norm.var[...] = jnp.array([0.1, 0.2, 0.3]), jnp.array([1.0, 2.0, 4.0])
    return norm


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(1, 2, (4, 3, 2, 3)).astype(np.float32)


def _stats(norm: BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(norm.mean[...]), np.asarray(norm.var[...])


def test_the_defaults_are_tensorflows() -> None:
    assert LayerConfig() == LayerConfig(momentum=0.99, epsilon=1e-3)


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("mode", MODES)
def test_closed_form(
    norm: BatchNorm, x: np.ndarray, mode: NormMode, mask: jax.Array | None
) -> None:
    mean, var = _stats(norm) if mode == "running" else (x.mean((0, 1, 2)), x.var((0, 1, 2)))
    want = (x - mean) / np.sqrt(var + 0.125) * [1.0, -2.0, 3.0] + [0.5, 0.25, 4.0]
    y = np.asarray(norm(jnp.asarray(x), mode, mask))
    np.testing.assert_allclose(y[..., :2], want[..., :2], atol=1e-5)
    if mask is None:
        np.testing.assert_allclose(y[..., 2], want[..., 2], atol=1e-5)
    else:
        assert (y[..., 2] == 0).all(), "a masked channel is exactly 0, whatever its bias"


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("mode", MODES)
def test_only_training_moves_statistics(
    norm: BatchNorm, x: np.ndarray, mode: NormMode, mask: jax.Array | None
) -> None:
    before = _stats(norm)
    norm(jnp.asarray(x), mode, mask)
    for old, got, new in zip(
        before, _stats(norm), (x.mean((0, 1, 2)), x.var((0, 1, 2))), strict=True
    ):
        moves = np.array([mode == "train", mode == "train", mode == "train" and mask is None])
        np.testing.assert_allclose(got, np.where(moves, 0.75 * old + 0.25 * new, old), rtol=1e-5)
        np.testing.assert_array_equal(got[~moves], old[~moves])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spread", [1.0, 0.0], ids=["random", "constant"])
def test_gradients_are_finite_and_stop_at_the_mask(
    x: np.ndarray, mode: NormMode, spread: float
) -> None:
    graph, params, stats = nnx.split(BatchNorm(3, CONFIG), nnx.Param, ...)
    params, stats = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    @jax.grad
    def gradient(variables: Any) -> jax.Array:
        params, x = variables
        return (nnx.merge(graph, params, stats)(x, mode, MASK) ** 3).sum()

    of_params, of_x = gradient((params, jnp.asarray(1 + spread * (x - 1))))
    for array in (of_params["scale"], of_params["bias"], of_x):
        assert np.isfinite(array).all()
        assert (array[..., 2] == 0).all()
    assert (np.asarray(of_x[..., :2]) != 0).any() == (spread > 0 or mode == "running")


@pytest.mark.parametrize("mode", ["train", "batch"])
def test_constant_channels_give_the_bias(mode: NormMode) -> None:
    values = np.linspace(-30, 30, 61, dtype=np.float32) * np.float32(
        1.1
    )  # E[x^2] - E[x]^2 rounds below 0 for some
    norm = BatchNorm(len(values), LayerConfig(epsilon=1e-9))
    norm.bias[...] = jnp.full(len(values), 0.5)
    y = norm(jnp.broadcast_to(values, (7, 3, 5, len(values))), mode)
    assert np.isfinite(y).all() and (_stats(norm)[1] >= 0).all()
    norm = BatchNorm(len(values), LayerConfig())
    norm.bias[...] = jnp.full(len(values), 0.5)
    np.testing.assert_allclose(
        norm(jnp.broadcast_to(values, (7, 3, 5, len(values))), mode), 0.5, atol=2e-3
    )


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_in_and_out_with_float32_statistics(
    norm: BatchNorm, x: np.ndarray, mode: NormMode
) -> None:
    y = norm(jnp.asarray(x, jnp.bfloat16), mode, MASK)
    assert y.dtype == jnp.bfloat16
    assert {stat.dtype for stat in _stats(norm)} == {np.dtype(np.float32)}
    fresh = BatchNorm(3, CONFIG)
    assert fresh(jnp.asarray(x), mode).dtype == jnp.float32
