"""Convolutions and the dense layer, each with its norm where it has one."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.layers.depthwise import depthwise
from nas.model.layers.norm import BatchNorm, NormMode, NormSettings
from search_spaces.ops import Activation


@functools.partial(jax.jit, static_argnums=1)
def _truncated_normal(key: jax.Array, count: int) -> jax.Array:
    return jax.random.truncated_normal(key, -2, 2, (count,)) / 0.87962566  # so that the deviation is 1


def he_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Normal cut at two deviations, variance 2 / fan_in, fan_in = prod(shape[:-1]); source: TuNAS (he_normal).

    Draws a power of two numbers and keeps what it needs: a dozen sizes compile instead of one program a shape, which is
    most of the time that making a supernet takes.
    """
    count = math.prod(shape)
    flat = _truncated_normal(key, 1 << (count - 1).bit_length())
    return flat[:count].reshape(shape) * math.sqrt(2 / math.prod(shape[:-1]))


def activate(x: jax.Array, activation: Activation) -> jax.Array:
    """relu, gelu (the tanh form: the exact one cannot be exported to INT8), or nothing."""
    if activation == "relu":
        return jax.nn.relu(x)
    return jax.nn.gelu(x, approximate=True) if activation == "gelu" else x


class ConvNorm(nnx.Module):
    """k x k convolution without bias ("SAME" padding), batch norm, activation."""

    def __init__(
        self,
        kernel: int,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        activation: Activation = "none",
        norm: NormSettings,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(he_normal(rngs.params(), (kernel, kernel, in_channels, out_channels)))
        self.norm = BatchNorm(out_channels, norm)
        self.stride = stride
        self.activation: Activation = activation

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """[b, h, w, c_in] -> [b, ceil(h / s), ceil(w / s), c_out]; `mask` [c_out] says which channels exist."""
        kernel = self.kernel[...].astype(x.dtype)
        if kernel.shape[0] == 1 and self.stride == 1:
            y = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)  # as [b*h*w, c] 4 times faster
        else:
            y = jax.lax.conv_general_dilated(
                x, kernel, (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return activate(self.norm(y, mode, mask), self.activation)


class DepthwiseNorm(nnx.Module):
    """k x k depthwise convolution ("SAME" padding), batch norm, activation."""

    def __init__(
        self,
        kernel: int,
        channels: int,
        *,
        stride: int = 1,
        activation: Activation = "none",
        norm: NormSettings,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(he_normal(rngs.params(), (kernel, kernel, channels)))
        self.norm = BatchNorm(channels, norm)
        self.stride = stride
        self.activation: Activation = activation

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """[b, h, w, c] -> [b, ceil(h / s), ceil(w / s), c]; `mask` [c] says which channels exist."""
        y = depthwise(x, self.kernel[...].astype(x.dtype), self.stride)
        return activate(self.norm(y, mode, mask), self.activation)


class Dense(nnx.Module):
    """Dense layer with bias: [b, c] -> [b, classes]. Source of the initial deviation .01: TuNAS."""

    def __init__(self, in_channels: int, classes: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(0.01 * jax.random.normal(rngs.params(), (in_channels, classes)))
        self.bias = nnx.Param(jnp.zeros(classes))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)
