"""Training of a frozen network from scratch, and its evaluation."""

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

from nas.data.dataset import Readable
from nas.data.order import batch_indices
from nas.host.progress import SILENT, Progress
from nas.model.context import LayerConfig
from nas.model.network import Arrays, Network, build_network, split
from nas.run import loop, optimizers
from nas.run.config import TrainConfig
from nas.run.folder import LoopFolder
from nas.run.replicas import AXIS, Replicas, slots
from nas.tasks import inputs
from nas.tasks.classification import Classification
from search_spaces import ArchSpec

_EVALUATED_AT_ONCE = 4096  # images that an evaluation reads at a time


class TrainState(NamedTuple):
    """Everything that training changes; what is resumed together is saved together.

    Attributes:
      params: Weights.
      stats: Running statistics of norms.
      optimizer: State of the optimiser.
      step: [] int32, steps done.
    """

    params: Arrays
    stats: Arrays
    optimizer: Any
    step: jax.Array


class TrainBatch(NamedTuple):
    """Images of one step, with a leading axis of replicas (r); b is the batch of one replica.

    Attributes:
      images: uint8 [r, b, h, w, c].
      targets: float32 [r, b, classes], class probabilities.
    """

    images: Any
    targets: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained network; `nas.training.weights` keeps it in files.

    Attributes:
      spec: The network.
      config: Recipe that it was trained by.
      mean: Mean of images / 255.
      std: Standard deviation of images / 255.
      params: Weights.
      stats: Running statistics of norms.
      predict: From uint8 images [n, h, w, c] to class probabilities float32 [n, classes].
    """

    spec: ArchSpec
    config: TrainConfig
    mean: float
    std: float
    params: Arrays
    stats: Arrays
    predict: Callable[[np.ndarray], np.ndarray]

    def __repr__(self) -> str:
        return f"Trained({self.spec!r}, {self.config.steps} steps)"

    @property
    def network(self) -> Network:
        """The network with its weights: [b, h, w, c] normalised images to logits [b, classes]."""
        graph = split(nnx.eval_shape(lambda: _build(self.spec, self.config, 0)))[0]
        return nnx.merge(graph, self.params, self.stats)

    def accuracy(self, data: Readable) -> float:
        """Top-1 accuracy.

        Args:
          data: A split.

        Returns:
          Accuracy, 0..1.
        """
        correct = 0
        for start in range(0, len(data), _EVALUATED_AT_ONCE):
            index = np.arange(start, min(start + _EVALUATED_AT_ONCE, len(data)))
            examples = data.read(index)
            correct += int((self.predict(examples.images).argmax(-1) == examples.labels).sum())
        return correct / len(data)


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
    """

    spec: ArchSpec
    config: TrainConfig
    mean: float
    std: float
    task: Classification

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
        c = self.config
        return optimizers.build(c.optimizer, c.learning_rate, c.steps, c.warmup)

    @functools.cached_property
    def _graph(self) -> Any:
        return split(nnx.eval_shape(lambda: _build(self.spec, self.config, 0)))[0]

    def init(self, seed: int) -> TrainState:
        """The state before the first step, on every device.

        Args:
          seed: Random seed of the initial weights.
        """

        def state(params: Arrays, stats: Arrays) -> TrainState:
            # A state is donated, so each leaf needs a buffer of its own.
            params, stats = jax.tree.map(jnp.copy, (params, stats))
            return TrainState(params, stats, self.optimizer.init(params), jnp.zeros((), jnp.int32))

        arrays = jax.tree.map(np.asarray, split(_build(self.spec, self.config, seed))[1:])
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
        return TrainState(params, stats, optimizer, state.step + 1), {"loss": loss}

    def _gradient(
        self, params: Arrays, stats: Arrays, images: jax.Array, targets: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, Arrays, Arrays]:
        """(loss, statistics of norms, gradient) of one batch.

        Keys [2]: of flips, of stochastic depth.
        """
        flip_key, drop_key = keys
        images = inputs.flip(images, flip_key) if self.config.flip else images

        def loss_of(params: Arrays) -> tuple[jax.Array, Arrays]:
            network = nnx.merge(self._graph, params, stats)
            logits = network(
                inputs.normalise(images, self.mean, self.std),
                mode="train",
                key=drop_key,
                stochastic_depth=self.config.stochastic_depth,
            )
            return self.task.loss(logits, targets), split(network)[2]

        (loss, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
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


def _build(spec: ArchSpec, config: TrainConfig, seed: int) -> Network:
    layers = LayerConfig(
        config.norm_momentum, config.norm_epsilon, config.init_variance, jnp.dtype(config.precision)
    )
    return build_network(spec, rngs=nnx.Rngs(seed), config=layers)


def train(
    spec: ArchSpec,
    data: Readable | Callable[[int], tuple[np.ndarray, np.ndarray]],
    config: TrainConfig,
    *,
    mean: float,
    std: float,
    seed: int,
    folder: LoopFolder | None = None,
    progress: Progress = SILENT,
    tensorboard: bool = False,
    saved: Callable[[], None] = lambda: None,
) -> Trained:
    """Train a frozen network.

    Args:
      spec: The network.
      data: A split, read in random order; or a function from the step to (images uint8 [b, h, w,
        c], class probabilities [b, classes]).
      config: Recipe.
      mean: Mean of images / 255.
      std: Standard deviation of images / 255.
      seed: Random seed of initial weights, data order and flips.
      folder: Gets checkpoints and metrics, so that an interrupted training is resumed bit for bit;
        None keeps nothing.
      progress: Where progress goes; its total is the number of steps.
      tensorboard: Also write the metrics as TensorBoard event files.
      saved: Called after each checkpoint.

    Returns:
      The trained network, with running statistics in its norms.

    Raises:
      nas.run.loop.NotFinite: The loss is not finite.
      ValueError: The replicas do not divide the batch, or soft labels are asked for and there are
        none.
    """
    if callable(data):
        task = Classification(spec.classes, False, config.label_smoothing)
    else:
        task = Classification.of(data, spec.classes, config.labels, config.label_smoothing)
    training = Training(spec, config, mean, std, task)
    state, _ = loop.run(
        training,
        _batch_reader(training, data, seed),
        progress,
        seed=seed,
        folder=folder,
        checkpoint_every=config.checkpoint_every,
        tensorboard=tensorboard,
        saved=saved,
    )
    predict = predictor(training, state.params, state.stats)
    return Trained(spec, config, mean, std, state.params, state.stats, predict)


def predictor(
    training: Training, params: Arrays, stats: Arrays
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that classifies any number of images, a batch at a time, with running statistics.

    Args:
      training: Functions of the network.
      params: Weights.
      stats: Running statistics of norms.

    Returns:
      From uint8 images [n, h, w, c] to class probabilities float32 [n, classes].
    """
    forward = jax.jit(training.probabilities)
    size = training.config.batch

    def predict(images: np.ndarray) -> np.ndarray:
        chunks = [images[i : i + size] for i in range(0, len(images), size)]
        missing = size - len(chunks[-1])
        # One shape, one compilation.
        chunks[-1] = np.concatenate([chunks[-1], np.repeat(chunks[-1][-1:], missing, 0)])
        outputs = [np.asarray(forward(params, stats, chunk)) for chunk in chunks]
        return np.concatenate(outputs)[: len(images)]

    return predict


def _batch_reader(
    training: Training,
    data: Readable | Callable[[int], tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> Callable[[int], TrainBatch]:
    replicas, batch = training.replicas, training.config.batch
    if batch % replicas.count:
        raise ValueError(
            f"`batch`: {replicas.count} replicas share it evenly, got {batch}; "
            f"use {-(-batch // replicas.count) * replicas.count}"
        )

    def local(values: np.ndarray) -> np.ndarray:
        return values.reshape(replicas.count, -1, *values.shape[1:])[replicas.local]

    def read(step: int) -> TrainBatch:
        if callable(data):
            return TrainBatch(*map(local, data(step)))
        index = batch_indices(data.mixture, batch, step, seed)
        examples = data.read(local(index))
        return TrainBatch(examples.images, training.task.targets(examples))

    return read
