"""Modules of MobileNetV4's convolutional blocks; their widths and operators may be holes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.context import BlockContext, LayerConfig
from nas.model.layers import initial
from nas.model.layers.conv import ConvNorm, Dense, DepthwiseNorm
from nas.model.selection import prefix_mask
from search_spaces import blocks
from search_spaces.choice import options_of


class Conv(nnx.Module):
    """Module of `blocks.Conv`."""

    def __init__(
        self, spec: blocks.Conv, in_channels: blocks.Width, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        self.spec, self.out_max = spec, max(options_of(spec.filters))
        self.conv = ConvNorm(
            spec.kernel,
            max(options_of(in_channels)),
            self.out_max,
            stride=spec.stride,
            groups=spec.groups,
            activation=spec.activation,
            normed=spec.norm == "batch",
            bias=spec.bias,
            config=config,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, ceil(h / s), ceil(w / s), filters]."""
        return self.conv(
            x, ctx.mode, prefix_mask(ctx.selection.width(self.spec.filters), self.out_max)
        )


class FusedIB(nnx.Module):
    """Module of `blocks.FusedIB`."""

    def __init__(
        self,
        spec: blocks.FusedIB,
        in_channels: blocks.Width,
        *,
        config: LayerConfig,
        rngs: nnx.Rngs,
    ):
        self.spec, self.in_channels = spec, in_channels
        self.width_max = _expanded_max(in_channels, spec.expansion)
        self.out_max = max(options_of(spec.filters))
        in_max = max(options_of(in_channels))
        self.expand = ConvNorm(
            spec.kernel,
            in_max,
            self.width_max,
            stride=spec.stride,
            activation=spec.activation,
            config=config,
            rngs=rngs,
        )
        self.project = ConvNorm(
            1,
            self.width_max,
            self.out_max,
            activation=spec.project_activation,
            config=config,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, ceil(h / s), ceil(w / s), filters]."""
        width = ctx.selection.product_width(
            self.in_channels, self.spec.expansion, blocks.expanded_width
        )
        y = self.expand(x, ctx.mode, prefix_mask(width, self.width_max))
        y = self.project(
            y, ctx.mode, prefix_mask(ctx.selection.width(self.spec.filters), self.out_max)
        )
        linear = self.spec.project_activation == "none"
        return _with_residual(
            x, y, self.in_channels, self.spec.filters, ctx, linear and self.spec.stride == 1
        )


class UIB(nnx.Module):
    """Module of `blocks.UIB`; all of its forms share both 1x1 convolutions."""

    def __init__(
        self, spec: blocks.UIB, in_channels: blocks.Width, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        self.spec, self.in_channels, self.in_max = spec, in_channels, max(options_of(in_channels))
        self.width_max = _expanded_max(in_channels, spec.expansion)
        self.out_max = max(options_of(spec.filters))
        # the middle depthwise has the stride if no option leaves it out
        at_middle = 0 not in options_of(spec.middle_dw)
        start_stride, middle_stride = (1, spec.stride) if at_middle else (spec.stride, 1)
        self.start_dw = _depthwise_options(
            spec.start_dw, self.in_max, start_stride, "none", config, rngs
        )
        self.expand = ConvNorm(
            1, self.in_max, self.width_max, activation=spec.activation, config=config, rngs=rngs
        )
        self.middle_dw = _depthwise_options(
            spec.middle_dw, self.width_max, middle_stride, spec.activation, config, rngs
        )
        self.project = ConvNorm(1, self.width_max, self.out_max, config=config, rngs=rngs)
        self.layer_scale = layer_scale(spec.layer_scale, self.out_max)

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, ceil(h / s), ceil(w / s), filters]."""
        width = ctx.selection.product_width(
            self.in_channels, self.spec.expansion, blocks.expanded_width
        )
        in_mask = prefix_mask(ctx.selection.width(self.in_channels), self.in_max)
        width_mask = prefix_mask(width, self.width_max)
        y = _depthwise(self.start_dw, self.spec.start_dw, x, ctx, in_mask)
        y = self.expand(y, ctx.mode, width_mask)
        y = _depthwise(self.middle_dw, self.spec.middle_dw, y, ctx, width_mask)
        y = self.project(
            y, ctx.mode, prefix_mask(ctx.selection.width(self.spec.filters), self.out_max)
        )
        if self.layer_scale is not None:
            y = y * self.layer_scale[...].astype(y.dtype)
        return _with_residual(x, y, self.in_channels, self.spec.filters, ctx, self.spec.stride == 1)


class Pool(nnx.Module):
    """Module of `blocks.Pool`."""

    def __init__(
        self, spec: blocks.Pool, in_channels: blocks.Width, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        del spec, in_channels, config, rngs

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, 1, 1, c]."""
        return x.mean((1, 2), keepdims=True)


class Classifier(nnx.Module):
    """Module of `blocks.Classifier`: [b, 1, 1, c] -> [b, classes]; dropout needs a `key`."""

    def __init__(
        self,
        spec: blocks.Classifier,
        in_channels: blocks.Width,
        *,
        config: LayerConfig,
        rngs: nnx.Rngs,
    ):
        self.spec = spec
        self.dense = Dense(max(options_of(in_channels)), spec.classes, rngs=rngs)

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, 1, 1, c] to [b, classes]."""
        x = x.reshape(x.shape[0], -1)
        if ctx.key is not None and self.spec.dropout:
            keep = jax.random.bernoulli(ctx.key, 1 - self.spec.dropout, x.shape)
            x = jnp.where(keep, x / (1 - self.spec.dropout), 0)
        return self.dense(x)


def _expanded_max(in_channels: blocks.Width, expansion: Any) -> int:
    return max(
        blocks.expanded_width(i, e) for i in options_of(in_channels) for e in options_of(expansion)
    )


def layer_scale(value: float | None, channels: int) -> nnx.Param | None:
    """Make the per-channel scale of a residual branch.

    Args:
      value: Initial value of every entry, or None for no scale.
      channels: Number of channels.

    Returns:
      [channels], or None.

    Source: CaiT (arXiv 2103.17239).
    """
    return None if value is None else nnx.Param(initial.constant(value, channels))


def _depthwise_options(
    kernel: Any, channels: int, stride: int, activation: Any, config: LayerConfig, rngs: nnx.Rngs
) -> nnx.Dict:
    return nnx.Dict(
        {
            f"k{k}": DepthwiseNorm(
                k, channels, stride=stride, activation=activation, config=config, rngs=rngs
            )
            for k in dict.fromkeys(options_of(kernel))
            if k
        }
    )


def _depthwise(
    layers: nnx.Dict, kernel: Any, x: jax.Array, ctx: BlockContext, mask: jax.Array | None
) -> jax.Array:
    def branch(size: int) -> Any:
        return (lambda x: layers[f"k{size}"](x, ctx.mode, mask)) if size else None

    return ctx.selection.operator(kernel, [branch(size) for size in options_of(kernel)], x)


def _with_residual(
    x: jax.Array,
    y: jax.Array,
    in_channels: blocks.Width,
    out_channels: blocks.Width,
    ctx: BlockContext,
    allowed: bool,
) -> jax.Array:
    """Add x to y where the chosen widths of both are equal."""
    if not allowed or not set(options_of(in_channels)) & set(options_of(out_channels)):
        return y
    if in_channels == out_channels:
        return ctx.drop_branch(y) + x
    equal = jnp.asarray(
        ctx.selection.width(in_channels) == ctx.selection.width(out_channels), x.dtype
    )
    common = min(x.shape[-1], y.shape[-1])
    return y + equal * jnp.pad(x[..., :common], ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - common)))
