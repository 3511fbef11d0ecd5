"""The stages of a search: which space, from where, and what comes out."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import pathlib
import platform
from typing import Any

import numpy as np
from rich.console import Console

import latency_tables
import search_spaces
from nas.data import sources
from nas.data.dataset import Dataset, Readable
from nas.data.order import batch_indices
from nas.model.layers import native
from nas.policy import controller, repair
from nas.run.config import STAGES, RunConfig, Stage, config_hash
from nas.run.log import LiveLine
from nas.run.targets import parse_targets
from nas.search import loop
from nas.search.steps import Batch, Search, SearchState, StepSettings
from nas.train import optimizers
from nas.train.loop import targets_of, teaches
from rewards import REWARDS
from search_spaces import ArchSpec, Found, FoundCost, SearchSpace, yaml_io
from search_spaces.choice import Frozen

RESULT = "architecture.yaml"


class RunRecord(Frozen):
    """What a stage's `config.yaml` says: the resolved configuration, and what else decides its result."""

    config: RunConfig
    config_hash: str
    dataset_hash: str
    space: str
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A stage ready to run: everything is loaded and checked, nothing is written."""

    stage: Stage
    config: RunConfig
    folder: pathlib.Path
    space: SearchSpace
    costs: latency_tables.CostModel
    targets: tuple[latency_tables.Target, ...]
    dataset: Dataset[Readable]
    record: RunRecord

    @property
    def result(self) -> pathlib.Path:
        """Where the found architecture goes."""
        return self.folder / RESULT


def plan(stage: Stage, config: RunConfig, workdir: pathlib.Path) -> Plan:
    """Load and check everything that a stage needs.

    Raises:
      ValueError: one line for a user: a bad base, device, target, data set, or a folder that holds another run.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir {workdir}: is a file; choose a folder")
    space = _space(stage, config, workdir)
    targets = tuple(target for text in config.targets for target in parse_targets(text))
    names = [target.device.name for target in targets]
    if len(set(names)) < len(names):
        raise ValueError(f"targets {', '.join(config.targets)}: one target for each device; leave the others out")
    costs = latency_tables.CostModel.build(space, [target.device for target in targets])
    _check_feasible(space, costs, targets)
    dataset = sources.load(config.data.source, space.spec.resolution)
    if len(dataset.class_names) != space.spec.classes:
        raise ValueError(
            f"base {config.space.base!r} has {space.spec.classes} classes, but {config.data.source} has "
            f"{len(dataset.class_names)}; change `classes` of the base's classifier"
        )
    size = dataset.train.shape
    wanted = (space.spec.resolution, space.spec.resolution, space.spec.input_channels)
    if size != wanted:
        raise ValueError(f"base {config.space.base!r} takes images of {wanted}, but {config.data.source} has {size}")
    teaches(dataset.train, config.data.labels)
    record = RunRecord(
        config=config,
        config_hash=config_hash(config),
        dataset_hash=dataset.fingerprint,
        space=config_hash(space.spec),
        versions=_versions(),
    )
    folder = workdir / stage
    _check_same_run(folder, record)
    return Plan(stage, config, folder, space, costs, targets, dataset, record)


def run(plan: Plan, console: Console) -> ArchSpec:
    """Run a stage, or on from where it stopped, and write its `architecture.yaml`.

    Raises:
      KeyboardInterrupt: after saving. nas.search.loop.NotFinite: if the loss is not a number.
    """
    config = plan.config
    yaml_io.write_atomically(plan.folder / "config.yaml", yaml_io.to_yaml(plan.record, defaults=True))
    search = make_search(plan)
    with LiveLine(plan.stage, search.settings.steps, console) as line:
        state, seconds = loop.run(
            search,
            _reader(plan),
            plan.folder,
            line,
            seed=_stage_seed(plan),
            checkpoint_every=config.search.checkpoint_every,
        )
    spec = _derive(plan, search, state, seconds)
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


def _space(stage: Stage, config: RunConfig, workdir: pathlib.Path) -> SearchSpace:
    if stage == "coarse":
        return search_spaces.coarse_space(search_spaces.base(config.space.base), config.space.coarse)
    before = STAGES[STAGES.index(stage) - 1]
    result = workdir / before / RESULT
    if not result.exists():
        raise ValueError(
            f"{result}: the {stage} stage starts from the {before} result, which is not there; "
            f"run `nas-search --stage {before} --workdir {workdir}` first"
        )
    base = search_spaces.load(result)
    if stage == "fine":
        return search_spaces.fine_space(base, config.space.fine)
    return search_spaces.hybrid_space(base, config.space.hybrid)


def _check_feasible(
    space: SearchSpace, costs: latency_tables.CostModel, targets: tuple[latency_tables.Target, ...]
) -> None:
    for place, target in enumerate(targets):
        low, high = costs.range(place)
        if not low <= target.aim <= high:
            unit = target.device.unit
            raise ValueError(
                f"target {target.text}: no architecture of {space.name} reaches it; "
                f"the cheapest costs {low:.4g} {unit}, the dearest {high:.4g} {unit}"
            )


