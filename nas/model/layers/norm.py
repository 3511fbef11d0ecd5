"""Norms: batch norm with channel masks, and layer norm.

Flax's own batch norm gives NaN statistics for masked channels, and lets a masked channel leak its bias: hence this one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.context import LayerSettings, NormMode
from nas.model.layers import initial


class BatchNorm(nnx.Module):
    """y = (x - mean) / sqrt(var + epsilon) * scale + bias over [b, h, w], exactly 0 in masked channels.

    Args:
      channels: the most channels that it is used with.
      settings: decay and epsilon.
    """

    def __init__(self, channels: int, settings: LayerSettings):
        self.scale = nnx.Param(initial.constant(1, channels))
        self.bias = nnx.Param(initial.constant(0, channels))
        self.mean = nnx.BatchStat(initial.constant(0, channels))
        self.var = nnx.BatchStat(initial.constant(1, channels))
        self.settings = settings

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """Normalise [b, h, w, c]; `mask` [c] bool says which channels exist. Statistics are float32."""
        if mode == "running":
            mean, var = self.mean[...], self.var[...]
        else:
            x32 = x.astype(jnp.float32)
            mean = x32.mean((0, 1, 2))
            var = jnp.maximum((x32 * x32).mean((0, 1, 2)) - mean * mean, 0)
        if mode == "train":
            self._update(mean, var, mask)
        gain = jax.lax.rsqrt(var + self.settings.epsilon) * self.scale[...]
        shift = self.bias[...] - mean * gain
        if mask is not None:
            gain, shift = jnp.where(mask, gain, 0), jnp.where(mask, shift, 0)
        return (x * gain + shift).astype(x.dtype)

    def _update(self, mean: jax.Array, var: jax.Array, mask: jax.Array | None) -> None:
        decay = self.settings.momentum
        for stat, new in ((self.mean, mean), (self.var, var)):
            moved = decay * stat[...] + (1 - decay) * new
            stat[...] = moved if mask is None else jnp.where(mask, moved, stat[...])


class LayerNorm(nnx.Module):
    """y = (x - mean) / sqrt(var + 1e-6) * scale + bias over the channels of each pixel.

    Source of the epsilon: ConvNeXt (arXiv 2201.03545), released code.
    """

    def __init__(self, channels: int):
        self.scale = nnx.Param(initial.constant(1, channels))
        self.bias = nnx.Param(initial.constant(0, channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., c] -> [..., c]; statistics are float32."""
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-6)
        return (y * self.scale[...] + self.bias[...]).astype(x.dtype)
