"""Training of a frozen network, and the network that comes out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from flax import nnx

from nas.data.dataset import Readable
from nas.host.progress import SILENT, Progress
from nas.model.network import Arrays, Network, split
from nas.run import loop
from nas.run.folder import LoopFolder
from nas.run.train_config import TrainConfig
from nas.tasks.classification import Classification
from nas.training import batches
from nas.training.program import Training, build
from search_spaces import ArchSpec

_EVALUATED_AT_ONCE = 4096  # images that an evaluation reads at a time


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
      seconds: Duration of the training, sessions added up; 0 for a network that was read.
    """

    spec: ArchSpec
    config: TrainConfig
    mean: float
    std: float
    params: Arrays
    stats: Arrays
    predict: Callable[[np.ndarray], np.ndarray]
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"Trained({self.spec!r}, {self.config.steps} steps)"

    @property
    def network(self) -> Network:
        """The network with its weights: [b, h, w, c] normalised images to logits [b, classes]."""
        graph = split(nnx.eval_shape(lambda: build(self.spec, self.config, 0)))[0]
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
    initial: tuple[Arrays, Arrays] | None = None,
    callbacks: Callable[[Training], Sequence[loop.Callback]] = lambda training: (),
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
      initial: Weights and statistics of norms to start from; None: random weights.
      callbacks: Makes what looks at the state every few steps, and may stop the training.

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
        if config.epochs is not None:
            config = config.of_length(len(data))
    training = Training(spec, config, mean, std, task, initial)
    state, seconds = loop.run(
        training,
        batches.reader(training, data, seed),
        progress,
        seed=seed,
        folder=folder,
        checkpoint_every=config.checkpoint_every,
        callbacks=callbacks(training),
        tensorboard=tensorboard,
        saved=saved,
    )
    predict = predictor(training, state.params, state.stats)
    return Trained(spec, config, mean, std, state.params, state.stats, predict, seconds)


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
    forward = training.jitted_probabilities
    size = training.config.batch

    def predict(images: np.ndarray) -> np.ndarray:
        chunks = [images[i : i + size] for i in range(0, len(images), size)]
        missing = size - len(chunks[-1])
        # One shape, one compilation.
        chunks[-1] = np.concatenate([chunks[-1], np.repeat(chunks[-1][-1:], missing, 0)])
        outputs = [np.asarray(forward(params, stats, chunk)) for chunk in chunks]
        return np.concatenate(outputs)[: len(images)]

    return predict