def _check_same_run(folder: pathlib.Path, record: RunRecord) -> None:
    """A folder belongs to one configuration: refuse another one with the differences."""
    path = folder / "config.yaml"
    if not path.exists():
        return
    old, new = (_lines(r) for r in (yaml_io.load_model(path, RunRecord), record))
    if old != new:
        changes = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
        shown = "; ".join(" ".join(line.split()) for line in changes[:6]) + (" ..." if len(changes) > 6 else "")
        raise ValueError(f"{folder} holds a run with another configuration ({shown}); choose another --workdir")


def _lines(record: RunRecord) -> list[str]:
    """What must not change between a run and its continuation: all but the versions."""
    return yaml_io.to_yaml(record.model_copy(update={"versions": {}}), defaults=True).splitlines()


def _stage_seed(plan: Plan) -> int:
    return plan.config.seed * len(STAGES) + STAGES.index(plan.stage)


def _reader(plan: Plan) -> Any:
    config, data, seed = plan.config, plan.dataset, _stage_seed(plan)
    r, b, v = config.search.replicas, config.search.batch, config.search.validation_batch
    soft = teaches(data.train, config.data.labels)

    def read(step: int) -> Batch:
        train = data.train.read(batch_indices(data.train.mixture, r * b, step, seed).reshape(r, b))
        held_out = data.validation.read(batch_indices(len(data.validation), r * v, step, seed).reshape(r, v))
        targets = targets_of(train, plan.space.spec.classes, soft)
        return Batch(train.images, targets, held_out.images, held_out.labels)

    return read


def _derive(plan: Plan, search: Search, state: SearchState, seconds: float) -> ArchSpec:
    """The found architecture: the policy's most likely one, repaired to the target, chosen by held-out reward."""
    settings, config = plan.config.derive, plan.config
    best = search.controller.best(state.policy)
    probabilities = np.asarray(search.controller.probabilities(state.policy.logits))
    values = tuple(target.aim for target in plan.targets)
    pool = repair.candidates(
        plan.costs,
        values,
        np.log(np.maximum(probabilities, 1e-30)),
        best,
        miss=REWARDS[config.reward.kind].miss,
        tolerance=settings.tolerance,
        survivors=settings.survivors,
    )
    quality, images = _score(plan, search, state, pool)
    ratios = plan.costs(pool) / np.array(values)
    rewards = REWARDS[config.reward.kind](quality, ratios, config.reward.exponent)
    winner = int(np.argmax(rewards))
    vector = plan.space.canonical(pool[winner].tolist())
    spec = search_spaces.freeze(plan.space, vector, name=f"{plan.config.name}-{plan.stage}")
    argmax_cost = plan.costs(np.array(best))
    found = Found(
        stage=plan.stage,
        space=plan.record.space,
        seed=config.seed,
        config_hash=plan.record.config_hash,
        dataset_hash=plan.record.dataset_hash,
        quality={
            "supernet_validation_accuracy": round(float(quality[winner]), 4),
            "reward": round(float(rewards[winner]), 4),
            "images": float(images),
            "candidates": float(len(pool)),
        },
        cost={
            target.device.name: FoundCost(
                value=float(f"{cost:.6g}"),
                target=target.value,
                unit=target.device.unit,
                most_likely=float(f"{before:.6g}"),
            )
            for target, cost, before in zip(plan.targets, plan.costs(pool[winner]), argmax_cost, strict=True)
        },
        decisions=plan.space.mapping(vector),
        versions=plan.record.versions,
        seconds=round(seconds, 1),
    )
    return spec.model_copy(update={"found": found})


def _score(plan: Plan, search: Search, state: SearchState, pool: np.ndarray) -> tuple[np.ndarray, int]:
    """[n] held-out accuracy of each candidate, all on the same images, and how many images these are."""
    data = plan.dataset.validation
    size = min(plan.config.search.validation_batch, len(data))
    count = max(min(plan.config.derive.images, len(data)) // size, 1)
    at_once = search.settings.replicas
    groups = np.resize(pool, (-(-len(pool) // at_once), at_once, pool.shape[1]))  # the last is filled up with the first
    out = np.zeros(groups.shape[:2])
    for number in range(count):
        index = batch_indices(len(data), size, number, _stage_seed(plan))
        examples = data.read(index)
        images, labels = (
            search.share_out(np.broadcast_to(values, (at_once, *values.shape)))
            for values in (examples.images, examples.labels)
        )
        out += np.array([search.scorer(state.params, images, labels, search.place(group)) for group in groups]) / count
    return out.reshape(-1)[: len(pool)], count * size


def _versions() -> dict[str, str]:
    names = ("mnv4-nas", "jax", "flax", "optax", "numpy")
    found = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
    return {**found, "depthwise": "C++" if native.available() else "JAX"}
