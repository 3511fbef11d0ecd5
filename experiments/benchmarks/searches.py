"""Search steps and the plain training steps beside them, as makers for `side_by_side`. Images are random."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Literal

import numpy as np

import search_spaces
from nas.cli import config_files
from nas.run.config import Precision, RunConfig
from search_spaces import ArchSpec, FineOptions, SearchSpace
from search_spaces.blocks import UIB

Call = Callable[[], object]

_QUICKSTART = config_files.load("quickstart", RunConfig)


@dataclasses.dataclass(frozen=True)
class Case:
    """A search, as the quickstart's unless something else is said.

    Attributes:
      stage: coarse: filters, expansions and depth of `small-32`; fine: the depthwise layers of the
        network that takes the middle option of every coarse decision.
      resolution: pixels.
      multipliers: of filters (coarse).
      kernels: of each depthwise layer, 0 = absent (fine).
      copies: how often each block of stride 1 stands there.
      replicas: architectures a step.
      batch: training images of each, and as many held-out ones.
      precision: of activations.
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
        """As JSON, for a side."""
        return dataclasses.asdict(self)

    def space(self) -> SearchSpace:
        """The search space."""
        coarse = self._coarse()
        if self.stage == "coarse":
            return coarse
        middle = search_spaces.freeze(coarse, [decision.options // 2 for decision in coarse.decisions])
        return search_spaces.fine_space(middle, FineOptions(start_dw=self.kernels, middle_dw=self.kernels))

    def _coarse(self) -> SearchSpace:
        base = search_spaces.base(_QUICKSTART.space.base)
        blocks = [b for block in base.blocks for b in [block] * (self.copies if _repeats(block) else 1)]
        base = base.model_copy(update={"resolution": self.resolution, "blocks": tuple(blocks)})
        options = _QUICKSTART.space.coarse.model_copy(update={"multipliers": self.multipliers})
        return search_spaces.coarse_space(base, options)


def _repeats(block: object) -> bool:
    return isinstance(block, UIB) and block.stride == 1


def network(space: SearchSpace, which: Literal["largest", "mean"]) -> ArchSpec:
    """The network of most MACs of a space, or of 200 random ones the one nearest to the mean of their MACs."""
    if which == "largest":
        return search_spaces.freeze(space, _largest(space))
    rng = random.Random(0)
    counts = [decision.options for decision in space.decisions]
    vectors = [tuple(rng.randrange(count) for count in counts) for _ in range(200)]
    macs = [search_spaces.macs(search_spaces.freeze(space, vector)) for vector in vectors]
    mean = sum(macs) / len(macs)
    return search_spaces.freeze(space, vectors[min(range(len(macs)), key=lambda i: abs(macs[i] - mean))])


def _largest(space: SearchSpace) -> list[int]:
    """Decision by decision the option of most MACs: exact, because more of one never means less of another."""
    vector = [0] * len(space.decisions)

    def macs(place: int, option: int) -> int:
        return search_spaces.macs(search_spaces.freeze(space, [*vector[:place], option, *vector[place + 1 :]]))

    for _ in range(2):  # the second time with all blocks there: a decision of an absent block changes nothing
        for place, decision in enumerate(space.decisions):
            vector[place] = max(range(decision.options), key=lambda option, place=place: macs(place, option))
    return vector


def search_step(**arguments: object) -> Call:
    """A step behind warm-up, with a policy that still samples evenly: train, score, learn.

    Args:
      arguments: of `Case`.
    """
    case = Case(**arguments)  # pyright: ignore[reportArgumentType]
    from nas.run import backend

    backend.prepare(case.replicas)
    import jax
    import jax.numpy as jnp

    import latency_tables
    from nas.search.steps import Batch, Search, StepSettings
    from nas.train import optimizers
    from rewards import REWARDS

    space, steps = case.space(), 100_000
    costs = latency_tables.CostModel.build(space, [latency_tables.device("pixel6-cpu")])
    settings = StepSettings(
        steps=steps,
        replicas=case.replicas,
        warmup=0.25,
        delay=0.25,
        policy_learning_rate=1e-6,
        reward=REWARDS["absolute"],
        exponent=-0.1,
        label_smoothing=0.0,
        flip=True,
        mean=0.5,
        std=0.25,
        precision=case.precision,
    )
    optimizer = optimizers.make("sgd", 0.01, steps, 0.05)
    search = Search(space, settings, optimizer, costs, (sum(costs.range()) / 2,))
    rng = np.random.default_rng(0)
    slots, classes = (case.replicas, case.batch), space.spec.classes
    shape = (*slots, case.resolution, case.resolution, space.spec.input_channels)
    labels = rng.integers(0, classes, (2, *slots), np.int32)
    images = rng.integers(0, 256, (2, *shape), np.uint8)
    batch = Batch(images[0], np.eye(classes, dtype=np.float32)[labels[0]], images[1], labels[1])
    root = jax.random.key(0)
    state = [search.place(search.init(0)._replace(step=jnp.asarray(steps // 2, jnp.int32)))]

    def call() -> None:
        state[0], metrics = search.step(state[0], batch, root)
        jax.block_until_ready(metrics)

    return call


def plain_step(which: Literal["largest", "mean"], **arguments: object) -> Call:
    """A training step of one network of the same space, on as many images as the search step trains on.

    Args:
      which: see `network`.
      arguments: of `Case`.
    """
    from experiments.benchmarks import ours

    case = Case(**arguments)  # pyright: ignore[reportArgumentType]
    return ours.plain_step(network(case.space(), which), case.replicas * case.batch, precision=case.precision)
