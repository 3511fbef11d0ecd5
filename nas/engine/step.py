"""One step of the search as a pure function.

Sample, train weights, score with the new weights, train the policy.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

import latency_tables.cost_model as cost_model
from nas.engine import warmup
from nas.engine.objective import Objective
from nas.engine.state import Batch, SearchState, StepConfig, WeightUpdate
from nas.model.context import LayerConfig
from nas.model.layers import rows
from nas.model.network import Arrays, Network, build_supernet, split
from nas.run.replicas import AXIS, Replicas, slots
from nas.searchers import reinforce
from nas.searchers.base import Policy
from nas.tasks import inputs
from nas.tasks.base import Task
from search_spaces import SearchSpace


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """The functions of one search, a `nas.run.loop.Program`.

    `init` makes a state, `step` advances it.

    Attributes:
      space: Search space.
      config: Numbers that shape a step.
      optimizer: Optimiser of the weights.
      objective: Targets, costs and reward.
      task: What the weights are trained for.
    """

    space: SearchSpace
    config: StepConfig
    optimizer: optax.GradientTransformation
    objective: Objective
    task: Task

    @property
    def steps(self) -> int:
        """Length of the search."""
        return self.config.steps

    @property
    def images_per_step(self) -> int:
        """Training images of one step."""
        return self.config.replicas * self.config.batch

    @property
    def replicas(self) -> Replicas:
        """The replicas, and the devices that compute them."""
        return self._replicas

    @functools.cached_property
    def _replicas(self) -> Replicas:
        return Replicas(self.config.replicas)

    @functools.cached_property
    def policy(self) -> Policy[Any]:
        """The policy of the space."""
        return reinforce.Controller.build(self.space)

    @functools.cached_property
    def _graph(self) -> tuple[Any, Arrays]:
        graph, _, stats = split(nnx.eval_shape(lambda: self._build(0)))
        # NumPy arrays, because this may run while JAX traces.
        return graph, jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), stats)

    def _build(self, seed: int) -> Network:
        config = LayerConfig(dtype=jnp.dtype(self.config.precision))
        return build_supernet(self.space, rngs=nnx.Rngs(seed), config=config)

    def init(self, seed: int) -> SearchState:
        """The state before the first step, on every device.

        Args:
          seed: Random seed of the initial weights.
        """
        # NumPy arrays, so that they are the same in every process.
        params = jax.tree.map(np.asarray, split(self._build(seed))[1])

        def state(params: Arrays) -> SearchState:
            # A state is donated, so each leaf needs a buffer of its own.
            copies = jax.tree.map(jnp.copy, params)
            policies = jax.tree.map(
                lambda leaf: jnp.stack([leaf] * self.config.policies), self.policy.init()
            )
            optimizer = self.optimizer.init(ravel_pytree(params)[0])
            return SearchState(copies, optimizer, policies, jnp.zeros((), jnp.int32))

        # One program: separately they are a hundred.
        return jax.jit(state, out_shardings=self.replicas.replicated)(params)

    def logits(self, params: Arrays, images: jax.Array, vector: jax.Array) -> jax.Array:
        """Outputs of one architecture inside the supernet, with batch statistics.

        Args:
          params: Weights of the supernet.
          images: uint8 [b, h, w, c].
          vector: [decisions] int32.

        Returns:
          [b, classes] float32.
        """
        x = inputs.normalise(images, self.config.mean, self.config.std)
        return self._apply(params, x, vector)

    def _apply(self, params: Arrays, x: jax.Array, vector: jax.Array) -> jax.Array:
        graph, stats = self._graph
        return nnx.merge(graph, params, stats)(x, vector, mode="batch")

    @functools.cached_property
    def _decayed(self) -> np.ndarray:
        """[parameters] bool, which of the flat parameters are kernels, not scales and biases."""
        shapes = split(nnx.eval_shape(lambda: self._build(0)))[1]
        return np.concatenate(
            [np.full(leaf.size, leaf.ndim > 1) for leaf in jax.tree.leaves(shapes)]
        )

    def step(
        self, state: SearchState, batch: Batch, root_key: jax.Array
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        """One step; all randomness comes from fold_in(root_key, step).

        The order is TuNAS's: every replica samples one architecture; their gradients on the
        training batch are averaged for one weight update; the same architectures are scored on
        held-out images with the new weights; the baseline and the policy follow. There are three
        compiled programs, none of which waits for the host: so the program that scores a step also
        scores the found architecture.

        Args:
          state: State before the step; donated.
          batch: Batch of the step.
          root_key: Random key of the search.

        Returns:
          The new state, and scalars to log.
        """
        update = self.jitted_train(state, batch, root_key)
        state = update.state
        quality = self.jitted_score(
            state.params, batch.validation_images, batch.validation_reference, update.vectors
        )
        policy, step, metrics = self.jitted_learn(state.policy, state.step, update.sampled, quality)
        return state._replace(policy=policy, step=step), update.metrics | metrics

    @functools.cached_property
    def jitted_train(self) -> Callable[[SearchState, Batch, jax.Array], WeightUpdate]:
        """`train`, compiled; the state is donated."""
        return jax.jit(self.train, donate_argnums=0)

    @functools.cached_property
    def jitted_score(self) -> Callable[..., jax.Array]:
        """`score`, compiled; its vectors must be replicated."""
        return jax.jit(self.score)

    @functools.cached_property
    def jitted_learn(self) -> Callable[..., tuple[Any, jax.Array, dict[str, jax.Array]]]:
        """`learn`, compiled."""
        return jax.jit(self.learn)

    def train(self, state: SearchState, batch: Batch, root_key: jax.Array) -> WeightUpdate:
        """First part of a step.

        Sample architectures, and update the weights by their mean gradient.

        Args:
          state: State before the step.
          batch: Batch of the step; its held-out half is not read.
          root_key: Random key of the search.

        Returns:
          The new weights, and the architectures.
        """
        c = self.config
        step_key = jax.random.fold_in(root_key, state.step)
        sample_key, warm_key, flip_key = jax.random.split(step_key, 3)
        sampled = self._sample(state.policy, sample_key)
        p = warmup.probability(state.step, c.steps, c.warmup)
        # Replicated, as results are scored: otherwise `score` is compiled once for steps and once
        # for results.
        vectors = jax.lax.with_sharding_constraint(
            warmup.warm(self.space, sampled, warm_key, p), self.replicas.replicated
        )
        keys = jax.random.split(flip_key, c.replicas)
        gradient, loss = self.replicas.over_devices(self._gradient)(
            state.params, (batch.images, batch.targets, vectors, keys)
        )
        # One vector: a few loops, not a few for each of a hundred arrays.
        flat, as_tree = ravel_pytree(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, flat)
        params = as_tree(flat + cast(jax.Array, updates))
        metrics = {"loss": loss.mean(), "gradient_norm": rows.length(gradient), "warmup": p}
        new = state._replace(params=params, optimizer=optimizer)
        return WeightUpdate(new, sampled, vectors, metrics)

    def _sample(self, state: Any, key: jax.Array) -> jax.Array:
        """[r, decisions] int32.

        Each policy samples for its share of the replicas, one after the other.
        """
        count, replicas = self.config.policies, self.config.replicas

        def sample(state: Any, key: jax.Array) -> jax.Array:
            return self.policy.sample(state, key, replicas // count)

        return jax.vmap(sample)(state, jax.random.split(key, count)).reshape(replicas, -1)

    def score(
        self, params: Arrays, images: jax.Array, reference: jax.Array, vectors: jax.Array
    ) -> jax.Array:
        """Second part of a step: quality of each architecture on its images.

        Args:
          params: Weights of the supernet.
          images: uint8 [r, v, h, w, c].
          reference: [r, v, ...], see `Task.reference`.
          vectors: [r, decisions] int32.

        Returns:
          [r] float32, 0..1.
        """
        return self.replicas.over_devices(self._score)(params, (images, reference, vectors))

    def learn(
        self, state: Any, step: jax.Array, vectors: jax.Array, quality: jax.Array
    ) -> tuple[Any, jax.Array, dict[str, jax.Array]]:
        """Third part of a step: rewards from the qualities, and the update of the policy.

        Args:
          state: State of the policies.
          step: [] int32, number of the step.
          vectors: [r, decisions] int32, as the policy sampled them.
          quality: [r] float32, held-out quality, 0..1.

        Returns:
          The new state of the policies, the number of the next step, and scalars to log.
        """
        c, costs = self.config, self.objective.costs
        table = jnp.asarray(costs.table, jnp.float32)
        sums = cost_model.gather(table, costs.offsets, costs.strides, vectors)
        cost = self._by_policy(costs.totals(sums))  # [p, r / p, targets]
        targets = jnp.asarray(self.objective.effective_values, jnp.float32)
        exponent = jnp.asarray(self.objective.exponent, jnp.float32)
        if c.policies > 1:  # each has one target
            each = np.arange(c.policies)
            cost, targets = cost[each, :, each][..., None], targets[:, None, None]
            exponent = jnp.broadcast_to(exponent, c.policies)[:, None, None]
        quality, vectors = self._by_policy(quality), self._by_policy(vectors)
        reward = self.objective.reward(quality, cost / targets, exponent)  # [p, r / p]
        rate = reinforce.learning_rate(step, c.steps, delay=c.delay, initial=c.policy_learning_rate)
        new, report = jax.vmap(self.policy.update, (0, 0, 0, None))(state, vectors, reward, rate)
        entropy = jax.vmap(self.policy.entropy)(state).mean(-1)  # [p]
        metrics = {
            "quality": quality.mean(),
            "reward": reward.mean(),
            "baseline": report["baseline"].mean(),
            "advantage": jnp.abs(report["advantage"]).mean(),
            "entropy": entropy.mean(),
            "log_probability": jax.vmap(self.policy.log_probability)(state, vectors).mean(),
            "policy_learning_rate": rate,
        }
        means = cost.mean((1, 2)) if c.policies > 1 else cost.mean((0, 1))
        for index, device in enumerate(costs.devices):
            metrics[f"cost/{device.name}"] = means[index]
            if c.policies > 1:
                metrics[f"reward/{device.name}"] = reward[index].mean()
                metrics[f"quality/{device.name}"] = quality[index].mean()
                metrics[f"entropy/{device.name}"] = entropy[index]
        return new, step + 1, metrics

    def _by_policy(self, values: jax.Array) -> jax.Array:
        """[r, ...] -> [p, r / p, ...]."""
        return values.reshape(self.config.policies, -1, *values.shape[1:])

    def summary(self, means: Mapping[str, float]) -> str:
        """See `nas.run.loop.Program`.

        Args:
          means: Mean of each metric.
        """
        costs = "  ".join(
            f"{target.device.name} {means[f'cost/{target.device.name}']:.3g}/{value:.3g} "
            f"{target.device.unit}"
            for target, value in zip(
                self.objective.targets, self.objective.effective_values, strict=True
            )
        )
        return (
            f"reward {means['reward']:.3f}  accuracy {means['quality']:.3f}  {costs}  "
            f"entropy {means['entropy']:.2f}"
        )

    def _gradient(self, params: Arrays, arrays: Any) -> tuple[jax.Array, jax.Array]:
        """Mean gradient of all replicas as one vector, and the loss of each [r].

        Runs on one device with its share.

        Args:
          params: Weights of the supernet.
          arrays: (images [r, b, h, w, c], targets [r, b, ...], vectors [r, decisions], keys [r]).
        """
        c = self.config

        def loss_of(
            params: Arrays, x: jax.Array, targets: jax.Array, vector: jax.Array
        ) -> jax.Array:
            return self.task.loss(self._apply(params, x, vector), targets)

        def gradient(slot: Any) -> tuple[jax.Array, jax.Array]:
            images, targets, vector, key = slot
            images = inputs.flip(images, key) if c.flip else images
            x = inputs.normalise(images, c.mean, c.std)
            if c.noise:
                x = inputs.noisy(x, c.noise / c.std, jax.random.fold_in(key, 1))
            if c.fgsm:
                x = inputs.adversarial(
                    lambda x: loss_of(params, x, targets, vector), x, c.fgsm / c.std
                )
            loss, gradient = jax.value_and_grad(loss_of)(params, x, targets, vector)
            flat = ravel_pytree(gradient)[0]
            if c.l2:  # what an architecture does not use has a gradient of exactly 0
                used = (flat != 0) & self._decayed
                flat += c.l2 * jnp.where(used, ravel_pytree(params)[0], 0)
            return loss, flat

        loss, flat = zip(*map(gradient, slots(arrays)), strict=True)
        # One reduction of both: each makes the devices wait for one another.
        replicas = c.replicas
        first = jax.lax.axis_index(AXIS) * len(loss)
        losses = jax.lax.dynamic_update_slice(jnp.zeros(replicas), jnp.stack(loss), (first,))
        local = jnp.concatenate([sum(flat[1:], start=flat[0]), losses])
        reduced = jax.lax.psum(local, AXIS)
        return reduced[:-replicas] / replicas, reduced[-replicas:]

    def _score(self, params: Arrays, arrays: Any) -> jax.Array:
        """As `score`, on one device with its share of the replicas."""

        def score(slot: Any) -> jax.Array:
            images, reference, vector = slot
            return self.task.quality(self.logits(params, images, vector), reference)

        scores = jnp.stack([*map(score, slots(arrays))])
        return jax.lax.all_gather(scores, AXIS, tiled=True)
