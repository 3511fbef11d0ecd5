"""Protocols of what chooses architectures.

A policy inside the search step, a searcher on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import jax
    import numpy as np

Vector = tuple[int, ...]
"""A decision vector: one option index for each decision of a space."""

Repair = Callable[[Vector], Vector]
"""Turns any architecture into one that may be proposed, e.g. the nearest that meets the targets."""

S = TypeVar("S")


class Policy(Protocol[S]):
    """A distribution over architectures that learns inside the compiled search step.

    All methods but `most_likely` are pure functions that JAX can trace. The state is a tree of
    arrays, and is saved and resumed with the weights.
    """

    @property
    def counts(self) -> np.ndarray:
        """Number of options of each decision, [decisions] int32."""
        ...

    def init(self) -> S:
        """The state before the first step."""
        ...

    def sample(self, state: S, key: jax.Array, replicas: int) -> jax.Array:
        """Sample architectures.

        Args:
          state: State of the policy.
          key: Random key; consumed.
          replicas: Number of architectures.

        Returns:
          [replicas, decisions] int32.
        """
        ...

    def update(
        self, state: S, vectors: jax.Array, rewards: jax.Array, learning_rate: jax.Array | float
    ) -> tuple[S, dict[str, Any]]:
        """Learn from the rewards of sampled architectures.

        Args:
          state: State of the policy.
          vectors: [replicas, decisions] int32, as sampled.
          rewards: [replicas] float32.
          learning_rate: Step size; 0 leaves the distribution as it is.

        Returns:
          The new state, and a report with `baseline` [] and `advantage` [replicas].
        """
        ...

    def probabilities(self, state: S) -> jax.Array:
        """Probability of each option.

        Args:
          state: State of the policy.

        Returns:
          [decisions, options] float32, 0 beyond a decision's options.
        """
        ...

    def host_probabilities(self, state: S) -> np.ndarray:
        """Probability of each option, computed on the host: no program is compiled for it.

        Args:
          state: State of the policy.

        Returns:
          [decisions, options] float64, 0 beyond a decision's options.
        """
        ...

    def entropy(self, state: S) -> jax.Array:
        """Entropy of each decision in nats.

        Args:
          state: State of the policy.

        Returns:
          [decisions] float32.
        """
        ...

    def log_probability(self, state: S, vectors: jax.Array) -> jax.Array:
        """Log-probability of architectures.

        Args:
          state: State of the policy.
          vectors: [..., decisions] int32.

        Returns:
          [...] float32.
        """
        ...

    def most_likely(self, state: S) -> Vector:
        """The most likely option of every decision.

        Args:
          state: State of the policy, as arrays of the host or of a device.
        """
        ...


class Searcher(Protocol):
    """Proposes architectures on the host, after the supernet has been trained.

    Asked and told in turn.

    Several architectures may be asked for before the reward of any is told.
    """

    def ask(self) -> Vector:
        """The next architecture to evaluate."""
        ...

    def tell(self, vector: Vector, reward: float) -> None:
        """Report the reward of an architecture.

        Args:
          vector: The architecture.
          reward: Its reward.
        """
        ...
