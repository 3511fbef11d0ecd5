"""Convolutions and the dense layer, each with its norm where it has one."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.context import LayerSettings, NormMode
from nas.model.layers import initial
from nas.model.layers.convolution import convolution, plain
from nas.model.layers.depthwise import depthwise
from nas.model.layers.norm import BatchNorm
from search_spaces.ops import Activation


def activate(x: jax.Array, activation: Activation) -> jax.Array:
    """The activation of that name; gelu is the tanh form, because the exact one cannot be exported to INT8."""
    return _ACTIVATIONS[activation](x)


_ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "gelu": functools.partial(jax.nn.gelu, approximate=True),
    "swish": jax.nn.swish,
    "hard_swish": jax.nn.hard_swish,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "none": lambda x: x,
}


class _ConvNorm(nnx.Module):
    """What every convolution has behind it: perhaps a bias, perhaps a norm, an activation."""

    def __init__(self, channels: int, activation: Activation, *, normed: bool, bias: bool, settings: LayerSettings):
        self.norm = BatchNorm(channels, settings) if normed else None
        self.bias = nnx.Param(initial.constant(0, channels)) if bias else None
        self.activation: Activation = activation

    def finish(self, y: jax.Array, mode: NormMode, mask: jax.Array | None) -> jax.Array:
        """[b, h, w, c] of the bare convolution -> the layer's output, 0 in masked channels."""
        if self.bias is not None:
            bias = self.bias[...].astype(y.dtype)
            y = y + (bias if mask is None else jnp.where(mask, bias, 0))
        if self.norm is not None:
            y = self.norm(y, mode, mask)
        elif mask is not None:
            y = jnp.where(mask, y, 0)
        return activate(y, self.activation)


class ConvNorm(_ConvNorm):
    """k x k convolution ("SAME" padding), perhaps bias and batch norm, activation."""

    def __init__(
        self,
        kernel: int,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "none",
        normed: bool = True,
        bias: bool = False,
        settings: LayerSettings,
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, in_channels // groups, out_channels)
        self.kernel = nnx.Param(initial.truncated_normal(rngs.params(), shape, settings.init_variance))
        super().__init__(out_channels, activation, normed=normed, bias=bias, settings=settings)
        self.stride, self.groups = stride, groups

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """[b, h, w, c_in] -> [b, ceil(h / s), ceil(w / s), c_out]; `mask` [c_out] says which channels exist."""
        kernel = self.kernel[...].astype(x.dtype)
        if self.groups == 1:
            y = convolution(x, kernel, self.stride)
        else:
            y = plain(x, kernel, stride=self.stride, groups=self.groups)
        return self.finish(y, mode, mask)


class DepthwiseNorm(_ConvNorm):
    """k x k depthwise convolution ("SAME" padding), perhaps bias and batch norm, activation."""

    def __init__(
        self,
        kernel: int,
        channels: int,
        *,
        stride: int = 1,
        multiplier: int = 1,
        activation: Activation = "none",
        normed: bool = True,
        bias: bool = False,
        settings: LayerSettings,
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, channels * multiplier)
        self.kernel = nnx.Param(initial.truncated_normal(rngs.params(), shape, settings.init_variance))
        super().__init__(channels * multiplier, activation, normed=normed, bias=bias, settings=settings)
        self.stride = stride

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """[b, h, w, c] -> [b, ceil(h / s), ceil(w / s), c * multiplier]; `mask` says which channels exist."""
        kernel = self.kernel[...].astype(x.dtype)
        if kernel.shape[-1] == x.shape[-1]:
            y = depthwise(x, kernel, stride=self.stride)
        else:  # a multiplier
            y = plain(x, kernel[:, :, None], stride=self.stride, groups=x.shape[-1])
        return self.finish(y, mode, mask)


class Dense(nnx.Module):
    """Dense layer with bias: [b, c] -> [b, classes]. Source of the initial deviation .01: TuNAS."""

    def __init__(self, in_channels: int, classes: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(initial.normal(rngs.params(), (in_channels, classes), 0.01))
        self.bias = nnx.Param(initial.constant(0, classes))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)
