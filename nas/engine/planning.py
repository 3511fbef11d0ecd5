"""Planning: everything that a stage needs, loaded and checked before anything runs."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from latency_tables.targets import parse_targets
from nas.data import load
from nas.data.dataset import Dataset, Readable
from nas.data.sources.image_folder import check_outside
from nas.engine.objective import Objective, retarget_exponent
from nas.engine.spaces import space_of
from nas.host.terminal import listed
from nas.run.config import RunConfig, config_hash
from nas.run.folder import RunFolder, RunRecord, StageFolder
from nas.run.versions import machine, versions
from nas.tasks.classification import Classification
from search_spaces import SearchSpace, stages, yaml_io


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A stage that is ready to run: everything is loaded and checked, nothing is written.

    Attributes:
      stage: Name of the stage.
      config: Resolved configuration.
      folder: Files of the stage.
      space: Search space.
      objective: Targets, costs and reward.
      dataset: Training data.
      record: What the result depends on.
    """

    stage: str
    config: RunConfig
    folder: StageFolder
    space: SearchSpace
    objective: Objective
    dataset: Dataset[Readable]
    record: RunRecord

    @property
    def seed(self) -> int:
        """Random seed of the stage."""
        assert self.record.seed is not None
        return self.record.seed

    @functools.cached_property
    def task(self) -> Classification:
        """The task that the weights are trained for."""
        data = self.config.data
        classes = self.space.spec.classes
        return Classification.of(self.dataset.train, classes, data.labels, data.label_smoothing)

    @functools.cached_property
    def sub_plans(self) -> tuple[Plan, ...]:
        """A plan for each architecture to find.

        Itself, or one for each of separate targets with its own folder.
        """
        if not self.config.separate:
            return (self,)
        run = RunFolder(self.folder.path.parent)
        targets = self.objective.targets
        # As they were given, where a device may stand as the path of its file.
        given = self.config.targets
        texts = given if len(given) == len(targets) else tuple(map(str, targets))
        return tuple(
            dataclasses.replace(
                self,
                config=_with_targets(self.config, (text,), objective.exponent),
                folder=run.separate(target.device.name).stage(self.stage),
                objective=objective,
            )
            for target, text, objective in zip(targets, texts, self.objective.separate, strict=True)
        )

    @property
    def is_finished(self) -> bool:
        """Whether every architecture has been found."""
        return all(plan.folder.architecture.exists() for plan in self.sub_plans)


def plan(stage: str, config: RunConfig, workdir: pathlib.Path) -> Plan:
    """Load and check everything that a stage needs.

    Args:
      stage: Name of the stage.
      config: Configuration of the search.
      workdir: Folder of the search.

    Returns:
      The plan.

    Raises:
      ValueError: A bad base, device, target or data set, or a folder that holds another run.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"`workdir` {workdir}: is a file; choose a folder")
    check_outside(config.data.source, workdir, "workdir")
    space = space_of(stage, config, workdir)
    objective = Objective.build(config, space)
    spec = space.spec
    dataset = load.load_dataset(config.data.source, spec.resolution)
    if len(dataset.class_names) != spec.classes:
        raise ValueError(
            f"base {config.space.base!r} has {spec.classes} classes, but {config.data.source} has "
            f"{len(dataset.class_names)}; give `settings` space.classes={len(dataset.class_names)} "
            f"if its classes are right: {listed(dataset.class_names)}"
        )
    size = dataset.train.shape
    expected = (spec.resolution, spec.resolution, spec.input_channels)
    if size != expected:
        raise ValueError(
            f"base {config.space.base!r} takes images of {expected}, but {config.data.source} has "
            f"{size}"
        )
    record = RunRecord(
        config=config,
        config_hash=config_hash(config),
        dataset_hash=dataset.fingerprint,
        space=spec.digest(),
        seed=stages.stage_seed(stage, config.seed),
        versions=versions(),
        machine=machine(),
        data_notes=dataset.notes,
    )
    folder = RunFolder(workdir).stage(stage)
    _check_same_run(folder, stage, record)
    found = Plan(stage, config, folder, space, objective, dataset, record)
    _ = found.task  # soft labels that are asked for and absent are refused here
    return found


def reopen(stage: str, workdir: pathlib.Path) -> Plan:
    """The plan of a finished stage, from its record.

    Args:
      stage: Name of the stage.
      workdir: Folder of the search.

    Raises:
      ValueError: There is none, it is not finished, or what it was made from has changed.
    """
    old = plan(stage, RunFolder(workdir).read_record(stage).config, workdir)
    if not old.is_finished:
        raise ValueError(
            f"{old.folder}: is not finished; rerun the command that started it, "
            f"`nas-search --stage {stage} --workdir {workdir} ...`, or give another `stage`"
        )
    return old


def retargeted(plan: Plan, texts: tuple[str, ...]) -> Plan:
    """The same plan for other targets, with one architecture for all of them.

    Args:
      plan: The plan.
      texts: Targets, "device:value[unit]" each.

    Raises:
      ValueError: As `plan`.
    """
    wanted = [target for text in texts for target in parse_targets(text)]
    try:
        exponent = retarget_exponent(plan.config.reward.exponent, plan.objective.targets, wanted)
    except ValueError as error:
        raise ValueError(f"{plan.folder}: {error}") from None
    config = _with_targets(plan.config, texts, exponent)
    return dataclasses.replace(plan, config=config, objective=Objective.build(config, plan.space))


def _with_targets(
    config: RunConfig, targets: tuple[str, ...], exponent: float | tuple[float, ...]
) -> RunConfig:
    reward = config.reward.model_copy(update={"exponent": exponent})
    return config.model_copy(update={"targets": targets, "separate": False, "reward": reward})


def _check_same_run(folder: StageFolder, stage: str, record: RunRecord) -> None:
    """A folder belongs to one configuration: refuse another one with the differences."""
    if not folder.record.exists():
        return
    old = yaml_io.load_model(folder.record, RunRecord).resolved(stage).decisive()
    if changes := yaml_io.differences(old, record.decisive()):
        raise ValueError(
            f"{folder} holds a run with another configuration ({changes}); choose another `workdir`"
        )
