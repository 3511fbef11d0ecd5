"""What is ours in the benchmarks, as makers for `side_by_side`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import search_spaces
from nas.run.config import TrainConfig
from search_spaces import ArchSpec

Call = Callable[[], object]


def spec_of(name: str, resolution: int) -> ArchSpec:
    """A network of the zoo or a base, for images of another size."""
    return search_spaces.base(name).model_copy(update={"resolution": resolution})


def batch(spec: ArchSpec, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [b, h, w, c], targets [b, classes]) at random."""
    rng = np.random.default_rng(0)
    shape = (size, spec.resolution, spec.resolution, spec.input_channels)
    return rng.integers(0, 256, shape).astype(np.uint8), np.eye(spec.classes, dtype=np.float32)[
        rng.integers(0, spec.classes, size)
    ]


def train_step(network: str, resolution: int, size: int, stock: bool = False) -> Call:
    """A step of stand-alone training: flip, normalise, forward, backward, SGD with Nesterov momentum.

    Args:
      network, resolution, size: which network, on how many images of which size.
      stock: with XLA's own depthwise convolution instead of ours.
    """
    from nas.run import backend

    backend.keep_memory()
    import jax

    from nas.model.layers import conv, depthwise
    from nas.train.loop import Training

    if stock:
        conv.depthwise = depthwise.plain
    spec = spec_of(network, resolution)
    training = Training(spec, TrainConfig(steps=1000, batch=size), 0.5, 0.25)
    step, root = jax.jit(training.step, donate_argnums=0), jax.random.key(0)
    images, targets = batch(spec, size)
    state = [training.init(0)]

    def call() -> None:
        state[0], loss = step(state[0], images, targets, root)
        loss.block_until_ready()

    return call
