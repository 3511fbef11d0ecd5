"""The REINFORCE controller of TuNAS as pure functions: init, sample, update."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas.searchers.base import Vector
from search_spaces import SearchSpace
from search_spaces.choice import options_of

BASELINE_MOMENTUM = 0.95
ADAM_BETA2 = 0.999
ADAM_EPSILON = 1e-8
"""Adam's beta1 is 0: no momentum."""
TUNAS_LEARNING_RATE = 0.0048
TUNAS_POLICY_STEPS = 20_289
"""Initial learning rate and number of learning steps of TuNAS's default search.

They set how far logits can move.
"""

_IMAGES_FOR_FULL_TRAVEL = 6e6


class PolicyState(NamedTuple):
    """State of a policy over d decisions of at most k options.

    Attributes:
      logits: [d, k] float32; entries beyond a decision's options are never used.
      second_moment: [d, k] float32, decayed mean over replicas of squared gradients.
      updates: [] int32, optimiser steps taken.
      baseline_sum: [] float32, decayed sum of rewards.
      baseline_weight: [] float32; sum / weight is the zero-debiased moving average of the reward.
    """

    logits: jax.Array
    second_moment: jax.Array
    updates: jax.Array
    baseline_sum: jax.Array
    baseline_weight: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Controller:
    """The controller of one space: a `nas.searchers.base.Policy`.

    Attributes:
      counts: [d] int32, options of each decision.
      gates: [d] bool, decisions that decide a presence and so are always active.
      inside: [d, blocks] bool, the blocks that each decision matters to.
      presence: [blocks, k + 1] bool, whether a block is present under each option of its gate; the
        last column is the average of all options.
      gate_of: [blocks] int32, the decision that gates a block (any decision, for a block without a
        gate).
    """

    counts: np.ndarray
    gates: np.ndarray
    inside: np.ndarray
    presence: np.ndarray
    gate_of: np.ndarray

    @classmethod
    def build(cls, space: SearchSpace) -> Controller:
        """The controller of a space.

        Args:
          space: Search space.
        """
        decisions = space.decisions
        blocks = space.spec.blocks
        counts = np.array([d.options for d in decisions], np.int32)
        inside = np.zeros((len(decisions), len(blocks)), bool)
        presence = np.ones((len(blocks), counts.max() + 1), bool)
        gate_of = np.zeros(len(blocks), np.int32)
        for i, decision in enumerate(decisions):
            inside[i, list(decision.blocks)] = True
            for block in decision.gates:
                gate_of[block] = i
                presence[block, : decision.options] = options_of(blocks[block].present)
        gates = np.array([bool(d.gates) for d in decisions])
        return cls(counts, gates, inside, presence, gate_of)

    @property
    def mask(self) -> np.ndarray:
        """[d, k] bool, which logits exist."""
        return np.arange(self.counts.max()) < self.counts[:, None]

    def init(self) -> PolicyState:
        """The uniform policy."""
        zeros = jnp.zeros(self.mask.shape, jnp.float32)
        scalar = jnp.zeros((), jnp.float32)
        return PolicyState(zeros, zeros, jnp.zeros((), jnp.int32), scalar, scalar)

    def probabilities(self, state: PolicyState) -> jax.Array:
        """See `Policy`.

        Args:
          state: State of the policy.

        Returns:
          [d, k] float32.
        """
        return jax.nn.softmax(jnp.where(self.mask, state.logits, -jnp.inf), axis=-1)

    def host_probabilities(self, state: PolicyState) -> np.ndarray:
        """See `Policy`.

        Args:
          state: State of the policy.

        Returns:
          [d, k] float64.
        """
        logits = np.where(self.mask, np.asarray(state.logits, np.float64), -np.inf)
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        return odds / odds.sum(-1, keepdims=True)

    def entropy(self, state: PolicyState) -> jax.Array:
        """See `Policy`.

        Args:
          state: State of the policy.

        Returns:
          [d] float32, nats.
        """
        p = self.probabilities(state)
        return -(p * jnp.log(jnp.where(p > 0, p, 1))).sum(-1)

    def sample(self, state: PolicyState, key: jax.Array, replicas: int) -> jax.Array:
        """See `Policy`.

        Args:
          state: State of the policy.
          key: Random key; consumed.
          replicas: Number of architectures.

        Returns:
          [replicas, d] int32.
        """
        logits = jnp.where(self.mask, state.logits, -jnp.inf)
        shape = (replicas, len(self.counts))
        return jax.random.categorical(key, logits, shape=shape).astype(jnp.int32)

    def active(self, vectors: jax.Array) -> jax.Array:
        """Which decisions change the network: those of absent blocks do not.

        Args:
          vectors: [..., d] int32.

        Returns:
          [..., d] bool.
        """
        blocks = np.arange(len(self.gate_of))
        present = jnp.asarray(self.presence)[blocks, vectors[..., self.gate_of]]
        return jnp.asarray(self.gates) | (present[..., None, :] & self.inside).any(-1)

    def log_probability(self, state: PolicyState, vectors: jax.Array) -> jax.Array:
        """See `Policy`: the sum over active decisions.

        Args:
          state: State of the policy.
          vectors: [..., d] int32.

        Returns:
          [...] float32.
        """
        logp = jax.nn.log_softmax(jnp.where(self.mask, state.logits, -jnp.inf), axis=-1)
        rows = logp[(None,) * (vectors.ndim - 1)]
        chosen = jnp.take_along_axis(rows, vectors[..., None], axis=-1)[..., 0]
        return jnp.where(self.active(vectors), chosen, 0).sum(-1)

    def update(
        self,
        state: PolicyState,
        vectors: jax.Array,
        rewards: jax.Array,
        learning_rate: jax.Array | float,
    ) -> tuple[PolicyState, dict[str, Any]]:
        """One REINFORCE step.

        The baseline moves first, then is used: b = EMA(mean reward), advantage_i = R_i - b. The
        gradient of replica i is -advantage_i * (onehot(choice) - p) for each active decision. Adam
        without momentum; its second moment is the mean over replicas of the squared gradients, not
        the square of their mean: where replicas disagree, steps are small.

        Args:
          state: State of the policy.
          vectors: [replicas, d] int32, as sampled.
          rewards: [replicas] float32.
          learning_rate: Step size; 0 freezes the logits and the optimiser, while the baseline still
            moves.

        Returns:
          The new state, and {baseline [], advantage [replicas]}.

        Source: TuNAS reference code, `controller.py`, `tpu_optimizer_ops.py`.
        """
        weight = BASELINE_MOMENTUM * state.baseline_weight + (1 - BASELINE_MOMENTUM)
        total = BASELINE_MOMENTUM * state.baseline_sum + (1 - BASELINE_MOMENTUM) * rewards.mean()
        baseline = total / weight
        advantage = rewards - baseline
        # [replicas, d, k]
        direction = jax.nn.one_hot(vectors, self.mask.shape[1]) - self.probabilities(state)
        used = self.active(vectors)[..., None]
        gradients = -advantage[:, None, None] * jnp.where(used, direction, 0)
        moved = jnp.asarray(learning_rate) > 0
        updates = state.updates + 1
        second = ADAM_BETA2 * state.second_moment + (1 - ADAM_BETA2) * (gradients**2).mean(0)
        unbiased = second / (1 - ADAM_BETA2 ** updates.astype(jnp.float32))
        denominator = jnp.sqrt(unbiased) + ADAM_EPSILON
        logits = state.logits - learning_rate * gradients.mean(0) / denominator
        new = PolicyState(
            jnp.where(moved, logits, state.logits),
            jnp.where(moved, second, state.second_moment),
            jnp.where(moved, updates, state.updates),
            total,
            weight,
        )
        return new, {"baseline": baseline, "advantage": advantage}

    def most_likely(self, state: PolicyState) -> Vector:
        """See `Policy`; the first of equally likely options.

        Args:
          state: State of the policy.
        """
        logits = np.where(self.mask, np.asarray(state.logits), -np.inf)
        return tuple(int(i) for i in logits.argmax(-1))


