"""Initial weights, drawn by numpy from a JAX key.

Drawing them with JAX compiles a program for every shape, which took most of the time of building a
supernet. Inside a traced function (`nnx.eval_shape`, `jax.jit`) the draw is a callback: shapes are
known while tracing, values when the program runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Draw = Callable[[np.random.Generator], np.ndarray]
"""Function that draws an array from a numpy generator."""


def _draw_on_host(key: jax.Array, shape: tuple[int, ...], draw: Draw) -> jax.Array:
    def host(words: Any) -> np.ndarray:
        return draw(np.random.default_rng(np.asarray(words))).astype(np.float32)

    words = jax.random.key_data(key)
    if isinstance(words, Tracer):
        return jax.pure_callback(host, jax.ShapeDtypeStruct(shape, np.float32), words)
    return jnp.asarray(host(words))


def truncated_normal(key: jax.Array, shape: tuple[int, ...], variance: float = 2.0) -> jax.Array:
    """Draw from a normal distribution that is truncated at two standard deviations.

    Args:
      key: Random key.
      shape: Shape of the weights; fan_in = prod(shape[:-1]).
      variance: Variance of the result times fan_in.

    Returns:
      float32 of that shape.
    """
    # .87962566 is the standard deviation of a standard normal after truncation
    deviation = math.sqrt(variance / math.prod(shape[:-1])) / 0.87962566

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal(shape, np.float32)
        while (outside := np.abs(x) > 2).any():
            x[outside] = rng.standard_normal(int(outside.sum()), np.float32)
        return x * np.float32(deviation)

    return _draw_on_host(key, shape, draw)


def normal(key: jax.Array, shape: tuple[int, ...], deviation: float) -> jax.Array:
    """Draw from a normal distribution of mean 0.

    Args:
      key: Random key.
      shape: Shape of the weights.
      deviation: Standard deviation.

    Returns:
      float32 of that shape.
    """
    return _draw_on_host(
        key, shape, lambda rng: rng.standard_normal(shape, np.float32) * np.float32(deviation)
    )


def xavier(key: jax.Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> jax.Array:
    """Draw from a uniform distribution of mean 0 and variance 2 / (fan_in + fan_out).

    Args:
      key: Random key.
      shape: Shape of the weights.
      fan_in: Inputs of each output.
      fan_out: Outputs of each input.

    Returns:
      float32 of that shape.

    Source: the public PyTorch port of MobileNetV4 (for stability).
    """
    limit = math.sqrt(6 / (fan_in + fan_out))
    return _draw_on_host(key, shape, lambda rng: rng.uniform(-limit, limit, shape))


def constant(value: float, channels: int) -> jax.Array:
    """Make an array of one value.

    Args:
      value: Value of every entry.
      channels: Length.

    Returns:
      [channels] float32.
    """
    return jnp.asarray(np.full(channels, value, np.float32))
