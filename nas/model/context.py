"""Inputs of layers besides their arrays: shared at construction, and at each forward pass."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from nas.model.selection import Selection
from search_spaces.blocks import BaseBlock
from search_spaces.ops import Padding

NormMode = Literal["train", "batch", "running"]
"""Statistics of the norms.

"train" uses batch statistics and updates the running ones, "batch" uses batch statistics only (as a
search does), "running" uses the running ones.
"""


@dataclasses.dataclass(frozen=True)
class LayerConfig:
    """Hyperparameters that all layers of a network share.

    Attributes:
      momentum: Decay of the norms' running statistics.
      epsilon: Offset that the norms add to the variance.
      init_variance: Variance of the initial weights of convolutions, times fan_in: 2 in TuNAS
        (he_normal), 1 in MobileNetV4's released code (VarianceScaling). In front of a norm it
        changes nothing but the size of the first steps.
      dtype: Type of activations, and of kernels where they are multiplied with activations.
        Parameters, statistics of norms, softmax and logits are always float32.
      padding: See `ArchSpec`, which decides it.

    Source: momentum and epsilon: TensorFlow's defaults, as in TuNAS and MNv4's blocks; the released
    training configurations have 0.95 / 1e-6 (Conv-S) and 0.997 / 1e-3 (others).
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    init_variance: float = 2.0
    dtype: Any = jnp.float32
    padding: Padding = "same"


@dataclasses.dataclass(frozen=True)
class BlockContext:
    """Inputs of one block in one forward pass, besides its activations.

    Attributes:
      selection: Decisions, for a block with holes.
      mode: Statistics of the norms.
      key: Random key of dropout and stochastic depth; None disables both.
      drop_rate: Probability with which a residual branch is dropped for an image.
    """

    selection: Selection = dataclasses.field(default_factory=Selection)
    mode: NormMode = "running"
    key: jax.Array | None = None
    drop_rate: float = 0.0

    def drop_branch(self, branch: jax.Array) -> jax.Array:
        """Apply stochastic depth: per image, 0 with probability `drop_rate`, else scaled up.

        y = branch / (1 - drop_rate) where the branch is kept

        Args:
          branch: [b, h, w, c], the residual branch.

        Returns:
          [b, h, w, c].

        Source: arXiv 1603.09382, scaled as in the released code.
        """
        if self.key is None or not self.drop_rate:
            return branch
        keep = jax.random.bernoulli(self.key, 1 - self.drop_rate, (len(branch), 1, 1, 1))
        return jnp.where(keep, branch / (1 - self.drop_rate), 0)


@dataclasses.dataclass(frozen=True)
class ForwardPass:
    """Inputs of all blocks of a network in one forward pass, besides activations.

    Attributes:
      selection: Decisions, for a network with holes.
      mode: Statistics of the norms.
      key: Random key of dropout and stochastic depth, folded with each block's index; None
        disables both.
      drop_rates: Stochastic depth rate of every block; empty for none.
    """

    selection: Selection = dataclasses.field(default_factory=Selection)
    mode: NormMode = "running"
    key: jax.Array | None = None
    drop_rates: tuple[float, ...] = ()

    def run(self, index: int, module: Any, spec: BaseBlock, x: jax.Array) -> jax.Array:
        """Run one block of the network, or pass its input on if it is absent.

        Args:
          index: Index of the block in the network.
          module: Module of the block.
          spec: Spec of the block.
          x: [b, h, w, c], its input.

        Returns:
          Its output.
        """
        ctx = BlockContext(
            self.selection,
            self.mode,
            None if self.key is None else jax.random.fold_in(self.key, index),
            self.drop_rates[index] if self.drop_rates else 0.0,
        )
        return self.selection.maybe_apply(spec.present, lambda x: module(x, ctx), x)
