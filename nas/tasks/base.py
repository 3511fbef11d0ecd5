"""The protocol of tasks: from examples to a loss, and from outputs to a quality."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import numpy as np

from nas.data.dataset import Examples


class Task(Protocol):
    """A task that networks are trained for.

    The search step and stand-alone training know nothing else about it.

    Letters: b images.
    """

    def targets(self, examples: Examples) -> np.ndarray:
        """The values that the loss compares outputs with.

        Args:
          examples: Training examples, with any leading axes.

        Returns:
          An array with the same leading axes.
        """
        ...

    def reference(self, examples: Examples) -> np.ndarray:
        """The values that the quality compares outputs with.

        Args:
          examples: Held-out examples, with any leading axes.

        Returns:
          An array with the same leading axes.
        """
        ...

    def loss(self, outputs: Any, targets: jax.Array) -> jax.Array:
        """Training loss of a batch.

        Args:
          outputs: Outputs of the network, [b, ...].
          targets: From `targets`, [b, ...].

        Returns:
          [] float32.
        """
        ...

    def quality(self, outputs: Any, reference: jax.Array) -> jax.Array:
        """Quality of a batch, which a search maximises.

        Args:
          outputs: Outputs of the network, [b, ...].
          reference: From `reference`, [b, ...].

        Returns:
          [] float32, 0..1.
        """
        ...
