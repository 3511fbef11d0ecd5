"""What a stage needs, loaded and checked before anything runs."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import pathlib
import platform

import latency_tables
import search_spaces
from nas.data import sources
from nas.data.dataset import Dataset, Readable
from nas.model.layers import native
from nas.run.config import STAGES, RunConfig, Stage, config_hash
from nas.run.targets import parse_targets
from nas.train.loop import teaches
from search_spaces import SearchSpace, yaml_io
from search_spaces.choice import Frozen

RESULT, RECORD = "architecture.yaml", "config.yaml"


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
        return self.config.seed * len(STAGES) + STAGES.index(self.stage)


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


def reopen(stage: Stage, workdir: pathlib.Path) -> Plan:
    """The plan of a stage that has been run in `workdir`, as its record says.

    Raises:
      ValueError: there is none, or what it was made from has changed.
    """
    path = workdir / stage / RECORD
    if not path.exists():
        raise ValueError(
            f"{workdir}: holds no {stage} stage; run `nas-search --stage {stage} --workdir {workdir}` first"
        )
    return plan(stage, yaml_io.load_model(path, RunRecord).config, workdir)


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
    path = folder / RECORD
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


def _versions() -> dict[str, str]:
    names = ("mnv4-nas", "jax", "flax", "optax", "numpy")
    found = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
    return {**found, "depthwise": "C++" if native.available() else "JAX"}
