"""Heads of networks: from the features of a backbone to the output.

To add a head: its spec in `search_spaces/heads.py`, its class here, and a row in `HEADS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from nas.model.context import ForwardPass
from search_spaces import heads


@dataclasses.dataclass(frozen=True)
class ClassifierHead:
    """Head that maps the last feature map of a backbone to one logit for each class.

    It is a view and owns no arrays: its modules stay in the one list `Network.blocks`, because
    checkpoints and weight files name every array by its path `blocks/<index>/...`.

    Attributes:
      spec: Spec of the head.
      modules: Modules of the head's blocks.
      first: Index of the first of them in the network.
    """

    spec: heads.ClassifierHead
    modules: Sequence[Any]
    first: int

    def __call__(self, features: jax.Array, forward: ForwardPass | None = None) -> jax.Array:
        """Compute the logits.

        Args:
          features: [b, h, w, c], the output of the backbone.
          forward: Inputs of the blocks besides activations; None for those of inference.

        Returns:
          [b, classes], float32.
        """
        forward = forward or ForwardPass()
        x = features
        for index, (module, spec) in enumerate(
            zip(self.modules, self.spec.blocks, strict=True), start=self.first
        ):
            x = forward.run(index, module, spec, x)
        return x.astype(jnp.float32)


HEADS: dict[type[Any], Any] = {heads.ClassifierHead: ClassifierHead}
"""Class of every head, by the class of its spec."""
