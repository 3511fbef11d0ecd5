"""What a stage needs, loaded and checked before anything runs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import pathlib
import platform
import random

import numpy as np

import latency_tables
import search_spaces
from nas.data import sources
from nas.data.dataset import Dataset, Readable
from nas.model.layers import native
from nas.policy import repair
from nas.run.config import STAGES, RunConfig, Stage, config_hash
from nas.run.targets import parse_targets
from nas.train.loop import teaches
from rewards import REWARDS
from search_spaces import SearchSpace, yaml_io
from search_spaces.choice import Frozen

RESULT, RECORD = "architecture.yaml", "config.yaml"
TRAINED_ALONE = "trained_validation_accuracy"  # of a finalist, in its `found.quality`
_STARTS = 8  # random architectures from which the closest one to the targets is looked for


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

    @property
    def seed(self) -> int:
        """Of everything random in this stage."""
        return self.config.seed * len(STAGES) + list(STAGES).index(self.stage)

    @property
    def goals(self) -> tuple[Plan, ...]:
        """A plan for each architecture to be found: itself, or one for each target with a folder of its own."""
        config = self.config
        if not config.separate:
            return (self,)
        exponents = config.reward.exponent
        each = exponents if isinstance(exponents, tuple) else (exponents,) * len(self.targets)
        return tuple(
            dataclasses.replace(
                self,
                config=config.model_copy(
                    update={
                        "targets": (target.text,),
                        "separate": False,
                        "reward": config.reward.model_copy(update={"exponent": exponent}),
                    }
                ),
                folder=self.folder.parent / target.device.name / self.stage,
                costs=latency_tables.CostModel.build(self.space, [target.device]),
                targets=(target,),
            )
            for target, exponent in zip(self.targets, each, strict=True)
        )

    @property
    def finished(self) -> bool:
        """Whether all that is to be found has been found."""
        return all(goal.result.exists() for goal in self.goals)


def plan(stage: Stage, config: RunConfig, workdir: pathlib.Path) -> Plan:
    """Load and check everything that a stage needs.

    Raises:
      ValueError: one line for a user: a bad base, device, target, data set, or a folder that holds another run.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir {workdir}: is a file; choose a folder")
    space = space_of(stage, config, workdir)
    targets, costs = targets_of(config, space)
    dataset = sources.load(config.data.source, space.spec.resolution)
    if len(dataset.class_names) != space.spec.classes:
        raise ValueError(
            f"base {config.space.base!r} has {space.spec.classes} classes, but {config.data.source} has "
            f"{len(dataset.class_names)}; give --set space.classes={len(dataset.class_names)}"
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


def read_record(stage: Stage, workdir: pathlib.Path) -> RunRecord:
    """What a stage that has been run says of itself. Raises ValueError if there is none."""
    if stage not in (there := stages_in(workdir)):
        first = f"nas-search --stage {stage} --workdir {workdir}"
        cure = f"give --stage {' or '.join(there)}" if there else f"run `{first}` first"
        raise ValueError(f"{workdir}: holds no {stage} stage; {cure}")
    return yaml_io.load_model(workdir / stage / RECORD, RunRecord)


def stages_in(workdir: pathlib.Path) -> tuple[Stage, ...]:
    """The stages that have been begun in a folder, each after the one that it starts from."""
    return tuple(stage for stage in STAGES if (workdir / stage / RECORD).exists())


def last_stage(workdir: pathlib.Path) -> Stage:
    """The last of `stages_in`. Raises ValueError if there is none."""
    there = stages_in(workdir)
    if not there:
        raise ValueError(f"{workdir}: holds no stage of a search; run `nas-search --workdir {workdir}` first")
    return there[-1]


def reopen(stage: Stage, workdir: pathlib.Path) -> Plan:
    """The plan of a finished stage, as its record says.

    Raises:
      ValueError: there is none, it is not finished, or what it was made from has changed.
    """
    old = plan(stage, read_record(stage, workdir).config, workdir)
    if not old.finished:
        raise ValueError(
            f"{old.folder}: is not finished; go on with the command that it was begun with, "
            f"`nas-search --stage {stage} --workdir {workdir} ...`, or give another --stage"
        )
    return old


def space_of(stage: Stage, config: RunConfig, workdir: pathlib.Path) -> SearchSpace:
    """The space of a stage. Raises ValueError for a bad base, or if the stage before has no result."""
    options, before = config.space, STAGES[stage]
    if before is None:
        base = search_spaces.base(options.base)
        if options.classes is not None:
            base = search_spaces.with_classes(base, options.classes)
        if stage == "coarse":
            return search_spaces.coarse_space(base, options.coarse)
        return search_spaces.one_stage_space(base, options.coarse, options.fine)
    result = workdir / before / RESULT
    if not result.exists():
        raise ValueError(
            f"{result}: the {stage} stage starts from the {before} result, which is not there; "
            f"run `nas-search --stage {before} --workdir {workdir}` first"
        )
    base = search_spaces.load(result)
    if stage == "fine":
        return search_spaces.fine_space(base, options.fine)
    return search_spaces.hybrid_space(base, options.hybrid)


def retargeted(plan: Plan, texts: tuple[str, ...]) -> Plan:
    """The same plan for other targets, one architecture for all of them. Raises ValueError as `plan` does."""
    reward, targets = plan.config.reward, [target for text in texts for target in parse_targets(text)]
    if isinstance(reward.exponent, tuple):  # one for each of the plan's devices
        known = dict(zip((target.device.name for target in plan.targets), reward.exponent, strict=True))
        if strange := [target.device.name for target in targets if target.device.name not in known]:
            raise ValueError(
                f"{plan.folder}: reward.exponent has a number for each of {', '.join(known)}, "
                f"none for {', '.join(strange)}"
            )
        reward = reward.model_copy(update={"exponent": tuple(known[target.device.name] for target in targets)})
    config = plan.config.model_copy(update={"targets": texts, "separate": False, "reward": reward})
    targets, costs = targets_of(config, plan.space)
    return dataclasses.replace(plan, config=config, targets=targets, costs=costs)


def targets_of(
    config: RunConfig, space: SearchSpace
) -> tuple[tuple[latency_tables.Target, ...], latency_tables.CostModel]:
    """The targets of a configuration, and the costs of a space on their devices.

    Raises:
      ValueError: a target out of reach, two that contradict each other, or what does not fit the reward.
    """
    targets = tuple(target for text in config.targets for target in parse_targets(text))
    names = [target.device.name for target in targets]
    if len(set(names)) < len(names):
        raise ValueError(f"targets {', '.join(config.targets)}: one target for each device; leave the others out")
    _check_reward(config, len(targets))
    costs = latency_tables.CostModel.build(space, [target.device for target in targets])
    reward = REWARDS[config.reward.kind]
    _check_feasible(space, costs, targets, limits=reward.limits)
    if not (config.separate or reward.joint or reward.limits):
        _check_agree(space, costs, targets)
    return targets, costs


def _check_reward(config: RunConfig, targets: int) -> None:
    """What the targets, the reward and the replicas ask of each other."""
    reward, replicas = config.reward, config.search.replicas
    if isinstance(reward.exponent, tuple):
        if REWARDS[reward.kind].joint:
            raise ValueError(f"reward.exponent: {reward.kind} takes one number, got {list(reward.exponent)}")
        if len(reward.exponent) != targets:
            raise ValueError(
                f"reward.exponent: got {list(reward.exponent)} for {targets} targets; give one number, or one a target"
            )
    if not config.separate:
        return
    if targets < 2:
        raise ValueError("--separate finds a network for each target: give two targets or more")
    if REWARDS[reward.kind].joint:
        raise ValueError(f"--separate: {reward.kind} joins all targets into one; choose another reward.kind")
    if replicas % targets:
        raise ValueError(
            f"--separate: {targets} targets share the replicas evenly, got search.replicas {replicas}; "
            f"use {-(-replicas // targets) * targets}"
        )


def _check_feasible(
    space: SearchSpace, costs: latency_tables.CostModel, targets: tuple[latency_tables.Target, ...], *, limits: bool
) -> None:
    for place, target in enumerate(targets):
        low, high = costs.range(place)
        if target.aim < low or (target.aim > high and not limits):
            unit = target.device.unit
            raise ValueError(
                f"target {target.text}: no architecture of {space.name} reaches it; "
                f"the cheapest costs {low:.4g} {unit}, the dearest {high:.4g} {unit}"
            )


def _check_agree(
    space: SearchSpace, costs: latency_tables.CostModel, targets: tuple[latency_tables.Target, ...]
) -> None:
    """Refuse two targets that no architecture meets together, each of which some architecture meets."""
    aims = [target.aim for target in targets]
    for first, second in itertools.permutations(range(len(targets)), 2):
        ends = costs.difference(first, second, aims)
        if ends is not None and ends[0] > 0:
            met, other = targets[first], targets[second]
            most = max(other.aim * (1 - ends[0]), 0)
            raise ValueError(
                f"targets {met.text} and {other.text} contradict each other: an architecture of {space.name} that "
                f"costs {met.aim:.4g} {met.device.unit} on {met.device.name} costs at most {most:.4g} "
                f"{other.device.unit} on {other.device.name}; lower that target, give --separate for a network each, "
                "or take reward.kind mnasnet-hard, for which targets are upper limits"
            )


def closest(plan: Plan) -> tuple[float, np.ndarray]:
    """How near the targets an architecture can be: by exchange from random ones, so an upper bound of the least miss.

    Returns:
      Its miss (see `rewards.Reward.miss`), and its costs [targets].
    """
    miss, aims = REWARDS[plan.config.reward.kind].miss, tuple(target.aim for target in plan.targets)
    near, rng = repair.Near(plan.costs, aims, miss, 0.0), random.Random(plan.seed)
    found = plan.costs(np.array([near(plan.space.random(rng)) for _ in range(_STARTS)]))
    missed = miss(found / np.array(aims))
    best = int(np.argmin(missed))
    return float(missed[best]), found[best]


def _check_same_run(folder: pathlib.Path, record: RunRecord) -> None:
    """A folder belongs to one configuration: refuse another one with the differences."""
    path = folder / RECORD
    if not path.exists():
        return
    old, new = (one.model_copy(update={"versions": {}}) for one in (yaml_io.load_model(path, RunRecord), record))
    if changes := yaml_io.differences(old, new):
        raise ValueError(f"{folder} holds a run with another configuration ({changes}); choose another --workdir")


def _versions() -> dict[str, str]:
    names = ("mnv4-nas", "jax", "flax", "optax", "numpy")
    found = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
    return {**found, "depthwise": "C++" if native.available() else "JAX"}
