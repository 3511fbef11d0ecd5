"""The REINFORCE controller of TuNAS as pure functions: init, sample, update."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from search_spaces import SearchSpace
from search_spaces.choice import options_of

BASELINE_MOMENTUM = 0.95
ADAM_BETA2, ADAM_EPSILON = 0.999, 1e-8  # beta1 is 0: no momentum
TUNAS_LEARNING_RATE = 0.0048
TUNAS_POLICY_STEPS = 20_289
"""First learning rate and number of learning steps of TuNAS's default search: they set how far logits can move."""

_IMAGES_FOR_FULL_TRAVEL = 6e6


class PolicyState(NamedTuple):
    """State of a policy over d decisions of at most k options.

    Attributes:
      logits: [d, k] float32; entries beyond a decision's options are never used.
      second_moment: [d, k] float32, decayed mean over replicas of squared gradients.
      updates: [] int32, optimiser steps taken.
      baseline_sum, baseline_weight: [] float32; their quotient is the zero-debiased moving average of the reward.
    """

    logits: jax.Array
    second_moment: jax.Array
    updates: jax.Array
    baseline_sum: jax.Array
    baseline_weight: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Controller:
    """What the controller knows of a space, as constant arrays.

    Attributes:
      counts: [d] int32, options of each decision.
      gates: [d] bool, whether a decision decides a presence and so always counts.
      inside: [d, blocks] bool, the blocks that a decision matters to.
      presence: [blocks, k + 1] bool, whether a block is present under each option of its gate (last: average of all).
      gate_of: [blocks] int32, the decision that is a block's gate (any, for a block without one).
    """

    counts: np.ndarray
    gates: np.ndarray
    inside: np.ndarray
    presence: np.ndarray
    gate_of: np.ndarray

    @classmethod
    def build(cls, space: SearchSpace) -> Controller:
        """Collect the arrays of a space."""
        decisions, blocks = space.decisions, space.spec.blocks
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

    def probabilities(self, logits: jax.Array) -> jax.Array:
        """[d, k] probability of each option, 0 beyond a decision's options."""
        return jax.nn.softmax(jnp.where(self.mask, logits, -jnp.inf), axis=-1)

    def entropy(self, logits: jax.Array) -> jax.Array:
        """[d] entropy of each decision in nats."""
        p = self.probabilities(logits)
        return -(p * jnp.log(jnp.where(p > 0, p, 1))).sum(-1)

    def sample(self, state: PolicyState, key: jax.Array, replicas: int) -> jax.Array:
        """[replicas, d] int32, one independent architecture for each replica; consumes `key`."""
        logits = jnp.where(self.mask, state.logits, -jnp.inf)
        return jax.random.categorical(key, logits, shape=(replicas, len(self.counts))).astype(jnp.int32)

    def active(self, vectors: jax.Array) -> jax.Array:
        """[..., d] bool: the decisions of `vectors` [..., d] that count (those of absent blocks do not)."""
        present = jnp.asarray(self.presence)[np.arange(len(self.gate_of)), vectors[..., self.gate_of]]
        return jnp.asarray(self.gates) | (present[..., None, :] & self.inside).any(-1)

    def log_probability(self, logits: jax.Array, vectors: jax.Array) -> jax.Array:
        """[...] log-probability of `vectors` [..., d]: the sum over their active decisions."""
        logp = jax.nn.log_softmax(jnp.where(self.mask, logits, -jnp.inf), axis=-1)
        chosen = jnp.take_along_axis(logp[(None,) * (vectors.ndim - 1)], vectors[..., None], axis=-1)[..., 0]
        return jnp.where(self.active(vectors), chosen, 0).sum(-1)

    def update(
        self, state: PolicyState, vectors: jax.Array, rewards: jax.Array, learning_rate: jax.Array | float
    ) -> tuple[PolicyState, dict[str, Any]]:
        """One REINFORCE step.

        The baseline moves first, then is used: b = EMA(mean reward), advantage_i = R_i - b. The gradient of replica i
        is -advantage_i * (onehot(choice) - p) for each active decision. Adam without momentum; its second moment is
        the mean over replicas of the squared gradients, not the square of their mean: where replicas disagree, steps
        are small.

        Args:
          state: the policy.
          vectors: [replicas, d] int32, as sampled.
          rewards: [replicas].
          learning_rate: 0 freezes the logits (and the optimiser); the baseline still moves.

        Returns:
          The new state, and {baseline, advantage [replicas]}.

        Source: TuNAS reference code, `controller.py`, `tpu_optimizer_ops.py`.
        """
        weight = BASELINE_MOMENTUM * state.baseline_weight + (1 - BASELINE_MOMENTUM)
        total = BASELINE_MOMENTUM * state.baseline_sum + (1 - BASELINE_MOMENTUM) * rewards.mean()
        baseline = total / weight
        advantage = rewards - baseline
        direction = jax.nn.one_hot(vectors, self.mask.shape[1]) - self.probabilities(state.logits)  # [replicas, d, k]
        gradients = -advantage[:, None, None] * jnp.where(self.active(vectors)[..., None], direction, 0)
        moved = jnp.asarray(learning_rate) > 0
        updates = state.updates + 1
        second = ADAM_BETA2 * state.second_moment + (1 - ADAM_BETA2) * (gradients**2).mean(0)
        unbiased = second / (1 - ADAM_BETA2 ** updates.astype(jnp.float32))
        logits = state.logits - learning_rate * gradients.mean(0) / (jnp.sqrt(unbiased) + ADAM_EPSILON)
        new = PolicyState(
            jnp.where(moved, logits, state.logits),
            jnp.where(moved, second, state.second_moment),
            jnp.where(moved, updates, state.updates),
            total,
            weight,
        )
        return new, {"baseline": baseline, "advantage": advantage}

    def best(self, state: PolicyState) -> tuple[int, ...]:
        """The most likely option of every decision (the first one of equals): what a search derives."""
        logits = np.where(self.mask, np.asarray(state.logits), -np.inf)
        return tuple(int(i) for i in logits.argmax(-1))


def learning_rate(step: jax.Array, steps: int, *, delay: float, first: float) -> jax.Array:
    """Rate at a step: 0 during the first `delay` of the search, then first * 10^progress, progress from 0 to 1.

    Source: TuNAS (delay .25, first .0048 at its length; see `rescaled`).
    """
    start = round(delay * steps)
    progress = (step - start) / max(steps - start, 1)
    return jnp.where(step < start, 0.0, first * 10.0**progress)


def rescaled(steps: int, images: int, *, delay: float) -> float:
    """First learning rate for a search of another length than TuNAS's.

    The sum of the rates over the search bounds how far logits can move. TuNAS's own sum (about 381) is kept where
    there is as much evidence as here is needed for it, and shrinks with the square root of the evidence where there
    is less: a short search that moves as far follows its noise.

    Args:
      steps: of the search.
      images: held-out images that all its steps score together.
      delay: fraction of the steps before the policy learns.

    Source: ours. On NAS-Bench-Macro the best sums were about 15 at 77 thousand images, 40-80 at 300 thousand, 160 at
      one million and 381 or more at 33 million; a fixed rate instead does not converge in short searches.
    """
    travel = min(1.0, math.sqrt(images / _IMAGES_FOR_FULL_TRAVEL))
    return TUNAS_LEARNING_RATE * TUNAS_POLICY_STEPS / max(steps - round(delay * steps), 1) * travel
