"""One step of the search as a pure function: sample, train weights, score with the new weights, train the policy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

import latency_tables.cost_model as cost_model
from nas.model.context import LayerSettings
from nas.model.network import Arrays, Network, build_supernet, split
from nas.policy import controller as policy
from nas.policy import warmup
from nas.run.config import Precision
from nas.train import loss as losses
from rewards import Reward
from search_spaces import SearchSpace

_AXIS = "replica"


class SearchState(NamedTuple):
    """All that a search changes. What is resumed together is saved together."""

    params: Arrays
    optimizer: Any
    policy: policy.PolicyState  # each array with a leading axis of policies
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


class Trained(NamedTuple):
    """A step between its weights and its policy.

    Attributes:
      state: with new weights.
      sampled: [r, decisions] int32, the architectures that the policy sampled.
      vectors: [r, decisions] int32, the same as warm-up changed them: what was trained.
      metrics: scalars to log.
    """

    state: SearchState
    sampled: jax.Array
    vectors: jax.Array
    metrics: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class StepSettings:
    """Numbers that shape a step; see `nas.run.config` for what they mean to a user.

    `policies` is 1, or the number of targets: then each policy has its share of the replicas and one target of its own.
    """

    steps: int
    replicas: int
    warmup: float
    delay: float
    policy_learning_rate: float
    reward: Reward
    exponent: float | tuple[float, ...]
    label_smoothing: float
    flip: bool
    mean: float
    std: float
    precision: Precision = "float32"
    policies: int = 1
    l2: float = 0.0
    noise: float = 0.0
    fgsm: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """The functions of one search: `init` makes a state, `step` advances it."""

    space: SearchSpace
    settings: StepSettings
    optimizer: optax.GradientTransformation
    costs: cost_model.CostModel
    targets: tuple[float, ...]

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """As many devices as share the replicas evenly, the same number of each process.

        Raises:
          ValueError: there are more processes than that.
        """
        processes, replicas = jax.process_count(), self.settings.replicas
        each = [n for n in range(1, jax.local_device_count() + 1) if replicas % (n * processes) == 0]
        if not each:
            raise ValueError(f"{processes} processes share the replicas evenly, got search.replicas {replicas}")
        devices = np.array(jax.devices()).reshape(processes, -1)[:, : max(each)]
        return jax.sharding.Mesh(devices.ravel(), (_AXIS,))

    @property
    def own(self) -> slice:
        """The replicas whose images this process reads: all, if it is the only one."""
        count = self.settings.replicas // jax.process_count()
        return slice(jax.process_index() * count, (jax.process_index() + 1) * count)

    @functools.cached_property
    def controller(self) -> policy.Controller:
        """The controller of the space."""
        return policy.Controller.build(self.space)

    @functools.cached_property
    def _graph(self) -> tuple[Any, Arrays]:
        network = nnx.eval_shape(lambda: self._build(0))
        graph, _, stats = split(network)
        return graph, jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), stats)  # not jnp: this may run while tracing

    def _build(self, seed: int) -> Network:
        settings = LayerSettings(dtype=jnp.dtype(self.settings.precision))
        return build_supernet(self.space, rngs=nnx.Rngs(seed), settings=settings)

    def init(self, seed: int) -> SearchState:
        """The state before the first step, on every device of the mesh."""
        params = jax.tree.map(np.asarray, split(self._build(seed))[1])  # the same in every process

        def state(params: Arrays) -> SearchState:
            own = jax.tree.map(jnp.copy, params)  # a state is donated, so each leaf needs a buffer of its own
            policies = jax.tree.map(lambda leaf: jnp.stack([leaf] * self.settings.policies), self.controller.init())
            return SearchState(own, self.optimizer.init(ravel_pytree(params)[0]), policies, jnp.zeros((), jnp.int32))

        return jax.jit(state, out_shardings=self._everywhere)(params)  # one program: apart they are a hundred

    @property
    def _everywhere(self) -> jax.sharding.NamedSharding:
        return jax.sharding.NamedSharding(self.mesh, jax.P())

    def place(self, arrays: Any) -> Any:
        """A state or arrays on every device of the mesh, where steps leave them: one compilation serves all calls.

        Every process gives the same arrays.
        """
        if jax.process_count() == 1:
            return jax.device_put(arrays, self._everywhere)
        return jax.tree.map(self._from_host, arrays)

    def _from_host(self, leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, self._everywhere, lambda index: host[index])

    def root(self, seed: int) -> jax.Array:
        """The key that all randomness of the steps comes from."""
        return jax.jit(jax.random.key, static_argnums=0, out_shardings=self._everywhere)(seed)

    def share_out(self, arrays: Any) -> Any:
        """Arrays with a leading axis of this process's replicas (`own`), each on the device that runs it."""
        shared = jax.sharding.NamedSharding(self.mesh, jax.P(_AXIS))
        if jax.process_count() == 1:
            return jax.device_put(arrays, shared)
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(shared, leaf), arrays)

    def logits(self, params: Arrays, images: jax.Array, vector: jax.Array) -> jax.Array:
        """[b, classes] of the architecture `vector` [decisions] on uint8 images, with batch statistics."""
        return self._apply(params, losses.normalise(images, self.settings.mean, self.settings.std), vector)

    def _apply(self, params: Arrays, x: jax.Array, vector: jax.Array) -> jax.Array:
        graph, stats = self._graph
        return nnx.merge(graph, params, stats)(x, vector, mode="batch")

    @functools.cached_property
    def _decayed(self) -> np.ndarray:
        """[parameters] bool, which of the flat parameters are kernels, not scales and biases."""
        shapes = split(nnx.eval_shape(lambda: self._build(0)))[1]
        return np.concatenate([np.full(leaf.size, leaf.ndim > 1) for leaf in jax.tree.leaves(shapes)])

    def step(self, state: SearchState, batch: Batch, root: jax.Array) -> tuple[SearchState, dict[str, jax.Array]]:
        """One step; all randomness comes from fold_in(root, step), and the state that goes in is given up (donated).

        Order as in TuNAS: every replica samples one architecture; their gradients on the training batch are averaged
        for one weight update; the same architectures are scored on held-out images with the new weights; the baseline
        and the policy follow. In three compiled programs, none of which waits for the host: so what scores a step also
        scores the found architecture.

        Returns:
          The new state, and scalars to log.
        """
        trained = self.trainer(state, batch, root)
        state = trained.state
        quality = self.scorer(state.params, batch.validation_images, batch.validation_labels, trained.vectors)
        new_policy, step, metrics = self.learner(state.policy, state.step, trained.sampled, quality)
        return state._replace(policy=new_policy, step=step), trained.metrics | metrics

    @functools.cached_property
    def trainer(self) -> Callable[[SearchState, Batch, jax.Array], Trained]:
        """`train`, compiled; the state that goes in is given up (donated)."""
        return jax.jit(self.train, donate_argnums=0)

    @functools.cached_property
    def scorer(self) -> Callable[..., jax.Array]:
        """`score`, compiled; `place` its vectors."""
        return jax.jit(self.score)

    @functools.cached_property
    def learner(self) -> Callable[..., tuple[policy.PolicyState, jax.Array, dict[str, jax.Array]]]:
        """`learn`, compiled."""
        return jax.jit(self.learn)

    def train(self, state: SearchState, batch: Batch, root: jax.Array) -> Trained:
        """The first part of a step: sample architectures, and one update of the weights by their mean gradient.

        Args:
          state: before the step.
          batch: of the step; its held-out half is not read.
          root: key of the search.
        """
        s = self.settings
        sample_key, warm_key, flip_key = jax.random.split(jax.random.fold_in(root, state.step), 3)
        sampled = self._sample(state.policy, sample_key)
        p = warmup.probability(state.step, s.steps, s.warmup)
        # everywhere, as `place` leaves vectors: else `score` is compiled once for steps and once for results
        vectors = jax.lax.with_sharding_constraint(warmup.warm(self.space, sampled, warm_key, p), self._everywhere)
        keys = jax.random.split(flip_key, s.replicas)
        slots = (batch.images, batch.targets, vectors, keys)
        gradient, loss = self._over_devices(self._gradient)(state.params, slots)
        flat, as_tree = ravel_pytree(state.params)  # one vector: a few loops, not a few for each of a hundred arrays
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, flat)
        params = as_tree(flat + cast(jax.Array, updates))
        metrics = {"loss": loss.mean(), "gradient_norm": jnp.linalg.norm(gradient), "warmup": p}
        return Trained(state._replace(params=params, optimizer=optimizer), sampled, vectors, metrics)

    def _sample(self, state: policy.PolicyState, key: jax.Array) -> jax.Array:
        """[r, decisions] int32: each policy samples for its share of the replicas, one after the other."""
        count = self.settings.policies

        def sample(one: policy.PolicyState, key: jax.Array) -> jax.Array:
            return self.controller.sample(one, key, self.settings.replicas // count)

        return jax.vmap(sample)(state, jax.random.split(key, count)).reshape(self.settings.replicas, -1)

    def score(self, params: Arrays, images: jax.Array, labels: jax.Array, vectors: jax.Array) -> jax.Array:
        """The second part: [r] accuracy of each architecture on its images.

        Args:
          params: of the supernet.
          images: [r, v, h, w, c] uint8.
          labels: [r, v].
          vectors: [r, decisions].
        """
        return self._over_devices(self._score)(params, (images, labels, vectors))

    def learn(
        self, state: policy.PolicyState, step: jax.Array, vectors: jax.Array, quality: jax.Array
    ) -> tuple[policy.PolicyState, jax.Array, dict[str, jax.Array]]:
        """The third part: rewards from the accuracies, and the update of the policy.

        Args:
          state: of the policy.
          step: [] int32, number of the step.
          vectors: [r, decisions] int32, as the policy sampled them.
          quality: [r] held-out accuracy, 0..1.

        Returns:
          The new policy, the number of the next step, and scalars to log.
        """
        s, c = self.settings, self.costs
        sums = cost_model.gather(jnp.asarray(c.table, jnp.float32), c.offsets, c.strides, vectors)
        cost = self._by_policy(c.totals(sums))  # [p, r / p, targets]
        targets, exponent = jnp.asarray(self.targets, jnp.float32), jnp.asarray(s.exponent, jnp.float32)
        if s.policies > 1:  # each has one target
            own = np.arange(s.policies)
            cost, targets = cost[own, :, own][..., None], targets[:, None, None]
            exponent = jnp.broadcast_to(exponent, s.policies)[:, None, None]
        quality, vectors = self._by_policy(quality), self._by_policy(vectors)
        reward = s.reward(quality, cost / targets, exponent)  # [p, r / p]
        rate = policy.learning_rate(step, s.steps, delay=s.delay, first=s.policy_learning_rate)
        new, report = jax.vmap(self.controller.update, (0, 0, 0, None))(state, vectors, reward, rate)
        entropy = jax.vmap(self.controller.entropy)(state.logits).mean(-1)  # [p]
        metrics = {
            "quality": quality.mean(),
            "reward": reward.mean(),
            "baseline": report["baseline"].mean(),
            "advantage": jnp.abs(report["advantage"]).mean(),
            "entropy": entropy.mean(),
            "log_probability": jax.vmap(self.controller.log_probability)(state.logits, vectors).mean(),
            "policy_learning_rate": rate,
        }
        means = cost.mean((1, 2)) if s.policies > 1 else cost.mean((0, 1))
        for place, device in enumerate(c.devices):
            metrics[f"cost/{device.name}"] = means[place]
            if s.policies > 1:
                metrics[f"reward/{device.name}"] = reward[place].mean()
                metrics[f"quality/{device.name}"] = quality[place].mean()
                metrics[f"entropy/{device.name}"] = entropy[place]
        return new, step + 1, metrics

    def _by_policy(self, values: jax.Array) -> jax.Array:
        """[r, ...] -> [p, r / p, ...]."""
        return values.reshape(self.settings.policies, -1, *values.shape[1:])

    def _gradient(self, params: Arrays, slots: Any) -> tuple[jax.Array, jax.Array]:
        """Mean gradient of all replicas as one vector, and the loss of each [r]; runs on one device with its share.

        Args:
          params: of the supernet.
          slots: (images [r, b, h, w, c], targets [r, b, classes], vectors [r, decisions], keys [r]).
        """

        s = self.settings

        def loss_of(params: Arrays, x: jax.Array, targets: jax.Array, vector: jax.Array) -> jax.Array:
            return losses.cross_entropy(self._apply(params, x, vector), targets, s.label_smoothing)

        def gradient(slot: Any) -> tuple[jax.Array, jax.Array]:
            images, targets, vector, key = slot
            images = losses.flip(images, key) if s.flip else images
            x = losses.normalise(images, s.mean, s.std)
            if s.noise:
                x = losses.noisy(x, s.noise / s.std, jax.random.fold_in(key, 1))
            if s.fgsm:
                x = losses.adversarial(lambda x: loss_of(params, x, targets, vector), x, s.fgsm / s.std)
            loss, gradient = jax.value_and_grad(loss_of)(params, x, targets, vector)
            flat = ravel_pytree(gradient)[0]
            if s.l2:  # what an architecture does not use has a gradient of exactly 0
                used = (flat != 0) & self._decayed
                flat += s.l2 * jnp.where(used, ravel_pytree(params)[0], 0)
            return loss, flat

        loss, flat = zip(*map(gradient, _slots(slots)), strict=True)
        # one reduction of both: each makes the devices wait for one another
        replicas = self.settings.replicas
        place = jax.lax.axis_index(_AXIS) * len(loss)
        of_all = jax.lax.dynamic_update_slice(jnp.zeros(replicas), jnp.stack(loss), (place,))
        reduced = jax.lax.psum(jnp.concatenate([sum(flat[1:], start=flat[0]), of_all]), _AXIS)
        return reduced[:-replicas] / replicas, reduced[-replicas:]

    def _score(self, params: Arrays, slots: Any) -> jax.Array:
        """As `score`, on one device with its share of the slots."""

        def score(slot: Any) -> jax.Array:
            images, labels, vector = slot
            return (self.logits(params, images, vector).argmax(-1) == labels).mean()

        return jax.lax.all_gather(jnp.stack([*map(score, _slots(slots))]), _AXIS, tiled=True)

    def _over_devices(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Run `function(params, slots)` on every device with its share of the replicas; what it returns is replicated.

        A device takes its slots one after the other: so an architecture's switches compute one branch only, and on
        CPU a device is a core, which is worth more than two cores sharing each small operation.
        """
        replicated, shared = jax.P(), jax.P(_AXIS)
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=(replicated, shared), out_specs=replicated, check_vma=False
        )


def _slots(slots: Any) -> Iterator[Any]:
    """The slots of a device one after the other, not by `jax.lax.scan`: XLA compiles convolutions in loops badly."""
    for place in range(len(jax.tree.leaves(slots)[0])):
        yield jax.tree.map(lambda leaf, place=place: leaf[place], slots)
