"""Running a stage: its search, its batches, its result."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

import search_spaces
from nas.data.order import batch_indices
from nas.policy import controller
from nas.run import backend, remote
from nas.run.checkpoint import Checkpoints
from nas.run.config import DeriveConfig, RunConfig, Stage
from nas.run.log import Line
from nas.search import loop, planning
from nas.search.derive import Finals, Show, derive
from nas.search.loop import CHECKPOINTS
from nas.search.planning import RECORD, Plan
from nas.search.steps import Batch, Search, SearchState, StepSettings
from nas.train import optimizers
from nas.train.loop import targets_of, teaches
from rewards import REWARDS
from search_spaces import ArchSpec, yaml_io


def run(plan: Plan, line: Line, *, tensorboard: bool = False, saved: Callable[[], None] = lambda: None) -> None:
    """Run a stage, or on from where it stopped, and write its `architecture.yaml`; of separate targets, one for each.

    Args:
      plan: of the stage.
      line: shows progress; its total is the plan's steps.
      tensorboard: write the metrics for TensorBoard too.
      saved: called after each checkpoint.

    Raises:
      KeyboardInterrupt: after saving. nas.search.loop.NotFinite: if the loss is not a number.
    """
    yaml_io.write_atomically(plan.folder / RECORD, yaml_io.to_yaml(plan.record, defaults=True))
    search = make_search(plan)
    state, seconds = loop.run(
        search,
        reader(plan, search.own),
        plan.folder,
        line,
        seed=plan.seed,
        checkpoint_every=plan.config.search.checkpoint_every,
        tensorboard=tensorboard,
        saved=saved,
    )
    for number, goal in enumerate(plan.goals):
        search_spaces.dump(derive(goal, search, state.params, policy_of(state, number), seconds), goal.result)


def run_one_of_several(
    stage: Stage, config: RunConfig, workdir: remote.Folder, processes: int, tensorboard: bool, line: Line
) -> None:
    """Run a stage in one of several processes that compute together, see `nas.run.cluster.together`."""
    backend.prepare(max(config.search.replicas // processes, 1))
    workdir.pull()  # each machine its own copy; those on one machine have one
    if processes > 1:
        multihost_utils.sync_global_devices("pulled")  # before the first process writes
    first = jax.process_index() == 0
    saved = workdir.saver(line.say) if first else lambda: None
    run(planning.plan(stage, config, workdir.path), line, tensorboard=tensorboard, saved=saved)
    if first:
        workdir.push()


def again(
    stage: Stage,
    workdir: pathlib.Path,
    folder: pathlib.Path,
    settings: DeriveConfig,
    targets: tuple[str, ...],
    finals: Finals | None = None,
    show: Show = lambda judged, text: None,
) -> ArchSpec:
    """Another architecture from the supernet of a finished stage, written into a folder.

    Args:
      stage, workdir: which.
      folder: gets the architecture and the candidates that were judged.
      settings: how it is taken.
      targets: other ones than the run's, or none.
      finals: how the best candidates are trained one by one before one of them wins; without, the supernet says.
      show: see `nas.search.derive`.

    Raises:
      ValueError: no such stage, or targets that the space or the policy cannot serve.
    """
    plan = planning.reopen(stage, workdir)
    search = make_search(plan)
    state = last_state(plan, search)
    number, goal = _goal(plan, targets, settings.by == "policy")
    goal = dataclasses.replace(goal, folder=folder, config=goal.config.model_copy(update={"derive": settings}))
    found = derive(goal, search, state.params, policy_of(state, number), 0.0, finals, show)
    search_spaces.dump(found, goal.result)
    return found


def _goal(plan: Plan, texts: tuple[str, ...], by_policy: bool) -> tuple[int, Plan]:
    """What is to be found for these targets, and the number of the policy that learned for it, or for its device."""
    if not texts and len(plan.goals) > 1:
        raise ValueError(f"{plan.folder}: was run with --separate; say which target by --device")
    asked = planning.retargeted(plan, texts) if texts else plan
    wanted = [(target.device.name, target.value, target.aim) for target in asked.targets]
    for number, goal in enumerate(plan.goals):
        if [(target.device.name, target.value, target.aim) for target in goal.targets] == wanted:
            return number, goal
    if by_policy:
        known = " or ".join(", ".join(target.text for target in goal.targets) for goal in plan.goals)
        raise ValueError(f"--by policy: it knows only the targets that it was trained for ({known}); use evolution")
    devices = [goal.targets[0].device.name for goal in plan.goals]
    first = asked.targets[0].device.name
    return devices.index(first) if first in devices else 0, asked


def policy_of(state: SearchState, number: int) -> controller.PolicyState:
    """One of the policies of a state."""
    return jax.tree.map(lambda leaf: leaf[number], state.policy)


def last_state(plan: Plan, search: Search) -> SearchState:
    """The newest state that a stage has saved.

    Raises:
      ValueError: there is none.
    """
    with Checkpoints(plan.folder / CHECKPOINTS) as checkpoints:
        if checkpoints.latest is None:
            raise ValueError(f"{plan.folder}: has no checkpoint")
        return search.place(checkpoints.load(search.init(plan.seed))[0])


def make_search(plan: Plan) -> Search:
    """The search of a plan, as pure functions."""
    config, weights = plan.config, plan.config.weights
    steps = config.search.steps.of(plan.stage)
    rate, delay = config.policy.learning_rate, config.policy.delay
    policies = len(plan.targets) if config.separate else 1
    images = steps * config.search.replicas // policies * config.search.validation_batch
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
        precision=weights.precision,
        policies=policies,
        l2=weights.l2,
        noise=weights.noise,
        fgsm=weights.fgsm,
    )
    optimizer = optimizers.make(weights.optimizer, weights.learning_rate, steps, weights.warmup, weights.clip_norm)
    return Search(plan.space, settings, optimizer, plan.costs, tuple(target.aim for target in plan.targets))


def reader(plan: Plan, own: slice = slice(None)) -> Callable[[int], Batch]:
    """What reads the batch of a step, for the replicas `own`."""
    config, data, seed = plan.config, plan.dataset, plan.seed
    r, b, v = config.search.replicas, config.search.batch, config.search.validation_batch
    soft = teaches(data.train, config.data.labels)

    def read(step: int) -> Batch:
        train = data.train.read(batch_indices(data.train.mixture, r * b, step, seed).reshape(r, b)[own])
        held_out = data.validation.read(batch_indices(len(data.validation), r * v, step, seed).reshape(r, v)[own])
        targets = targets_of(train, plan.space.spec.classes, soft)
        return Batch(train.images, targets, held_out.images, held_out.labels)

    return read
