"""Modules of the blocks of EfficientViT and Next-ViT; these blocks have no holes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.blocks import classic
from nas.model.context import BlockContext, LayerConfig
from nas.model.layers import norm
from nas.model.layers.conv import ConvNorm, DepthwiseNorm
from search_spaces import blocks


class BatchNorm(nnx.Module):
    """Module of `blocks.BatchNorm`."""

    def __init__(
        self, spec: blocks.BatchNorm, in_channels: int, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        del spec, rngs
        self.norm = norm.BatchNorm(in_channels, config)

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c]."""
        return self.norm(x, ctx.mode)


class Concat(classic.Chain):
    """Module of `blocks.Concat`."""

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c + channels of the last part's output]."""
        return jnp.concatenate([x, super().__call__(x, ctx)], -1)


class LinearAttention(nnx.Module):
    """Module of `blocks.LinearAttention`.

    Letters: n pixels, a heads, k key size, v value size plus 1 (the appended ones). The channels of
    a projection are [q, k, v], each of them head by head. The channels of the output are all heads
    as projected, then all heads as aggregated.
    """

    def __init__(
        self,
        spec: blocks.LinearAttention,
        in_channels: int,
        *,
        config: LayerConfig,
        rngs: nnx.Rngs,
    ):
        self.spec = spec
        width, linear = spec.heads * spec.key_dim, dataclasses.replace(config, init_variance=1.0)
        self.project = ConvNorm(1, in_channels, 3 * width, normed=False, config=linear, rngs=rngs)
        self.aggregate_dw = DepthwiseNorm(
            spec.kernel, 3 * width, normed=False, config=linear, rngs=rngs
        )
        self.aggregate = ConvNorm(
            1, 3 * width, 3 * width, groups=3 * spec.heads, normed=False, config=linear, rngs=rngs
        )
        self.output = ConvNorm(1, 2 * width, in_channels, config=config, rngs=rngs)

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c]."""
        projected = self.project(x, ctx.mode)
        aggregated = self.aggregate(self.aggregate_dw(projected, ctx.mode), ctx.mode)
        shape = (len(x), -1, 3, self.spec.heads, self.spec.key_dim)
        qkv = jnp.concatenate([y.reshape(shape) for y in (projected, aggregated)], 3).astype(
            jnp.float32
        )
        q, k, v = jax.nn.relu(qkv[:, :, 0]), jax.nn.relu(qkv[:, :, 1]), qkv[:, :, 2]
        v = jnp.pad(v, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1)
        y = jnp.einsum("bnak,bakv->bnav", q, jnp.einsum("bnak,bnav->bakv", k, v))
        # Source of the offset: the public PyTorch port (the released code's is 1e-15).
        y = y[..., :-1] / (y[..., -1:] + 1e-5)
        return self.output(y.reshape(*x.shape[:3], -1).astype(x.dtype), ctx.mode)


class PooledAttention(nnx.Module):
    """Module of `blocks.PooledAttention`.

    Letters: n pixels of the queries, m pixels of keys and values, a heads, k size of a head.
    """

    def __init__(
        self,
        spec: blocks.PooledAttention,
        in_channels: int,
        *,
        config: LayerConfig,
        rngs: nnx.Rngs,
    ):
        self.spec = spec
        width, linear = spec.heads * spec.key_dim, dataclasses.replace(config, init_variance=1.0)
        self.query, self.key, self.value = (
            ConvNorm(1, in_channels, width, normed=False, bias=True, config=linear, rngs=rngs)
            for _ in range(3)
        )
        self.pool_norm = norm.BatchNorm(in_channels, config) if spec.reduction > 1 else None
        self.output = ConvNorm(
            1, width, in_channels, normed=False, bias=True, config=linear, rngs=rngs
        )

    def __call__(self, x: jax.Array, ctx: BlockContext) -> jax.Array:
        """Map [b, h, w, c] to [b, h, w, c]."""
        pooled = x
        if self.pool_norm is not None:
            pooled = x.reshape(len(x), -1, 1, self.spec.reduction**2, x.shape[-1]).mean(3)
            pooled = self.pool_norm(pooled, ctx.mode)
        shape = (len(x), -1, self.spec.heads, self.spec.key_dim)
        q = self.query(x, ctx.mode).reshape(shape) * self.spec.key_dim**-0.5
        k, v = (layer(pooled, ctx.mode).reshape(shape) for layer in (self.key, self.value))
        scores = jnp.einsum("bnak,bmak->banm", q, k).astype(jnp.float32)
        y = jnp.einsum("banm,bmak->bnak", jax.nn.softmax(scores).astype(x.dtype), v)
        return self.output(y.reshape(*x.shape[:3], -1), ctx.mode)
