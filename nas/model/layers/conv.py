"""Convolutions and the dense layer, each with its norm where it has one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.layers.depthwise import depthwise
from nas.model.layers.norm import BatchNorm, NormMode, NormSettings
from search_spaces.ops import Activation

_HE_NORMAL = jax.nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")  # TuNAS: he_normal


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
        self.kernel = nnx.Param(_HE_NORMAL(rngs.params(), (kernel, kernel, in_channels, out_channels)))
        self.norm = BatchNorm(out_channels, norm)
        self.stride, self.activation = stride, activation

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
        init = _HE_NORMAL(rngs.params(), (kernel, kernel, 1, channels))
        self.kernel = nnx.Param(init.reshape(kernel, kernel, channels))
        self.norm = BatchNorm(channels, norm)
        self.stride, self.activation = stride, activation

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
