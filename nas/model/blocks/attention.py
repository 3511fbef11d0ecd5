"""Module of attention blocks.

Its width, number of heads, key size, and the stride of keys and values may be holes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.blocks.mobile import layer_scale
from nas.model.context import BlockContext, LayerConfig
from nas.model.layers import initial, rows
from nas.model.layers.conv import DepthwiseNorm
from nas.model.layers.norm import BatchNorm
from nas.model.selection import prefix_mask
from search_spaces import blocks
from search_spaces.choice import options_of


class Attention(nnx.Module):
    """Module of `blocks.MQA` and `blocks.MHSA`.

    Letters: n pixels of the queries, m pixels of keys and values, a heads, k key size, v value
    size. Kernels have heads and sizes as axes of their own, so that fewer of them are a prefix
    along each axis. With one key for all heads the products are plain matrix products of
    [a * n, k] with [k, m]: nothing is transposed.

    Args:
      spec: Spec of the block.
      in_channels: Channels of the input, or hole of channels.
      config: Hyperparameters of the layers.
      rngs: Source of the initial weights.
    """

    def __init__(
        self,
        spec: blocks.Attention,
        in_channels: blocks.Width,
        *,
        config: LayerConfig,
        rngs: nnx.Rngs,
    ):
        self.spec, self.in_channels = spec, in_channels
        channels, heads = max(options_of(in_channels)), max(options_of(spec.heads))
        key_dim = max(options_of(spec.key_dim))
        value_dim = spec.value_dim or key_dim
        kv_heads = 1 if spec.shares_keys else heads
        self.norm = BatchNorm(channels, config)
        self.query_norm = BatchNorm(channels, config) if spec.query_stride > 1 else None
        self.key_dw, self.value_dw = (
            DepthwiseNorm(spec.kv_kernel, channels, stride=2, config=config, rngs=rngs)
            if 2 in options_of(spec.kv_stride)
            else None
            for _ in range(2)
        )
        self.query = _projection(rngs, channels, heads, key_dim)
        self.key = _projection(rngs, channels, kv_heads, key_dim)
        self.value = _projection(rngs, channels, kv_heads, value_dim)
        self.output = nnx.Param(
            initial.xavier(rngs.params(), (heads, value_dim, channels), heads * value_dim, channels)
        )
        self.bias = nnx.Param(initial.constant(0, channels)) if spec.output_bias else None
        self.layer_scale = layer_scale(spec.layer_scale, channels)

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c]."""
        spec, selection = self.spec, ctx.selection
        in_mask = prefix_mask(selection.width(self.in_channels), x.shape[-1])
        normed = self.norm(x, ctx.mode, in_mask)

        def attend(stride: int) -> Any:
            return lambda normed: self._attend(normed, ctx, stride, in_mask)

        y = selection.operator(
            spec.kv_stride, [attend(stride) for stride in options_of(spec.kv_stride)], normed
        )
        if spec.query_stride > 1:
            y = jax.image.resize(y, (*x.shape[:3], y.shape[-1]), "bilinear")
        y = _matmul(y, self.output[...].reshape(-1, x.shape[-1]))
        if self.bias is not None:
            y = rows.add(y, self.bias[...].astype(y.dtype))
        if self.layer_scale is not None:
            y = y * self.layer_scale[...].astype(y.dtype)
        if in_mask is not None:
            y = jnp.where(in_mask, y, 0)
        return x + ctx.drop_branch(y)

    def _attend(
        self, x: jax.Array, ctx: BlockContext, kv_stride: int, in_mask: jax.Array | None
    ) -> jax.Array:
        """Attend to normed pixels: [b, h, w, c] -> [b, h / s, w / s, heads * value_dim].

        s is the query stride; `kv_stride` is that of keys and values.
        """
        spec, selection = self.spec, ctx.selection
        heads, key_dim = self.query.shape[1:]
        value_dim = self.value.shape[-1]
        q, keys, values = x, x, x
        if self.query_norm is not None:
            s = spec.query_stride
            q = x.reshape(len(x), x.shape[1] // s, s, x.shape[2] // s, s, -1).mean((2, 4))
            q = self.query_norm(q, ctx.mode, in_mask)
        if kv_stride > 1:
            assert self.key_dw is not None and self.value_dw is not None
            keys, values = self.key_dw(x, ctx.mode, in_mask), self.value_dw(x, ctx.mode, in_mask)
        b, h, w, _ = q.shape
        n, m = h * w, keys.shape[1] * keys.shape[2]
        q = _matmul(q, self.query[...].reshape(-1, heads * key_dim)).reshape(b, n, heads, key_dim)
        key_mask = prefix_mask(selection.width(spec.key_dim), key_dim)
        if key_mask is not None:
            q = jnp.where(key_mask, q, 0)
        q = q * jax.lax.rsqrt(jnp.asarray(selection.width(spec.key_dim), q.dtype))
        k = _matmul(keys, self.key[...].reshape(x.shape[-1], -1)).reshape(b, m, -1, key_dim)
        v = _matmul(values, self.value[...].reshape(x.shape[-1], -1)).reshape(b, m, -1, value_dim)
        if spec.shares_keys:
            scores = jnp.matmul(q.reshape(b, n * heads, key_dim), k[:, :, 0].mT)
            y = jnp.matmul(_softmax(scores), v[:, :, 0]).reshape(b, n, heads, value_dim)
        else:
            scores = jnp.einsum("bnak,bmak->banm", q, k)
            y = jnp.einsum("banm,bmav->bnav", _softmax(scores), v)
        head_mask = prefix_mask(selection.width(spec.heads), heads)
        if head_mask is not None:
            y = jnp.where(head_mask[:, None], y, 0)
        if spec.value_dim is None and key_mask is not None:
            y = jnp.where(key_mask, y, 0)
        return y.reshape(b, h, w, heads * value_dim)


def _projection(rngs: nnx.Rngs, channels: int, heads: int, size: int) -> nnx.Param:
    return nnx.Param(initial.xavier(rngs.params(), (channels, heads, size), channels, heads * size))


def _matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution: [..., c_in] @ [c_in, c_out], as one matrix product."""
    return rows.product(x, kernel.astype(x.dtype))


def _softmax(scores: jax.Array) -> jax.Array:
    return jax.nn.softmax(scores.astype(jnp.float32)).astype(scores.dtype)
