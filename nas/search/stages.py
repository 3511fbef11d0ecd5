"""Running a stage: its search, its batches, its result."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

import search_spaces
from nas.data.order import batch_indices
from nas.policy import controller
from nas.run.log import LiveLine
from nas.search import loop
from nas.search.derive import derive
from nas.search.planning import RECORD, Plan
from nas.search.steps import Batch, Search, StepSettings
from nas.train import optimizers
from nas.train.loop import targets_of, teaches
from rewards import REWARDS
from search_spaces import ArchSpec, yaml_io


def run(plan: Plan, console: Console) -> ArchSpec:
    """Run a stage, or on from where it stopped, and write its `architecture.yaml`.

    Raises:
      KeyboardInterrupt: after saving. nas.search.loop.NotFinite: if the loss is not a number.
    """
    config = plan.config
    yaml_io.write_atomically(plan.folder / RECORD, yaml_io.to_yaml(plan.record, defaults=True))
    search = make_search(plan)
    with LiveLine(plan.stage, search.settings.steps, console) as line:
        state, seconds = loop.run(
            search,
            reader(plan),
            plan.folder,
            line,
            seed=plan.seed,
            checkpoint_every=config.search.checkpoint_every,
        )
    spec = derive(plan, search, state, seconds)
    search_spaces.dump(spec, plan.result)
    return spec


def make_search(plan: Plan) -> Search:
    """The search of a plan, as pure functions."""
    config = plan.config
    steps = getattr(config.search.steps, plan.stage)
    rate, delay = config.policy.learning_rate, config.policy.delay
    images = steps * config.search.replicas * config.search.validation_batch
    settings = StepSettings(
        steps=steps,
        replicas=config.search.replicas,
        warmup=config.policy.warmup,
        delay=delay,
        policy_learning_rate=controller.rescaled(steps, images, delay=delay) if rate == "auto" else rate,
        reward=REWARDS[config.reward.kind],
        exponent=config.reward.exponent,
        label_smoothing=config.data.label_smoothing,
        flip=config.data.flip,
        mean=plan.dataset.mean,
        std=plan.dataset.std,
        precision=config.weights.precision,
    )
    weights = config.weights
    optimizer = optimizers.make(weights.optimizer, weights.learning_rate, steps, weights.warmup)
    return Search(plan.space, settings, optimizer, plan.costs, tuple(target.aim for target in plan.targets))


def reader(plan: Plan) -> Callable[[int], Batch]:
    """What reads the batch of a step."""
    config, data, seed = plan.config, plan.dataset, plan.seed
    r, b, v = config.search.replicas, config.search.batch, config.search.validation_batch
    soft = teaches(data.train, config.data.labels)

    def read(step: int) -> Batch:
        train = data.train.read(batch_indices(data.train.mixture, r * b, step, seed).reshape(r, b))
        held_out = data.validation.read(batch_indices(len(data.validation), r * v, step, seed).reshape(r, v))
        targets = targets_of(train, plan.space.spec.classes, soft)
        return Batch(train.images, targets, held_out.images, held_out.labels)

    return read
