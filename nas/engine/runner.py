"""Running a stage: its search, its batches, its results."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.experimental import multihost_utils

import search_spaces
from nas.data.order import batch_indices
from nas.engine import planning
from nas.engine.derive import derive
from nas.engine.finalists import SuccessiveHalving
from nas.engine.planning import Plan
from nas.engine.policy_log import PolicyLog
from nas.engine.state import Batch, SearchState, StepConfig
from nas.engine.step import Search
from nas.host import backend, remote
from nas.host.progress import SILENT, Progress
from nas.model.network import Arrays, build_network, inherit, split
from nas.run import loop, optimizers
from nas.run.checkpoint import load_latest
from nas.run.config import DeriveConfig, RunConfig
from nas.run.folder import SUPERNET_STEP, StageFolder
from nas.searchers import reinforce
from search_spaces import ArchSpec, files, yaml_io


def run(
    plan: Plan,
    progress: Progress = SILENT,
    *,
    tensorboard: bool = False,
    saved: Callable[[], None] = lambda: None,
) -> None:
    """Run a stage, from the start or from its newest checkpoint, and write its architectures.

    Args:
      plan: Plan of the stage.
      progress: Where progress goes; its total is the plan's steps.
      tensorboard: Also write the metrics as TensorBoard event files.
      saved: Called after each checkpoint.

    Raises:
      KeyboardInterrupt: After a checkpoint was written.
      nas.run.loop.NotFinite: The loss is not finite.
    """
    files.write_atomically(plan.folder.record, yaml_io.to_yaml(plan.record, defaults=True))
    search = build_search(plan)
    first = jax.process_index() == 0
    log = PolicyLog(plan.folder.policy, search.policy, search.steps)
    state, seconds = loop.run(
        search,
        batch_reader(plan, search.replicas.local),
        progress,
        seed=plan.seed,
        folder=plan.folder,
        checkpoint_every=plan.config.search.checkpoint_every,
        callbacks=[log] if first else [],
        tensorboard=tensorboard,
        saved=saved,
    )
    for index, sub_plan in enumerate(plan.sub_plans):
        policy = policy_state(state, index)
        spec = derive(sub_plan, search, state.params, policy, seconds=seconds)
        search_spaces.dump(spec, sub_plan.folder.architecture)


def run_worker(
    stage: str,
    config: RunConfig,
    workdir: remote.Folder,
    processes: int,
    tensorboard: bool,
    progress: Progress,
) -> None:
    """Run a stage in one of several processes that compute together.

    See `nas.host.cluster.run_distributed`.

    Args:
      stage: Name of the stage.
      config: Configuration of the search.
      workdir: Folder of the search, by path or URL.
      processes: Number of processes.
      tensorboard: Also write the metrics as TensorBoard event files.
      progress: Where progress goes.
    """
    backend.prepare(max(config.search.replicas // processes, 1))
    workdir.pull()  # a copy for each machine; processes of one machine share it
    if processes > 1:
        multihost_utils.sync_global_devices("pulled")  # before the first process writes
    first = jax.process_index() == 0
    saved = workdir.saver(progress.message) if first else lambda: None
    plan = planning.plan(stage, config, workdir.path)
    run(plan, progress, tensorboard=tensorboard, saved=saved)
    if first:
        workdir.push()


def rederive(
    stage: str,
    workdir: pathlib.Path,
    folder: pathlib.Path,
    settings: DeriveConfig,
    targets: tuple[str, ...] = (),
    *,
    finalists: SuccessiveHalving | None = None,
    progress: Progress = SILENT,
) -> ArchSpec:
    """Derive another architecture from the supernet of a finished stage, and write it.

    Args:
      stage: Name of the stage.
      workdir: Folder of the search.
      folder: Gets the architecture and the evaluated candidates.
      settings: How it is derived.
      targets: Targets; none: those of the run.
      finalists: Trains the best candidates one by one; None: the supernet's rewards decide.
      progress: Where progress goes.

    Returns:
      The architecture.

    Raises:
      ValueError: No such stage, or targets that the space or the policy cannot serve.
    """
    plan = planning.reopen(stage, workdir)
    search = build_search(plan)
    state, step = latest_state(plan, search, progress.message)
    index, wanted = plan_for(plan, targets, settings.by == "policy")
    wanted = dataclasses.replace(
        wanted,
        folder=StageFolder(folder),
        config=wanted.config.model_copy(update={"derive": settings}),
        objective=wanted.objective.with_tolerance(settings.tolerance),
    )
    policy = policy_state(state, index)
    spec = derive(wanted, search, state.params, policy, finalists=finalists, progress=progress)
    if step < search.steps and spec.found:  # the warning stays in the result
        metrics = {**spec.found.metrics, SUPERNET_STEP: float(step)}
        spec = spec.model_copy(update={"found": spec.found.model_copy(update={"metrics": metrics})})
    search_spaces.dump(spec, wanted.folder.architecture)
    return spec


def inherited(stage: str, workdir: pathlib.Path, spec: ArchSpec) -> tuple[Arrays, Arrays]:
    """The weights that a found network has inside its supernet.

    Args:
      stage: Name of the finished stage that trained the supernet.
      workdir: Folder of the search.
      spec: Network with its provenance.

    Returns:
      Weights, and no statistics of norms: a supernet has none.

    Raises:
      ValueError: No such stage, or the network was not found in its space.
    """
    plan = planning.reopen(stage, workdir)
    if spec.found is None or spec.found.space != plan.record.space:
        raise ValueError(
            f"`init` supernet: {spec.name} was not found in the space of {plan.folder}"
        )
    search = build_search(plan)
    supernet = jax.device_get(latest_state(plan, search)[0].params)
    vector = plan.space.vector(spec.found.decisions)
    shapes = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))[1]
    return inherit(supernet, plan.space, vector, shapes), {}


def plan_for(plan: Plan, texts: tuple[str, ...], by_policy: bool) -> tuple[int, Plan]:
    """The plan for some targets, and the index of the policy to use.

    That is the one trained for these targets, or for their device.

    Args:
      plan: Plan of a finished stage.
      texts: Targets; none: those of the run.
      by_policy: The policy is to be asked, so it must have been trained for these targets.

    Raises:
      ValueError: The run has separate targets and none is given, or no policy was trained for them.
    """
    if not texts and len(plan.sub_plans) > 1:
        raise ValueError(f"{plan.folder}: was run with `separate`; say which target by `targets`")
    asked = planning.retargeted(plan, texts) if texts else plan

    def key(some: Plan) -> list[tuple[str, float, float]]:
        return [(t.device.name, t.value, t.effective_value) for t in some.objective.targets]

    for index, sub_plan in enumerate(plan.sub_plans):
        if key(sub_plan) == key(asked):
            return index, sub_plan
    if by_policy:
        known = " or ".join(
            ", ".join(map(str, sub_plan.objective.targets)) for sub_plan in plan.sub_plans
        )
        raise ValueError(
            f"`by` policy: it was trained for {known} only; derive other targets by evolution"
        )
    devices = [sub_plan.objective.targets[0].device.name for sub_plan in plan.sub_plans]
    first = asked.objective.targets[0].device.name
    return devices.index(first) if first in devices else 0, asked


def policy_state(state: SearchState, index: int) -> Any:
    """The state of one policy.

    Args:
      state: State of a search.
      index: Number of the policy.
    """
    return jax.tree.map(lambda leaf: leaf[index], state.policy)


def latest_state(
    plan: Plan, search: Search, message: Callable[[str], None] = lambda text: None
) -> tuple[SearchState, int]:
    """The newest intact state that a finished stage has saved; its files are not touched.

    Args:
      plan: Plan of the stage.
      search: Functions of the stage.
      message: Called with a line when the last checkpoint is damaged.

    Returns:
      The state, and its step.

    Raises:
      ValueError: There is none.
    """
    state, step = load_latest(plan.folder.checkpoints, search.init(plan.seed), message)
    return search.replicas.replicate(state), step


def build_search(plan: Plan) -> Search:
    """The functions of a plan's search.

    Args:
      plan: The plan.
    """
    config, weights = plan.config, plan.config.weights
    steps = config.search.steps.of(plan.stage)
    rate, delay = config.policy.learning_rate, config.policy.delay
    policies = len(plan.objective.targets) if config.separate else 1
    if rate == "auto":
        images = steps * config.search.replicas // policies * config.search.validation_batch
        rate = reinforce.initial_rate_for_length(steps, images, delay=delay)
    step_config = StepConfig(
        steps=steps,
        replicas=config.search.replicas,
        batch=config.search.batch,
        warmup=config.policy.warmup,
        delay=delay,
        policy_learning_rate=rate,
        flip=config.data.flip,
        mean=plan.dataset.mean,
        std=plan.dataset.std,
        precision=weights.precision,
        policies=policies,
        l2=weights.l2,
        noise=weights.noise,
        fgsm=weights.fgsm,
    )
    optimizer = optimizers.build(
        weights.optimizer, weights.learning_rate, steps, weights.warmup, weights.clip_norm
    )
    return Search(plan.space, step_config, optimizer, plan.objective, plan.task)


def batch_reader(plan: Plan, local: slice = slice(None)) -> Callable[[int], Batch]:
    """A function that reads the batch of a step.

    Args:
      plan: The plan.
      local: Replicas that are read.

    Returns:
      From the number of a step to its batch.
    """
    data, seed = plan.dataset, plan.seed
    size = plan.config.search
    r, b, v = size.replicas, size.batch, size.validation_batch

    def read(step: int) -> Batch:
        index = batch_indices(data.train.mixture, r * b, step, seed).reshape(r, b)
        train = data.train.read(index[local])
        index = batch_indices(len(data.validation), r * v, step, seed).reshape(r, v)
        held_out = data.validation.read(index[local])
        return Batch(
            train.images,
            plan.task.targets(train),
            held_out.images,
            plan.task.reference(held_out),
        )

    return read
