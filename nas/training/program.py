"""The program of a stand-alone training: its state, and the pure functions that advance it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

from nas.model.context import LayerConfig
from nas.model.network import Arrays, Network, build_network, split
from nas.run import optimizers
from nas.run.replicas import AXIS, Replicas, slots
from nas.run.train_config import TrainConfig
from nas.tasks import inputs
from nas.tasks.classification import Classification
from nas.training import mixing
from search_spaces import ArchSpec
from search_spaces.blocks import Classifier


class TrainState(NamedTuple):
    """Everything that training changes; what is resumed together is saved together.

    Attributes:
      params: Weights.
      stats: Running statistics of norms.
      optimizer: State of the optimiser.
      step: [] int32, steps done.
      average: Moving average of the weights as one vector, [parameters] float32, or with the
        statistics, [parameters + statistics]; an empty tuple without one.
    """

    params: Arrays
    stats: Arrays
    optimizer: Any
    step: jax.Array
    average: Any = ()


class TrainBatch(NamedTuple):
    """Images of one step, with a leading axis of replicas (r); b is the batch of one replica.

    Attributes:
      images: uint8 [r, b, h, w, c].
      targets: float32 [r, b, classes], class probabilities.
    """

    images: Any
    targets: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """The functions of one training, a `nas.run.loop.Program`.

    `init` makes a state, `step` advances it.

    Attributes:
      spec: The network, frozen.
      config: Recipe.
      mean: Mean of images / 255.
      std: Standard deviation of images / 255.
      task: What the network is trained for.
      initial: Weights and statistics of norms to start from; None: random weights.
    """

    spec: ArchSpec
    config: TrainConfig
    mean: float
    std: float
    task: Classification
    initial: tuple[Arrays, Arrays] | None = None

    @property
    def steps(self) -> int:
        """Length of the training."""
        return self.config.steps

    @property
    def images_per_step(self) -> int:
        """Images of one step."""
        return self.config.batch

    @property
    def replicas(self) -> Replicas:
        """The shares of a batch, and the devices that compute them."""
        return self._replicas

    @functools.cached_property
    def _replicas(self) -> Replicas:
        return Replicas(self.config.replicas)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The recipe's optimiser."""
        c, adamw = self.config, None
        if c.optimizer == "adamw":
            adamw = optimizers.AdamWOptions(
                beta1=c.beta1, beta2=c.beta2, epsilon=c.optimizer_epsilon
            )
            if c.weight_decay is not None:
                adamw = dataclasses.replace(
                    adamw, weight_decay=c.weight_decay, decayed=self._decayed
                )
        return optimizers.build(
            c.optimizer,
            c.learning_rate,
            c.steps,
            c.warmup,
            c.clip_norm,
            final=c.final_learning_rate,
            from_start=c.schedule == "from-start",
            adamw=adamw,
        )

    @functools.cached_property
    def _shapes(self) -> tuple[Any, Arrays, Arrays]:
        return split(nnx.eval_shape(lambda: build(self.spec, self.config, 0)))

    @property
    def _graph(self) -> Any:
        return self._shapes[0]

    @functools.cached_property
    def _decayed(self) -> np.ndarray:
        """[parameters] bool, the flat parameters that decay: all but those of norms.

        Source: the released code excludes its batch norms, and decays biases and layer scales.
        """
        leaves = jax.tree_util.tree_leaves_with_path(self._shapes[1])
        return np.concatenate([np.full(leaf.size, not _of_norm(path)) for path, leaf in leaves])

    def init(self, seed: int) -> TrainState:
        """The state before the first step, on every device.

        Args:
          seed: Random seed of the initial weights.
        """

        def state(params: Arrays, stats: Arrays) -> TrainState:
            # A state is donated, so each leaf needs a buffer of its own.
            params, stats = jax.tree.map(jnp.copy, (params, stats))
            average = self._averaged(params, stats) if self.config.average else ()
            optimizer = self.optimizer.init(params)
            return TrainState(params, stats, optimizer, jnp.zeros((), jnp.int32), average)

        arrays = self.initial or split(build(self.spec, self.config, seed))[1:]
        arrays = jax.tree.map(np.asarray, arrays)
        # One program: separately they are a hundred.
        return jax.jit(state, out_shardings=self.replicas.replicated)(*arrays)

    def step(
        self, state: TrainState, batch: TrainBatch, root_key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step; all randomness comes from fold_in(root_key, step).

        Args:
          state: State before the step; donated.
          batch: Batch of the step.
          root_key: Random key of the training.

        Returns:
          The new state, and scalars to log.
        """
        return self._jitted_step(state, batch, root_key)

    @functools.cached_property
    def _jitted_step(self) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
        return jax.jit(self._step, donate_argnums=0)

    def _step(
        self, state: TrainState, batch: TrainBatch, root_key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        keys = jax.random.split(jax.random.fold_in(root_key, state.step))
        if self.replicas.count == 1:
            arrays = (batch.images[0], batch.targets[0], keys)
            loss, stats, gradient = self._gradient(state.params, state.stats, *arrays)
        else:
            each = jax.vmap(lambda key: jax.random.split(key, self.replicas.count), out_axes=1)(
                keys
            )
            mean_over_replicas = self.replicas.over_devices(self._mean_gradient)
            arrays = (batch.images, batch.targets, each)
            loss, stats, gradient = mean_over_replicas((state.params, state.stats), arrays)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        params = cast(Arrays, optax.apply_updates(state.params, updates))
        average = state.average
        if self.config.average:
            begun = state.step >= round(self.config.average.start * self.steps)
            decay = jnp.where(begun, self.config.average.decay, 0.0)
            average = decay * average + (1 - decay) * self._averaged(params, stats)
        return TrainState(params, stats, optimizer, state.step + 1, average), {"loss": loss}

    def _averaged(self, params: Arrays, stats: Arrays) -> jax.Array:
        """What is averaged, as one vector."""
        assert self.config.average
        return ravel_pytree((params, stats) if self.config.average.statistics else params)[0]

    def average(self, state: TrainState) -> tuple[Arrays, Arrays]:
        """The moving average of a state.

        Args:
          state: A state; the recipe has an average.

        Returns:
          Weights, and statistics of norms: averaged too, or the raw ones.
        """
        assert self.config.average
        average: Any = np.asarray(state.average)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self._shapes[1:])
        if self.config.average.statistics:
            return ravel_pytree(zeros)[1](average)
        return ravel_pytree(zeros[0])[1](average), state.stats

    def _gradient(
        self, params: Arrays, stats: Arrays, images: jax.Array, targets: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, Arrays, Arrays]:
        """(loss, statistics of norms, gradient) of one batch.

        Keys [2]: of flips, of stochastic depth.
        """
        flip_key, drop_key = keys
        c = self.config
        images = inputs.flip(images, flip_key) if c.flip and not c.crop else images
        x = inputs.normalise(images, self.mean, self.std)
        if c.mix:
            x, targets = mixing.mixed(x, targets, jax.random.fold_in(flip_key, 1), c.mix)

        def loss_of(params: Arrays) -> tuple[jax.Array, Arrays]:
            network = nnx.merge(self._graph, params, stats)
            logits = network(
                x,
                mode="train",
                key=drop_key,
                stochastic_depth=c.stochastic_depth,
            )
            return self.task.loss(logits, targets), split(network)[2]

        (loss, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
        if c.l2:
            gradient = jax.tree.map(
                lambda g, w: g + c.l2 * w if w.ndim > 1 else g, gradient, params
            )
        return loss, stats, gradient

    def _mean_gradient(
        self, state: tuple[Arrays, Arrays], arrays: Any
    ) -> tuple[jax.Array, Arrays, Arrays]:
        """As `_gradient`, the mean over all replicas; norms see the batch of their own replica."""
        parts = [self._gradient(*state, *slot) for slot in slots(arrays)]
        total = jax.tree.map(lambda *leaves: sum(leaves[1:], start=leaves[0]), *parts)
        return jax.tree.map(lambda leaf: jax.lax.psum(leaf, AXIS) / self.replicas.count, total)

    def summary(self, means: Mapping[str, float]) -> str:
        """See `nas.run.loop.Program`.

        Args:
          means: Mean of each metric.
        """
        return f"loss {means['loss']:.3f}"

    @functools.cached_property
    def jitted_probabilities(self) -> Callable[..., jax.Array]:
        """As `probabilities`, compiled once."""
        return jax.jit(self.probabilities)

    def probabilities(self, params: Arrays, stats: Arrays, images: jax.Array) -> jax.Array:
        """Class probabilities with running statistics; to be jitted.

        Args:
          params: Weights.
          stats: Running statistics of norms.
          images: uint8 [b, h, w, c].

        Returns:
          [b, classes] float32.
        """
        x = inputs.normalise(images, self.mean, self.std)
        return jax.nn.softmax(nnx.merge(self._graph, params, stats)(x, mode="running"))


def build(spec: ArchSpec, config: TrainConfig, seed: int) -> Network:
    """A network with the layers of a recipe, and random weights.

    Args:
      spec: The network.
      config: The recipe.
      seed: Random seed of the initial weights.
    """
    layers = LayerConfig(
        config.norm_momentum, config.norm_epsilon, config.init_variance, jnp.dtype(config.precision)
    )
    return build_network(_with_dropout(spec, config), rngs=nnx.Rngs(seed), config=layers)


def _with_dropout(spec: ArchSpec, config: TrainConfig) -> ArchSpec:
    if config.dropout is None:
        return spec
    *blocks, last = spec.blocks
    assert isinstance(last, Classifier)
    return spec.with_blocks([*blocks, last.model_copy(update={"dropout": config.dropout})])


def _of_norm(path: Any) -> bool:
    """Whether a parameter belongs to a norm: its scale, or the bias beside a scale."""
    names = [str(getattr(key, "key", key)) for key in path]
    return "norm" in "/".join(names[:-1]) or names[-1] == "scale"
