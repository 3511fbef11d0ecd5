"""Norms: batch norm with channel masks, and layer norm.

Flax's own batch norm gives NaN statistics for masked channels, and a masked channel leaks its bias.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.context import LayerConfig, NormMode
from nas.model.layers import initial, rows


class BatchNorm(nnx.Module):
    """Batch norm over [b, h, w] whose output is exactly 0 in masked channels.

    y = (x - mean) / sqrt(var + epsilon) * scale + bias

    Args:
      channels: Largest number of channels of its input.
      config: Hyperparameters of the layers: decay and epsilon.
    """

    def __init__(self, channels: int, config: LayerConfig):
        self.scale = nnx.Param(initial.constant(1, channels))
        self.bias = nnx.Param(initial.constant(0, channels))
        self.mean = nnx.BatchStat(initial.constant(0, channels))
        self.var = nnx.BatchStat(initial.constant(1, channels))
        self.config = config

    def __call__(self, x: jax.Array, mode: NormMode, mask: jax.Array | None = None) -> jax.Array:
        """Normalise; statistics are float32.

        Args:
          x: [b, h, w, c].
          mode: Statistics to use.
          mask: [c] bool, the channels that exist; None for all.

        Returns:
          [b, h, w, c], with the dtype of x.
        """
        if mode == "running":
            mean, var = self.mean[...], self.var[...]
        else:
            mean, square = rows.moments(x)
            var = jnp.maximum(square - mean * mean, 0)
        if mode == "train":
            self._update(mean, var, mask)
        gain = jax.lax.rsqrt(var + self.config.epsilon) * self.scale[...]
        shift = self.bias[...] - mean * gain
        if mask is not None:
            gain, shift = jnp.where(mask, gain, 0), jnp.where(mask, shift, 0)
        return rows.affine(x, gain, shift)

    def _update(self, mean: jax.Array, var: jax.Array, mask: jax.Array | None) -> None:
        decay = self.config.momentum
        for stat, new in ((self.mean, mean), (self.var, var)):
            moved = decay * stat[...] + (1 - decay) * new
            stat[...] = moved if mask is None else jnp.where(mask, moved, stat[...])


class LayerNorm(nnx.Module):
    """Layer norm over the channels of each pixel.

    y = (x - mean) / sqrt(var + 1e-6) * scale + bias

    Args:
      channels: Number of channels.

    Source of the epsilon: ConvNeXt (arXiv 2201.03545), released code.
    """

    def __init__(self, channels: int):
        self.scale = nnx.Param(initial.constant(1, channels))
        self.bias = nnx.Param(initial.constant(0, channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise [..., c]; statistics are float32, the output has the dtype of x."""
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-6)
        return rows.affine(y, self.scale[...], self.bias[...]).astype(x.dtype)
