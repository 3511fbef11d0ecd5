"""The project's side of the benchmarks, as makers for `side_by_side`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import search_spaces
from experiments.benchmarks import operators
from nas.run.config import Precision
from nas.run.train_config import TrainConfig
from search_spaces import ArchSpec

Call = Callable[[], object]


def spec_of(name: str, resolution: int) -> ArchSpec:
    """Network of the zoo or a base, for another resolution.

    Args:
      name: Name of the network.
      resolution: Height and width of images, pixels.

    Returns:
      The network.
    """
    return search_spaces.base(name).model_copy(update={"resolution": resolution})


def batch(spec: ArchSpec, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random batch.

    Args:
      spec: The network.
      size: Batch size b.

    Returns:
      Images uint8 [b, h, w, c], and one-hot targets float32 [b, classes].
    """
    rng = np.random.default_rng(0)
    shape = (size, spec.resolution, spec.resolution, spec.input_channels)
    return rng.integers(0, 256, shape).astype(np.uint8), np.eye(spec.classes, dtype=np.float32)[
        rng.integers(0, spec.classes, size)
    ]


def train_step(
    network: str,
    resolution: int,
    size: int,
    precision: Precision = "float32",
    depthwise: str | None = None,
) -> Call:
    """Maker of a training step of a named network, see `plain_step`.

    Args:
      network: Name of the network.
      resolution: Height and width of images, pixels.
      size: Batch size.
      precision: Type of activations.
      depthwise: Form of depthwise convolutions, a function of `nas.model.layers.depthwise`; None
        for the default.

    Returns:
      Function that makes one step.
    """
    from nas.model.layers import conv
    from nas.model.layers import depthwise as forms

    if depthwise:
        conv.depthwise = getattr(forms, depthwise)
    return plain_step(spec_of(network, resolution), size, precision)


def plain_step(spec: ArchSpec, size: int, precision: Precision) -> Call:
    """Maker of a step of stand-alone training.

    The step: flip, normalise, forward, backward, SGD with Nesterov momentum.

    Args:
      spec: The network.
      size: Batch size.
      precision: Type of activations.

    Returns:
      Function that makes one step.
    """
    from nas.host import memory

    memory.retain_freed_memory()
    import jax

    from nas.tasks.classification import Classification
    from nas.training.program import TrainBatch, Training

    config = TrainConfig(steps=1000, batch=size, precision=precision)
    training = Training(spec, config, 0.5, 0.25, Classification(spec.classes, soft=True))
    root = jax.random.key(0)
    # One replica.
    examples = TrainBatch(*(array[None] for array in batch(spec, size)))
    state = [training.init(0)]

    def call() -> None:
        state[0], metrics = training.step(state[0], examples, root)
        metrics["loss"].block_until_ready()

    return call


def operator(case: int, backward: bool) -> Call:
    """Maker of a jitted case of `operators.CASES`: forward, or forward and gradients of y * dy.

    Args:
      case: Index of the case.
      backward: Whether gradients are computed.

    Returns:
      Function that computes the case once.
    """
    from nas.host import memory

    memory.retain_freed_memory()
    import jax
    from flax import nnx

    from nas.model import context, network
    from nas.model.blocks import module_of
    from nas.model.layers.conv import activate

    chosen = operators.CASES[case]
    build = module_of(chosen.block)
    module = build(chosen.block, chosen.at.channels, config=context.LayerConfig(), rngs=nnx.Rngs(0))
    graph, params, stats = network.split(module)
    x, dy = (jax.device_put(array) for array in chosen.arrays())

    def forward(
        params: network.Arrays, x: jax.Array, stats: network.Arrays
    ) -> tuple[jax.Array, network.Arrays]:
        layer = nnx.merge(graph, params, stats)
        y = activate(layer(x, context.BlockContext(mode="train")), chosen.activation)
        return y, network.split(layer)[2]

    def both(params: network.Arrays, x: jax.Array, stats: network.Arrays, dy: jax.Array) -> object:
        if chosen.input_gradient:
            y, pull, stats = jax.vjp(
                lambda params, x: forward(params, x, stats), params, x, has_aux=True
            )
        else:
            y, pull, stats = jax.vjp(lambda params: forward(params, x, stats), params, has_aux=True)
        return y, stats, pull(dy)

    run = jax.jit(both if backward else forward)
    arguments = (params, x, stats, dy) if backward else (params, x, stats)
    return lambda: jax.block_until_ready(run(*arguments))
