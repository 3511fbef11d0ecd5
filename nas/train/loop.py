"""Training of a frozen network from scratch, and its evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from nas.data.dataset import Examples, Readable
from nas.data.order import batch_indices
from nas.model.context import LayerSettings
from nas.model.network import Arrays, Network, build_network, split
from nas.run import backend
from nas.run.config import Labels, TrainConfig
from nas.train import loss as losses
from nas.train import optimizers
from search_spaces import ArchSpec

_AT_ONCE = 4096  # images that an evaluation reads at a time
Progress = Callable[[int, dict[str, float]], None]
"""Called with the step and what to show, about once a second."""


class TrainState(NamedTuple):
    """All that training changes."""

    params: Arrays
    stats: Arrays
    optimizer: Any
    step: jax.Array


class Trained(NamedTuple):
    """A trained network as arrays, with the functions that use it; `nas.train.weights` keeps it in files."""

    spec: ArchSpec
    config: TrainConfig
    mean: float
    std: float
    params: Arrays
    stats: Arrays
    predict: Callable[[np.ndarray], np.ndarray]  # uint8 [n, h, w, c] -> probabilities float32 [n, classes]

    def accuracy(self, data: Readable) -> float:
        """Top-1 accuracy on a split, 0..1."""
        right = 0
        for start in range(0, len(data), _AT_ONCE):
            examples = data.read(np.arange(start, min(start + _AT_ONCE, len(data))))
            right += int((self.predict(examples.images).argmax(-1) == examples.labels).sum())
        return right / len(data)


def teaches(data: Readable, labels: Labels) -> bool:
    """Whether weights learn from a teacher's probabilities: as `labels` says, "auto" where there are any.

    Raises:
      ValueError: if soft labels are asked for and there are none.
    """
    if labels == "soft" and not data.taught:
        raise ValueError("the data set has no teacher probabilities; use hard labels (data.labels: hard)")
    return labels != "hard" and data.taught


def targets_of(examples: Examples, classes: int, soft: bool) -> np.ndarray:
    """[..., classes] float32: the teacher's probabilities, or the labels as one-hot rows (no label: all alike)."""
    if soft:
        assert examples.soft_labels is not None
        return examples.soft_labels
    rows = np.concatenate([np.eye(classes, dtype=np.float32), np.full((1, classes), 1 / classes, np.float32)])
    return rows[examples.labels]


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """The functions of one training: `init` makes a state, `step` advances it, `probabilities` uses it.

    Attributes:
      spec: the network, frozen.
      config: recipe.
      mean, std: normalisation of images / 255.
    """

    spec: ArchSpec
    config: TrainConfig
    mean: float
    std: float

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The recipe's."""
        c = self.config
        return optimizers.make(c.optimizer, c.learning_rate, c.steps, c.warmup)

    @functools.cached_property
    def _graph(self) -> Any:
        return split(nnx.eval_shape(lambda: self._build(0)))[0]

    def _build(self, seed: int) -> Network:
        c = self.config
        settings = LayerSettings(c.norm_momentum, c.norm_epsilon, c.init_variance, jnp.dtype(c.precision))
        return build_network(self.spec, rngs=nnx.Rngs(seed), settings=settings)

    def init(self, seed: int) -> TrainState:
        """The state before the first step."""

        def state(params: Arrays, stats: Arrays) -> TrainState:
            own = jax.tree.map(jnp.copy, (params, stats))  # a state is donated, so each leaf needs a buffer of its own
            return TrainState(own[0], own[1], self.optimizer.init(params), jnp.zeros((), jnp.int32))

        _, params, stats = split(self._build(seed))
        return jax.jit(state)(params, stats)  # one program: apart they are a hundred

    def step(
        self, state: TrainState, images: jax.Array, targets: jax.Array, root: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        """One step, to be jitted; all randomness comes from fold_in(root, step).

        Args:
          state: where training is.
          images: [b, h, w, c] uint8.
          targets: [b, classes] probabilities.
          root: key of the training.

        Returns:
          The new state, and the loss.
        """
        flip_key, drop_key = jax.random.split(jax.random.fold_in(root, state.step))
        images = losses.flip(images, flip_key) if self.config.flip else images

        def loss_of(params: Arrays) -> tuple[jax.Array, Arrays]:
            model = nnx.merge(self._graph, params, state.stats)
            logits = model(
                losses.normalise(images, self.mean, self.std),
                mode="train",
                key=drop_key,
                stochastic_depth=self.config.stochastic_depth,
            )
            return losses.cross_entropy(logits, targets, self.config.label_smoothing), split(model)[2]

        (loss, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt = self.optimizer.update(gradient, state.optimizer, state.params)
        return TrainState(cast(Arrays, optax.apply_updates(state.params, updates)), stats, opt, state.step + 1), loss

    def probabilities(self, params: Arrays, stats: Arrays, images: jax.Array) -> jax.Array:
        """[b, classes] of uint8 images [b, h, w, c], with running statistics; to be jitted."""
        x = losses.normalise(images, self.mean, self.std)
        return jax.nn.softmax(nnx.merge(self._graph, params, stats)(x, mode="running"))


def train(
    spec: ArchSpec,
    data: Readable | Callable[[int], tuple[np.ndarray, np.ndarray]],
    config: TrainConfig,
    *,
    mean: float,
    std: float,
    seed: int,
    progress: Progress | None = None,
) -> Trained:
    """Train a frozen network.

    Args:
      spec: the network.
      data: a split, read in random order; or a function from the step to (images uint8 [b, h, w, c], targets [b,
        classes]).
      config: recipe.
      mean, std: normalisation of images / 255.
      seed: of initial weights, data order and flips.
      progress: see `Progress`.

    Returns:
      The trained network, with running statistics in its norms.

    Raises:
      FloatingPointError: when the loss is not finite, with the steps in which it happened.
    """
    training = Training(spec, config, mean, std)
    state, root = training.init(seed), jax.random.key(seed)
    step = jax.jit(training.step, donate_argnums=0)
    read = data if callable(data) else _reader(data, spec.classes, config, seed)
    shown, begun = time.monotonic(), time.monotonic()
    for number in range(config.steps):
        with backend.compiling() if number == 0 else contextlib.nullcontext():
            state, loss = step(state, *read(number), root)
        if number % 25 == 24 or number == config.steps - 1:
            if not np.isfinite(value := float(loss)):
                raise FloatingPointError(f"the loss is {value} between steps {max(number - 24, 0)} and {number}")
            if progress and (time.monotonic() - shown > 1 or number == config.steps - 1):
                rate = (number + 1) * config.batch / (time.monotonic() - begun)
                progress(number + 1, {"loss": value, "images_per_second": rate})
                shown = time.monotonic()

    predict = predictor(training, state.params, state.stats)
    return Trained(spec, config, mean, std, state.params, state.stats, predict)


def predictor(training: Training, params: Arrays, stats: Arrays) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 [n, h, w, c] -> probabilities float32 [n, classes], with running statistics, a batch at a time."""
    forward, size = jax.jit(training.probabilities), training.config.batch

    def predict(images: np.ndarray) -> np.ndarray:
        chunks = [images[i : i + size] for i in range(0, len(images), size)]
        pad = size - len(chunks[-1])
        chunks[-1] = np.concatenate([chunks[-1], np.repeat(chunks[-1][-1:], pad, 0)])  # one shape, one compilation
        return np.concatenate([np.asarray(forward(params, stats, c)) for c in chunks])[: len(images)]

    return predict


def _reader(
    data: Readable, classes: int, config: TrainConfig, seed: int
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    soft = teaches(data, config.labels)

    def read(step: int) -> tuple[np.ndarray, np.ndarray]:
        examples = data.read(batch_indices(data.mixture, config.batch, step, seed))
        return examples.images, targets_of(examples, classes, soft)

    return read
