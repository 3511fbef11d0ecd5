"""What is ours in the benchmarks, as makers for `side_by_side`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import search_spaces
from experiments.benchmarks import operators
from nas.run.config import Precision, TrainConfig
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


def train_step(
    network: str, resolution: int, size: int, precision: Precision = "float32", depthwise: str | None = None
) -> Call:
    """As `plain_step`, of a named network.

    Args:
      network, resolution, size, precision: which network, on how many images of which size.
      depthwise: form of its depthwise convolutions, a function of `nas.model.layers.depthwise`; None for the default.
    """
    from nas.model.layers import conv
    from nas.model.layers import depthwise as forms

    if depthwise:
        conv.depthwise = getattr(forms, depthwise)
    return plain_step(spec_of(network, resolution), size, precision)


def plain_step(spec: ArchSpec, size: int, precision: Precision) -> Call:
    """A step of stand-alone training: flip, normalise, forward, backward, SGD with Nesterov momentum."""
    from nas.run import memory

    memory.keep()
    import jax

    from nas.train.loop import Training

    training = Training(spec, TrainConfig(steps=1000, batch=size, precision=precision), 0.5, 0.25)
    step, root = jax.jit(training.step, donate_argnums=0), jax.random.key(0)
    images, targets = batch(spec, size)
    state = [training.init(0)]

    def call() -> None:
        state[0], loss = step(state[0], images, targets, root)
        loss.block_until_ready()

    return call


def operator(case: int, backward: bool) -> Call:
    """A case of `operators.CASES`, jitted: forward, or forward and the gradients of y * dy."""
    from nas.run import memory

    memory.keep()
    import jax
    from flax import nnx

    from nas.model import context, network
    from nas.model.blocks import module_of
    from nas.model.layers.conv import activate

    chosen = operators.CASES[case]
    build = module_of(chosen.block)
    module = build(chosen.block, chosen.at.channels, settings=context.LayerSettings(), rngs=nnx.Rngs(0))
    graph, params, stats = network.split(module)
    x, dy = (jax.device_put(array) for array in chosen.arrays())

    def forward(params: network.Arrays, x: jax.Array, stats: network.Arrays) -> tuple[jax.Array, network.Arrays]:
        layer = nnx.merge(graph, params, stats)
        y = activate(layer(x, context.Pass(mode="train")), chosen.activation)
        return y, network.split(layer)[2]

    def both(params: network.Arrays, x: jax.Array, stats: network.Arrays, dy: jax.Array) -> object:
        if chosen.input_gradient:
            y, pull, stats = jax.vjp(lambda params, x: forward(params, x, stats), params, x, has_aux=True)
        else:
            y, pull, stats = jax.vjp(lambda params: forward(params, x, stats), params, has_aux=True)
        return y, stats, pull(dy)

    run = jax.jit(both if backward else forward)
    arguments = (params, x, stats, dy) if backward else (params, x, stats)
    return lambda: jax.block_until_ready(run(*arguments))
