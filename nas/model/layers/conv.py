"""Convolutions with their norm and activation, and the dense layer."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.context import LayerConfig, NormMode
from nas.model.layers import initial, rows
from nas.model.layers.convolution import convolution, plain
from nas.model.layers.depthwise import depthwise
from nas.model.layers.norm import BatchNorm
from search_spaces.ops import Activation, Padding


def activate(x: jax.Array, activation: Activation) -> jax.Array:
    """Apply an activation function.

    Args:
      x: Input of any shape.
      activation: Name of the function. gelu is the tanh form, because the exact one cannot be
        exported to INT8.

    Returns:
      The output, with the shape of x.
    """
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
    """Base of convolutions: an optional bias, an optional batch norm, and an activation."""

    def __init__(
        self,
        channels: int,
        activation: Activation,
        *,
        normed: bool,
        bias: bool,
        config: LayerConfig,
    ):
        self.norm = BatchNorm(channels, config) if normed else None
        self.bias = nnx.Param(initial.constant(0, channels)) if bias else None
        self.activation: Activation = activation
        self.padding: Padding = config.padding

    def finish(self, y: jax.Array, mode: NormMode, mask: jax.Array | None) -> jax.Array:
        """Add bias, norm and activation to the output of the bare convolution.

        Args:
          y: [b, h, w, c].
          mode: Statistics of the norm.
          mask: [c] bool, the channels that exist; None for all.

        Returns:
          [b, h, w, c], 0 in masked channels.
        """
        if self.bias is not None:
            bias = self.bias[...].astype(y.dtype)
            y = rows.add(y, bias if mask is None else jnp.where(mask, bias, 0))
        if self.norm is not None:
            y = self.norm(y, mode, mask)
        elif mask is not None:
            y = jnp.where(mask, y, 0)
        return activate(y, self.activation)


class ConvNorm(_ConvNorm):
    """k x k convolution with padding, optional bias and batch norm, activation.

    Args:
      kernel: Kernel side k.
      in_channels: Channels of the input.
      out_channels: Channels of the output.
      stride: Stride in both directions.
      groups: Number of groups; it divides both channel counts.
      activation: Name of the activation.
      normed: Whether there is a batch norm.
      bias: Whether there is a bias.
      config: Hyperparameters of the layers.
      rngs: Source of the initial weights.
    """

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
        config: LayerConfig,
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, in_channels // groups, out_channels)
        self.kernel = nnx.Param(
            initial.truncated_normal(rngs.params(), shape, config.init_variance)
        )
        super().__init__(out_channels, activation, normed=normed, bias=bias, config=config)
        self.stride, self.groups = stride, groups

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """Map [b, h, w, c_in] to [b, ceil(h / s), ceil(w / s), c_out].

        Args:
          x: [b, h, w, c_in].
          mode: Statistics of the norm.
          mask: [c_out] bool, the channels that exist; None for all.
        """
        kernel = self.kernel[...].astype(x.dtype)
        if self.groups == 1:
            y = convolution(x, kernel, self.stride, self.padding)
        else:
            y = plain(x, kernel, stride=self.stride, groups=self.groups, padding=self.padding)
        return self.finish(y, mode, mask)


class DepthwiseNorm(_ConvNorm):
    """k x k depthwise convolution with padding, optional bias and batch norm, activation.

    Args:
      kernel: Kernel side k.
      channels: Channels of the input.
      stride: Stride in both directions.
      multiplier: Output channels of each input channel.
      activation: Name of the activation.
      normed: Whether there is a batch norm.
      bias: Whether there is a bias.
      config: Hyperparameters of the layers.
      rngs: Source of the initial weights.
    """

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
        config: LayerConfig,
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, channels * multiplier)
        self.kernel = nnx.Param(
            initial.truncated_normal(rngs.params(), shape, config.init_variance)
        )
        super().__init__(channels * multiplier, activation, normed=normed, bias=bias, config=config)
        self.stride = stride

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """Map [b, h, w, c] to [b, ceil(h / s), ceil(w / s), c * multiplier].

        Args:
          x: [b, h, w, c].
          mode: Statistics of the norm.
          mask: [c * multiplier] bool, the channels that exist; None for all.
        """
        kernel = self.kernel[...].astype(x.dtype)
        if kernel.shape[-1] == x.shape[-1]:
            y = depthwise(x, kernel, self.stride, self.padding)
        else:  # with a multiplier above 1
            y = plain(
                x,
                kernel[:, :, None],
                stride=self.stride,
                groups=x.shape[-1],
                padding=self.padding,
            )
        return self.finish(y, mode, mask)


class Dense(nnx.Module):
    """Dense layer with bias: [b, c] -> [b, classes].

    Args:
      in_channels: Channels of the input.
      classes: Number of outputs.
      rngs: Source of the initial weights.

    Source of the initial standard deviation .01: TuNAS.
    """

    def __init__(self, in_channels: int, classes: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(initial.normal(rngs.params(), (in_channels, classes), 0.01))
        self.bias = nnx.Param(initial.constant(0, classes))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [b, c] to [b, classes]."""
        product = rows.product(x, self.kernel[...].astype(x.dtype))
        return rows.add(product, self.bias[...].astype(x.dtype))
