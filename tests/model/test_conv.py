"""Convolutions with their norm, the dense layer, and the initial weights."""

from __future__ import annotations

import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nas.model.context import LayerConfig
from nas.model.layers import initial
from nas.model.layers.conv import ConvNorm, Dense, DepthwiseNorm, activate
from nas.model.layers.depthwise import plain
from search_spaces.ops import Activation

CONFIG = LayerConfig()


@pytest.mark.parametrize("shape", [(3, 3, 40, 24), (5, 5, 300), (1, 1, 64, 128)])
def test_initial_weights_have_variance_two_by_fan_in(shape: tuple[int, ...]) -> None:
    fan_in = np.prod(shape[:-1])
    weights = np.asarray(initial.truncated_normal(jax.random.key(1), shape))
    deviation = np.sqrt(2 / fan_in)
    assert weights.shape == shape
    assert weights.std() == pytest.approx(deviation, rel=0.03)
    assert abs(weights.mean()) < 4 * deviation / np.sqrt(weights.size)
    assert 0.95 < np.abs(weights).max() / (2 * deviation / 0.87962566) <= 1.0001, (
        "cut at two deviations"
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: initial.truncated_normal(key, (3, 3, 4, 4)),
        lambda key: initial.normal(key, (5, 3), 0.01),
        lambda key: initial.xavier(key, (5, 3), 5, 3),
    ],
    ids=["truncated normal", "normal", "xavier"],
)
def test_initial_weights_depend_on_the_key_alone(draw: Callable[[jax.Array], jax.Array]) -> None:
    one, same, other = (draw(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(one) != np.asarray(other)).all()
    np.testing.assert_array_equal(jax.jit(draw)(jax.random.key(1)), one)
    shape = jax.eval_shape(draw, jax.random.key(1))
    assert (shape.shape, shape.dtype) == (one.shape, one.dtype)


ACTIVATIONS: dict[Activation, list[float]] = {
    "none": [-1.0, 0.0, 2.0],
    "relu": [0.0, 0.0, 2.0],
    "relu6": [0.0, 0.0, 2.0],
    "swish": [-0.26894142, 0.0, 1.76159416],  # x / (1 + e^-x)
    "sigmoid": [0.26894142, 0.5, 0.88079708],
    "hard_swish": [-1 / 3, 0.0, 5 / 3],  # x relu6(x + 3) / 6
    "hard_sigmoid": [1 / 3, 0.5, 5 / 6],
    "gelu": [
        -0.15880801,
        0.0,
        1.95459769,
    ],  # x/2 (1 + tanh(sqrt(2/pi) (x + .044715 x^3))); the exact form: -.15865525
}


def test_every_activation_is_tested() -> None:
    assert set(ACTIVATIONS) == set(typing.get_args(Activation))
    assert float(activate(jnp.array(7.0), "relu6")) == 6.0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: Activation) -> None:
    got = activate(jnp.array([-1.0, 0.0, 2.0]), activation)
    np.testing.assert_allclose(got, ACTIVATIONS[activation], atol=2e-6)


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 2), (5, 1)])
def test_conv_norm(kernel: int, stride: int, activation: Activation) -> None:
    layer = ConvNorm(
        kernel, 3, 4, stride=stride, activation=activation, config=CONFIG, rngs=nnx.Rngs(0)
    )
    assert layer.norm is not None
    layer.norm.bias[...] = jnp.array([0.5, -0.5, 1.0, 2.0])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 7, 3)), jnp.float32)
    y = jax.lax.conv_general_dilated(
        x, layer.kernel[...], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    want = activate(
        (y - y.mean((0, 1, 2))) / jnp.sqrt(y.var((0, 1, 2)) + 1e-3) + layer.norm.bias[...],
        activation,
    )
    np.testing.assert_allclose(layer(x, "batch"), want, atol=1e-5)
    masked = layer(x, "batch", jnp.array([True, False, True, False]))
    np.testing.assert_allclose(masked, want * jnp.array([1.0, 0.0, 1.0, 0.0]), atol=1e-5)
    assert layer(x.astype(jnp.bfloat16), "batch").dtype == jnp.bfloat16


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_depthwise_norm(activation: Activation) -> None:
    layer = DepthwiseNorm(3, 4, stride=2, activation=activation, config=CONFIG, rngs=nnx.Rngs(0))
    assert layer.norm is not None
    layer.norm.bias[...] = jnp.array([0.5, -0.5, 1.0, 2.0])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 7, 4)), jnp.float32)
    y = plain(x, layer.kernel[...], stride=2)
    want = activate(
        (y - y.mean((0, 1, 2))) / jnp.sqrt(y.var((0, 1, 2)) + 1e-3) + layer.norm.bias[...],
        activation,
    )
    np.testing.assert_allclose(layer(x, "batch"), want, atol=1e-5)
    masked = layer(x, "batch", jnp.array([True, False, True, False]))
    np.testing.assert_allclose(masked, want * jnp.array([1.0, 0.0, 1.0, 0.0]), atol=1e-5)
    assert layer(x.astype(jnp.bfloat16), "batch").dtype == jnp.bfloat16


def test_dense() -> None:
    layer = Dense(3, 2, rngs=nnx.Rngs(0))
    assert (np.asarray(layer.bias[...]) == 0).all() and 0 < np.abs(layer.kernel[...]).max() < 0.06
    layer.kernel[...], layer.bias[...] = (
        jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        jnp.array([0.5, -1.0]),
    )
    np.testing.assert_array_equal(layer(jnp.array([[1.0, 0.0, 2.0]])), [[11.5, 13.0]])
