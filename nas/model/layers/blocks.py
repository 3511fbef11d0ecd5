"""The module of every block; widths and operators may be decided at each call.

A module is built at the largest width of its spec and holds one depthwise layer for every kernel size that the spec
allows. Narrower widths are prefix masks: a masked channel is exactly 0 behind its norm, so that the next layer need not
know of it. To add a block: its module here and a row in `MODULES`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.layers.conv import ConvNorm, Dense, DepthwiseNorm
from nas.model.layers.norm import NormMode, NormSettings
from nas.model.selection import Selection, prefix_mask
from search_spaces import OneOf, blocks
from search_spaces.choice import options_of

Width = int | OneOf[int]


class Conv(nnx.Module):
    """Module of `blocks.Conv`."""

    def __init__(self, spec: blocks.Conv, in_channels: Width, *, norm: NormSettings, rngs: nnx.Rngs):
        self.spec, self.out_max = spec, max(options_of(spec.filters))
        self.conv = ConvNorm(
            spec.kernel,
            max(options_of(in_channels)),
            self.out_max,
            stride=spec.stride,
            activation=spec.activation,
            norm=norm,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, selection: Selection, mode: NormMode, key: jax.Array | None) -> jax.Array:
        return self.conv(x, mode, prefix_mask(selection.width(self.spec.filters), self.out_max))


class FusedIB(nnx.Module):
    """Module of `blocks.FusedIB`."""

    def __init__(self, spec: blocks.FusedIB, in_channels: Width, *, norm: NormSettings, rngs: nnx.Rngs):
        self.spec, self.in_channels = spec, in_channels
        self.width_max, self.out_max = _expanded_max(in_channels, spec.expansion), max(options_of(spec.filters))
        in_max = max(options_of(in_channels))
        self.expand = ConvNorm(
            spec.kernel, in_max, self.width_max, stride=spec.stride, activation=spec.activation, norm=norm, rngs=rngs
        )
        self.project = ConvNorm(
            1, self.width_max, self.out_max, activation=spec.project_activation, norm=norm, rngs=rngs
        )

    def __call__(self, x: jax.Array, selection: Selection, mode: NormMode, key: jax.Array | None) -> jax.Array:
        width = selection.product_width(self.in_channels, self.spec.expansion, blocks.expanded_width)
        y = self.expand(x, mode, prefix_mask(width, self.width_max))
        y = self.project(y, mode, prefix_mask(selection.width(self.spec.filters), self.out_max))
        linear = self.spec.project_activation == "none"
        return _with_residual(x, y, self.in_channels, self.spec.filters, selection, linear and self.spec.stride == 1)


class UIB(nnx.Module):
    """Module of `blocks.UIB`: both 1x1 convolutions are shared by all of its forms."""

    def __init__(self, spec: blocks.UIB, in_channels: Width, *, norm: NormSettings, rngs: nnx.Rngs):
        self.spec, self.in_channels, self.in_max = spec, in_channels, max(options_of(in_channels))
        self.width_max, self.out_max = _expanded_max(in_channels, spec.expansion), max(options_of(spec.filters))
        at_middle = 0 not in options_of(spec.middle_dw)  # the stride sits there if there always is one
        start_stride, middle_stride = (1, spec.stride) if at_middle else (spec.stride, 1)
        self.start_dw = _depthwise_options(spec.start_dw, self.in_max, start_stride, "none", norm, rngs)
        self.expand = ConvNorm(1, self.in_max, self.width_max, activation=spec.activation, norm=norm, rngs=rngs)
        self.middle_dw = _depthwise_options(spec.middle_dw, self.width_max, middle_stride, spec.activation, norm, rngs)
        self.project = ConvNorm(1, self.width_max, self.out_max, norm=norm, rngs=rngs)

    def __call__(self, x: jax.Array, selection: Selection, mode: NormMode, key: jax.Array | None) -> jax.Array:
        width = selection.product_width(self.in_channels, self.spec.expansion, blocks.expanded_width)
        in_mask = prefix_mask(selection.width(self.in_channels), self.in_max)
        width_mask = prefix_mask(width, self.width_max)
        y = _depthwise(self.start_dw, self.spec.start_dw, x, selection, mode, in_mask)
        y = self.expand(y, mode, width_mask)
        y = _depthwise(self.middle_dw, self.spec.middle_dw, y, selection, mode, width_mask)
        y = self.project(y, mode, prefix_mask(selection.width(self.spec.filters), self.out_max))
        return _with_residual(x, y, self.in_channels, self.spec.filters, selection, self.spec.stride == 1)


class Pool(nnx.Module):
    """Module of `blocks.Pool`."""

    def __init__(self, spec: blocks.Pool, in_channels: Width, *, norm: NormSettings, rngs: nnx.Rngs):
        del spec, in_channels, norm, rngs

    def __call__(self, x: jax.Array, selection: Selection, mode: NormMode, key: jax.Array | None) -> jax.Array:
        return x.mean((1, 2), keepdims=True)


class Classifier(nnx.Module):
    """Module of `blocks.Classifier`: [b, 1, 1, c] -> [b, classes]; drops features where a `key` is given."""

    def __init__(self, spec: blocks.Classifier, in_channels: Width, *, norm: NormSettings, rngs: nnx.Rngs):
        self.spec = spec
        self.dense = Dense(max(options_of(in_channels)), spec.classes, rngs=rngs)

    def __call__(self, x: jax.Array, selection: Selection, mode: NormMode, key: jax.Array | None) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        if key is not None and self.spec.dropout:
            keep = jax.random.bernoulli(key, 1 - self.spec.dropout, x.shape)
            x = jnp.where(keep, x / (1 - self.spec.dropout), 0)
        return self.dense(x)


MODULES: dict[type[blocks.BaseBlock], Any] = {
    blocks.Conv: Conv,
    blocks.FusedIB: FusedIB,
    blocks.UIB: UIB,
    blocks.Pool: Pool,
    blocks.Classifier: Classifier,
}


def _expanded_max(in_channels: Width, expansion: Any) -> int:
    return max(blocks.expanded_width(i, e) for i in options_of(in_channels) for e in options_of(expansion))


def _depthwise_options(
    kernel: Any, channels: int, stride: int, activation: Any, norm: NormSettings, rngs: nnx.Rngs
) -> nnx.Dict:
    return nnx.Dict(
        {
            f"k{k}": DepthwiseNorm(k, channels, stride=stride, activation=activation, norm=norm, rngs=rngs)
            for k in dict.fromkeys(options_of(kernel))
            if k
        }
    )


def _depthwise(
    layers: nnx.Dict, kernel: Any, x: jax.Array, selection: Selection, mode: NormMode, mask: jax.Array | None
) -> jax.Array:
    def branch(size: int) -> Any:
        return (lambda x: layers[f"k{size}"](x, mode, mask)) if size else (lambda x: x)

    return selection.operator(kernel, [branch(size) for size in options_of(kernel)], x)


def _with_residual(
    x: jax.Array, y: jax.Array, in_channels: Width, out_channels: Width, selection: Selection, allowed: bool
) -> jax.Array:
    """y + x where the widths are equal, whatever the decisions make of them."""
    if not allowed or not set(options_of(in_channels)) & set(options_of(out_channels)):
        return y
    if in_channels == out_channels:
        return y + x
    equal = jnp.asarray(selection.width(in_channels) == selection.width(out_channels), x.dtype)
    common = min(x.shape[-1], y.shape[-1])
    return y + equal * jnp.pad(x[..., :common], ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - common)))
