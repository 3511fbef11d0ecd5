"""Batches of a training: their images, augmented, and their targets."""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable

import numpy as np
from PIL import Image

from nas.data.augment.crop import random_resized_crop
from nas.data.augment.draws import RandomStream
from nas.data.augment.rand_augment import rand_augment
from nas.data.dataset import Readable
from nas.data.order import batch_indices
from nas.run.train_config import TrainConfig, check_shares
from nas.training.program import TrainBatch, Training

_AUGMENTATION = 1  # keeps its random streams apart from others of the same seed


def reader(
    training: Training,
    data: Readable | Callable[[int], tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> Callable[[int], TrainBatch]:
    """A function that reads the batch of a step.

    Args:
      training: Functions of the training.
      data: A split, or a function from the step to (images uint8 [b, h, w, c], class probabilities
        [b, classes]).
      seed: Random seed of data order and augmentation.

    Returns:
      From the step to the replicas of this process.

    Raises:
      ValueError: The replicas do not divide the batch, or images that cannot be augmented.
    """
    check_shares(training.config)
    replicas, batch = training.replicas, training.config.batch

    def local(values: np.ndarray) -> np.ndarray:
        return values.reshape(replicas.count, -1, *values.shape[1:])[replicas.local]

    augments = bool(training.config.crop or training.config.rand_augment)
    if augments and not callable(data) and data.shape[-1] not in (1, 3):
        raise ValueError(
            f"`recipe`: crop and rand_augment take images of 1 or 3 channels, got {data.shape[-1]}"
        )
    places = local(np.arange(batch))

    def read(step: int) -> TrainBatch:
        if callable(data):
            return TrainBatch(*map(local, data(step)))
        index = batch_indices(data.mixture, batch, step, seed)
        examples = data.read(local(index))
        images = examples.images
        if augments:
            images = augmented(images, training.config, (seed, _AUGMENTATION, step), places)
        return TrainBatch(images, training.task.targets(examples))

    return read


def augmented(
    images: np.ndarray, config: TrainConfig, key: tuple[int, ...], places: np.ndarray
) -> np.ndarray:
    """Augment images, each by a random stream of its own.

    Args:
      images: uint8 [..., h, w, c], c is 1 or 3.
      config: Recipe, of which `crop` and `rand_augment` are used.
      key: Key of the batch.
      places: int [...], place of each image in the batch; makes its key.

    Returns:
      uint8 [..., h, w, c].
    """
    flat = images.reshape(-1, *images.shape[-3:])
    work = functools.partial(_augmented, config=config, key=key)
    # Pillow works outside of Python's lock for most of the time.
    out = list(_threads().map(work, flat, places.ravel().tolist()))
    return np.stack(out).reshape(images.shape)


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="augment")


def _augmented(
    pixels: np.ndarray, place: int, *, config: TrainConfig, key: tuple[int, ...]
) -> np.ndarray:
    draws = RandomStream(*key, place)
    channels = pixels.shape[-1]
    image = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:-1], 3)).astype(np.uint8))
    if config.crop:
        image = random_resized_crop(image, image.width, draws)
    options = config.rand_augment
    if options and draws.uniform() < options.probability:
        image = rand_augment(image, options.layers, options.magnitude, draws)
    return np.asarray(image)[..., :channels]
