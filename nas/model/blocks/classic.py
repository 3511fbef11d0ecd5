"""Modules of the blocks of other published networks; these blocks have no holes."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

import nas.model.blocks as modules
from nas.model.blocks.mobile import layer_scale
from nas.model.context import BlockContext, LayerConfig
from nas.model.layers import norm
from nas.model.layers.conv import ConvNorm, DepthwiseNorm, activate
from search_spaces import blocks
from search_spaces.ops import Activation


class Depthwise(nnx.Module):
    """Module of `blocks.Depthwise`."""

    def __init__(
        self, spec: blocks.Depthwise, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        self.depthwise = DepthwiseNorm(
            spec.kernel,
            in_channels,
            stride=spec.stride,
            multiplier=spec.multiplier,
            activation=spec.activation,
            normed=spec.norm == "batch",
            bias=spec.bias,
            config=config,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, ceil(h / s), ceil(w / s), c * multiplier]."""
        return self.depthwise(x, ctx.mode)


class PatchConv(nnx.Module):
    """Module of `blocks.PatchConv`."""

    def __init__(
        self, spec: blocks.PatchConv, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        self.conv = ConvNorm(
            spec.size,
            in_channels,
            spec.filters,
            stride=spec.size,
            activation=spec.activation,
            normed=spec.norm == "batch",
            bias=spec.bias,
            config=config,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h / s, w / s, filters]."""
        return self.conv(x, ctx.mode)


class LayerNorm(nnx.Module):
    """Module of `blocks.LayerNorm`."""

    def __init__(
        self, spec: blocks.LayerNorm, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        del config, rngs
        self.norm = norm.LayerNorm(in_channels)
        self.activation: Activation = spec.activation

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c]."""
        return activate(self.norm(x), self.activation)


class AvgPool(nnx.Module):
    """Module of `blocks.AvgPool`; at an odd border it averages the pixels that exist."""

    def __init__(
        self, spec: blocks.AvgPool, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        del spec, in_channels, config, rngs

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, ceil(h / 2), ceil(w / 2), c]."""
        return nnx.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False)


class SqueezeExcite(nnx.Module):
    """Module of `blocks.SqueezeExcite`."""

    def __init__(
        self, spec: blocks.SqueezeExcite, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        def dense(inputs: int, outputs: int, activation: Activation) -> ConvNorm:
            return ConvNorm(
                1,
                inputs,
                outputs,
                activation=activation,
                normed=False,
                bias=True,
                config=config,
                rngs=rngs,
            )

        self.reduce = dense(in_channels, spec.reduced, spec.activation)
        self.expand = dense(spec.reduced, in_channels, spec.gate)
        self.output_activation: Activation = spec.output_activation

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c]."""
        gate = self.expand(self.reduce(x.mean((1, 2), keepdims=True), ctx.mode), ctx.mode)
        return activate(x * gate, self.output_activation)


class Chain(nnx.Module):
    """Module of every `blocks.Composite`: its parts in sequence."""

    def __init__(
        self, spec: blocks.Composite, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        self.parts = _build(spec.parts(in_channels), in_channels, config, rngs)

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to the last part's output."""
        for part in self.parts:
            x = part(x, ctx)
        return x


class Residual(nnx.Module):
    """Module of `blocks.Residual`."""

    def __init__(
        self, spec: blocks.Residual, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        self.parts = _build(spec.blocks, in_channels, config, rngs)
        self.layer_scale = layer_scale(spec.layer_scale, in_channels)

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c]."""
        y = x
        for part in self.parts:
            y = part(y, ctx)
        if self.layer_scale is not None:
            y = y * self.layer_scale[...].astype(y.dtype)
        return x + ctx.drop_branch(y)


def _build(
    parts: tuple[Any, ...], in_channels: int, config: LayerConfig, rngs: nnx.Rngs
) -> nnx.List:
    built = []
    for part in parts:
        built.append(modules.module_of(part)(part, in_channels, config=config, rngs=rngs))
        in_channels = part.out_channels(in_channels)
    return nnx.List(built)