def learning_rate(step: jax.Array, steps: int, *, delay: float, initial: float) -> jax.Array:
    """Learning rate of the policy.

    0 during the delay, then initial * 10^progress, progress from 0 to 1.

    Args:
      step: [] int32, steps done.
      steps: Length of the search.
      delay: Fraction of the steps before the policy learns.
      initial: Rate when learning begins.

    Returns:
      [] float32.

    Source: TuNAS (delay .25, initial .0048 at its length; see `initial_rate_for_length`).
    """
    start = round(delay * steps)
    progress = (step - start) / max(steps - start, 1)
    return jnp.where(step < start, 0.0, initial * 10.0**progress)


def initial_rate_for_length(steps: int, images: int, *, delay: float) -> float:
    """Initial learning rate of a search that is not as long as TuNAS's.

    The sum of the rates over the search bounds how far logits can move. It equals TuNAS's (about
    381) when the search scores at least 6 M held-out images, and is scaled by sqrt(images / 6 M)
    below that, because a short search would otherwise fit noise.

    Args:
      steps: Length of the search.
      images: Held-out images that all its steps score together.
      delay: Fraction of the steps before the policy learns.

    Source: ours. On NAS-Bench-Macro the best sums were about 15 at 77 thousand images, 40-80 at 300
      thousand, 160 at one million and 381 or more at 33 million; a fixed rate instead does not
      converge in short searches.
    """
    travel = min(1.0, math.sqrt(images / _IMAGES_FOR_FULL_TRAVEL))
    return TUNAS_LEARNING_RATE * TUNAS_POLICY_STEPS / max(steps - round(delay * steps), 1) * travel
