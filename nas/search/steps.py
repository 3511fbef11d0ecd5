"""One step of the search as a pure function: sample, train weights, score with the new weights, reward, train policy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import latency_tables.cost_model as cost_model
from nas.model.network import Arrays, build_supernet, split
from nas.policy import controller as policy
from nas.policy import warmup
from nas.train import loss as losses
from rewards import Reward
from search_spaces import SearchSpace


class SearchState(NamedTuple):
    """All that a search changes. What is resumed together is saved together."""

    params: Arrays
    optimizer: Any
    policy: policy.PolicyState
    step: jax.Array  # [] int32


class Batch(NamedTuple):
    """What one step reads, with a leading axis of replicas (r).

    Attributes:
      images: [r, b, h, w, c] uint8, training.
      targets: [r, b, classes] float32, class probabilities.
      validation_images: [r, v, h, w, c] uint8, held out.
      validation_labels: [r, v] int32.
    """

    images: Any
    targets: Any
    validation_images: Any
    validation_labels: Any


@dataclasses.dataclass(frozen=True, eq=False)
class StepSettings:
    """Numbers that shape a step; see `nas.run.config` for what they mean to a user."""

    steps: int
    replicas: int
    warmup: float
    delay: float
    policy_learning_rate: float
    reward: Reward
    exponent: float
    label_smoothing: float
    flip: bool
    mean: float
    std: float


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """The functions of one search: `init` makes a state, `step` advances it."""

    space: SearchSpace
    settings: StepSettings
    optimizer: optax.GradientTransformation
    costs: cost_model.CostModel
    targets: tuple[float, ...]

    @functools.cached_property
    def controller(self) -> policy.Controller:
        """The controller of the space."""
        return policy.Controller.build(self.space)

    @functools.cached_property
    def _graph(self) -> tuple[Any, Arrays]:
        network = nnx.eval_shape(lambda: build_supernet(self.space, rngs=nnx.Rngs(0)))
        graph, _, stats = split(network)
        return graph, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), stats)

    def init(self, seed: int) -> SearchState:
        """The state before the first step."""

        def make() -> SearchState:
            params = split(build_supernet(self.space, rngs=nnx.Rngs(seed)))[1]
            return SearchState(params, self.optimizer.init(params), self.controller.init(), jnp.zeros((), jnp.int32))

        state = jax.jit(make)()
        return jax.tree.map(jnp.array, state)  # each leaf a buffer of its own: the state is donated

    def logits(self, params: Arrays, images: jax.Array, vector: jax.Array) -> jax.Array:
        """[b, classes] of the architecture `vector` [decisions] on uint8 images, with batch statistics."""
        graph, stats = self._graph
        x = losses.normalise(images, self.settings.mean, self.settings.std)
        return nnx.merge(graph, params, stats)(x, vector, mode="batch")

    def quality(self, params: Arrays, images: jax.Array, labels: jax.Array, vector: jax.Array) -> jax.Array:
        """[] accuracy of the architecture `vector` on one batch."""
        return (self.logits(params, images, vector).argmax(-1) == labels).mean()

    def step(self, state: SearchState, batch: Batch, root: jax.Array) -> tuple[SearchState, dict[str, jax.Array]]:
        """One step, to be jitted; all randomness comes from fold_in(root, step).

        Order as in TuNAS: every replica samples one architecture; their gradients on the training batch are averaged for
        one weight update; the same architectures are scored on held-out images with the new weights; the baseline and the
        policy follow.

        Returns:
          The new state, and scalars to log.
        """
        s = self.settings
        sample_key, warm_key, flip_key = jax.random.split(jax.random.fold_in(root, state.step), 3)
        vectors = self.controller.sample(state.policy, sample_key, s.replicas)
        p = warmup.probability(state.step, s.steps, s.warmup)
        trained = warmup.warm(self.space, vectors, warm_key, p)

        def loss_of(params: Arrays, images: jax.Array, targets: jax.Array, vector: jax.Array) -> jax.Array:
            return losses.cross_entropy(self.logits(params, images, vector), targets, s.label_smoothing)

        def add_gradient(total: Any, inputs: Any) -> tuple[Any, jax.Array]:
            images, targets, vector, key = inputs
            images = losses.flip(images, key) if s.flip else images
            loss, gradient = jax.value_and_grad(loss_of)(state.params, images, targets, vector)
            return jax.tree.map(jnp.add, total, gradient), loss

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        inputs = (batch.images, batch.targets, trained, jax.random.split(flip_key, s.replicas))
        total, loss = _over_replicas(add_gradient, zeros, inputs)
        gradient = jax.tree.map(lambda g: g / s.replicas, total)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)

        def score(carry: None, inputs: Any) -> tuple[None, jax.Array]:
            return carry, self.quality(params, *inputs)

        _, quality = _over_replicas(score, None, (batch.validation_images, batch.validation_labels, trained))

        c = self.costs
        cost = cost_model.gather(jnp.asarray(c.table, jnp.float32), c.offsets, c.strides, vectors)  # [r, targets]
        ratios = cost / jnp.asarray(self.targets, jnp.float32)
        reward = s.reward(quality, ratios, s.exponent)
        rate = policy.learning_rate(state.step, s.steps, delay=s.delay, first=s.policy_learning_rate)
        new_policy, report = self.controller.update(state.policy, vectors, reward, rate)
        metrics = {
            "loss": loss.mean(),
            "quality": quality.mean(),
            "reward": reward.mean(),
            "baseline": report["baseline"],
            "advantage": jnp.abs(report["advantage"]).mean(),
            "entropy": self.controller.entropy(state.policy.logits).mean(),
            "log_probability": self.controller.log_probability(state.policy.logits, vectors).mean(),
            "policy_learning_rate": rate,
            "warmup": p,
            "gradient_norm": optax.global_norm(gradient),
        }
        for place, device in enumerate(c.devices):
            metrics[f"cost/{device.name}"] = cost[:, place].mean()
        return SearchState(params, optimizer, new_policy, state.step + 1), metrics

    def jitted(self) -> Callable[[SearchState, Batch, jax.Array], tuple[SearchState, dict[str, jax.Array]]]:
        """`step` over a leading axis of steps in one dispatch, the state donated; metrics get that axis too."""

        def run(state: SearchState, batches: Batch, root: jax.Array) -> tuple[SearchState, dict[str, jax.Array]]:
            return jax.lax.scan(lambda state, batch: self.step(state, batch, root), state, batches)

        return jax.jit(run, donate_argnums=0)


def _over_replicas(body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any) -> tuple[Any, Any]:
    """One replica after the other (micro-batch slots): only then is a switch a switch and not a select."""
    return jax.lax.scan(body, carry, inputs)

