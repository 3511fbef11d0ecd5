"""Initial weights, drawn by numpy from the key: to compile a program a shape was most of the time to make a supernet.

Inside a traced function (`nnx.eval_shape`, `jax.jit`) the draw is a callback: shapes are known, values come as it runs.
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


def _drawn(key: jax.Array, shape: tuple[int, ...], draw: Draw) -> jax.Array:
    def host(words: Any) -> np.ndarray:
        return draw(np.random.default_rng(np.asarray(words))).astype(np.float32)

    words = jax.random.key_data(key)
    if isinstance(words, Tracer):
        return jax.pure_callback(host, jax.ShapeDtypeStruct(shape, np.float32), words)
    return jnp.asarray(host(words))


def truncated_normal(key: jax.Array, shape: tuple[int, ...], variance: float = 2.0) -> jax.Array:
    """Normal cut at two deviations, of variance `variance` / fan_in with fan_in = prod(shape[:-1])."""
    deviation = math.sqrt(variance / math.prod(shape[:-1])) / 0.87962566  # of the normal that is cut

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal(shape, np.float32)
        while (outside := np.abs(x) > 2).any():
            x[outside] = rng.standard_normal(int(outside.sum()), np.float32)
        return x * np.float32(deviation)

    return _drawn(key, shape, draw)


def normal(key: jax.Array, shape: tuple[int, ...], deviation: float) -> jax.Array:
    """Normal of that deviation."""
    return _drawn(key, shape, lambda rng: rng.standard_normal(shape, np.float32) * np.float32(deviation))


def xavier(key: jax.Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> jax.Array:
    """Uniform of variance 2 / (fan_in + fan_out). Source: the public PyTorch port of MobileNetV4 (for stability)."""
    limit = math.sqrt(6 / (fan_in + fan_out))
    return _drawn(key, shape, lambda rng: rng.uniform(-limit, limit, shape))


def constant(value: float, channels: int) -> jax.Array:
    """[channels], the same number everywhere."""
    return jnp.asarray(np.full(channels, value, np.float32))
