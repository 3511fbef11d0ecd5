"""Search steps, and training steps to compare them to, as makers for `side_by_side`.

Images are random.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Literal

import numpy as np

import search_spaces
from nas.run import config_files
from nas.run.config import Precision, RunConfig
from search_spaces import ArchSpec, FineOptions, SearchSpace
from search_spaces.blocks import UIB

Call = Callable[[], object]

_QUICKSTART = config_files.load("quickstart", RunConfig)


@dataclasses.dataclass(frozen=True)
class Case:
    """A search; defaults are those of the quickstart.

    Attributes:
      stage: "coarse" searches filters, expansions and depth of `small-32`. "fine" searches the
        depthwise layers of the network with the middle option of every coarse decision.
      resolution: Height and width of images, pixels.
      multipliers: Multipliers of filters (coarse).
      kernels: Kernel sizes of each depthwise layer, 0 for none (fine).
      copies: Number of copies of each block of stride 1.
      replicas: Number of architectures per step.
      batch: Number of training images per architecture, and of held-out images.
      precision: Type of activations.
    """

    stage: Literal["coarse", "fine"] = "coarse"
    resolution: int = 32
    multipliers: tuple[float, ...] = _QUICKSTART.space.coarse.multipliers
    kernels: tuple[Literal[0, 3, 5], ...] = (0, 3, 5)
    copies: int = 1
    replicas: int = _QUICKSTART.search.replicas
    batch: int = _QUICKSTART.search.batch
    precision: Precision = _QUICKSTART.weights.precision

    @property
    def arguments(self) -> dict[str, object]:
        """Fields for JSON, as arguments of a side."""
        return dataclasses.asdict(self)

    def space(self) -> SearchSpace:
        """Search space of the case."""
        coarse = self._coarse()
        if self.stage == "coarse":
            return coarse
        middle = search_spaces.freeze(
            coarse, [decision.options // 2 for decision in coarse.decisions]
        )
        return search_spaces.fine_space(
            middle, FineOptions(start_dw=self.kernels, middle_dw=self.kernels)
        )

    def _coarse(self) -> SearchSpace:
        base = search_spaces.base(_QUICKSTART.space.base)
        blocks = [
            b for block in base.blocks for b in [block] * (self.copies if _repeats(block) else 1)
        ]
        base = base.with_blocks(blocks, resolution=self.resolution)
        options = _QUICKSTART.space.coarse.model_copy(update={"multipliers": self.multipliers})
        return search_spaces.coarse_space(base, options)


def _repeats(block: object) -> bool:
    return isinstance(block, UIB) and block.stride == 1


def network(space: SearchSpace, which: Literal["largest", "mean"]) -> ArchSpec:
    """Choose a network of a space.

    Args:
      space: Search space.
      which: "largest": the network with the most MACs. "mean": of 200 random networks, the one that
        is nearest to their mean MACs.

    Returns:
      The network.
    """
    if which == "largest":
        return search_spaces.freeze(space, _largest(space))
    rng = random.Random(0)
    counts = [decision.options for decision in space.decisions]
    vectors = [tuple(rng.randrange(count) for count in counts) for _ in range(200)]
    macs = [search_spaces.macs(search_spaces.freeze(space, vector)) for vector in vectors]
    mean = sum(macs) / len(macs)
    return search_spaces.freeze(
        space, vectors[min(range(len(macs)), key=lambda i: abs(macs[i] - mean))]
    )


def _largest(space: SearchSpace) -> list[int]:
    """Decision vector with the most MACs, found decision by decision.

    This is exact, because a larger option of one decision never makes another one's smaller.
    """
    vector = [0] * len(space.decisions)

    def macs(index: int, option: int) -> int:
        return search_spaces.macs(
            search_spaces.freeze(space, [*vector[:index], option, *vector[index + 1 :]])
        )

    # Twice: a decision of an absent block changes nothing, and after the first time all blocks are
    # present.
    for _ in range(2):
        for index, decision in enumerate(space.decisions):
            vector[index] = max(
                range(decision.options), key=lambda option, index=index: macs(index, option)
            )
    return vector


def search_step(**arguments: object) -> Call:
    """Maker of a search step (train, score, learn) after warm-up, with a uniform policy.

    Args:
      **arguments: Fields of `Case`.

    Returns:
      Function that makes one step.
    """
    case = Case(**arguments)  # pyright: ignore[reportArgumentType]
    from nas.host import backend

    backend.prepare(case.replicas)
    import jax
    import jax.numpy as jnp

    import latency_tables
    from nas.engine.objective import Objective
    from nas.engine.state import Batch, StepConfig
    from nas.engine.step import Search
    from nas.run import optimizers
    from nas.tasks.classification import Classification
    from rewards import REWARDS

    space = case.space()
    steps = 100_000
    costs = latency_tables.CostModel.build(space, [latency_tables.device("pixel6-cpu")])
    target = latency_tables.Target(costs.devices[0], sum(costs.range()) / 2)
    objective = Objective(costs, (target,), REWARDS["absolute"], exponent=-0.1, tolerance=0.005)
    config = StepConfig(
        steps=steps,
        replicas=case.replicas,
        batch=case.batch,
        warmup=0.25,
        delay=0.25,
        policy_learning_rate=1e-6,
        flip=True,
        mean=0.5,
        std=0.25,
        precision=case.precision,
    )
    optimizer = optimizers.build("sgd", 0.01, steps, 0.05)
    classes = space.spec.classes
    search = Search(space, config, optimizer, objective, Classification(classes, soft=True))
    rng = np.random.default_rng(0)
    slots = (case.replicas, case.batch)
    shape = (*slots, case.resolution, case.resolution, space.spec.input_channels)
    labels = rng.integers(0, classes, (2, *slots), np.int32)
    images = rng.integers(0, 256, (2, *shape), np.uint8)
    batch = Batch(images[0], np.eye(classes, dtype=np.float32)[labels[0]], images[1], labels[1])
    root = jax.random.key(0)
    middle = search.init(0)._replace(step=jnp.asarray(steps // 2, jnp.int32))
    state = [search.replicas.replicate(middle)]

    def call() -> None:
        state[0], metrics = search.step(state[0], batch, root)
        jax.block_until_ready(metrics)

    return call


def plain_step(which: Literal["largest", "mean"], **arguments: object) -> Call:
    """Maker of a training step of one network of the space, on as many images as the search step.

    Args:
      which: See `network`.
      **arguments: Fields of `Case`.

    Returns:
      Function that makes one step.
    """
    from experiments.benchmarks import ours

    case = Case(**arguments)  # pyright: ignore[reportArgumentType]
    return ours.plain_step(
        network(case.space(), which), case.replicas * case.batch, precision=case.precision
    )
