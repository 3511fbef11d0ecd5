"""What layers are told: once when they are built, and at each pass."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from nas.model.selection import Selection

NormMode = Literal["train", "batch", "running"]
"""train: batch statistics, running ones updated; batch: batch statistics only (search); running: running ones."""


@dataclasses.dataclass(frozen=True)
class LayerSettings:
    """What all layers of a network share.

    Attributes:
      momentum: decay of the norms' running statistics.
      epsilon: variance offset of the norms.
      init_variance: initial weights of convolutions have variance init_variance / fan_in: 2 in TuNAS (he_normal), 1 in
        MobileNetV4's released code (VarianceScaling). Behind a norm it changes nothing but the size of the first steps.
      dtype: of activations, and of kernels where they meet them. Parameters, statistics of norms, softmax and logits
        are float32 always.

    Source: momentum and epsilon: TensorFlow's defaults, as TuNAS and MNv4's blocks; the released training
    configurations have 0.95 / 1e-6 (Conv-S) and 0.997 / 1e-3 (others).
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    init_variance: float = 2.0
    dtype: Any = jnp.float32


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass through a block.

    Attributes:
      selection: the decisions, for a block with holes.
      mode: which statistics the norms use.
      key: randomness of dropout and stochastic depth; None for neither.
      drop_rate: probability with which a residual branch is dropped for an image.
    """

    selection: Selection = dataclasses.field(default_factory=Selection)
    mode: NormMode = "running"
    key: jax.Array | None = None
    drop_rate: float = 0.0

    def drop_branch(self, branch: jax.Array) -> jax.Array:
        """Stochastic depth: per image, 0 with probability `drop_rate`, else branch / (1 - drop_rate).

        Args:
          branch: [b, h, w, c], what a residual adds.

        Source: arXiv 1603.09382, scaled as in the released code.
        """
        if self.key is None or not self.drop_rate:
            return branch
        keep = jax.random.bernoulli(self.key, 1 - self.drop_rate, (len(branch), 1, 1, 1))
        return jnp.where(keep, branch / (1 - self.drop_rate), 0)
