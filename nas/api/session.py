"""A session: the stages of a search, one after the other, here or on a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from latency_tables import Target, register_device
from nas.api import sharing
from nas.api.result import SearchResult
from nas.data import load
from nas.data.dataset import Dataset
from nas.engine import planning, runner
from nas.engine.planning import Plan
from nas.host import backend, cluster, lock, remote, shared
from nas.host.progress import Progress
from nas.report import search as report
from nas.run import config_files
from nas.run.config import RunConfig
from nas.run.folder import RunFolder
from nas.run.optimizers import OPTIMIZERS
from nas.run.tensorboard import check as check_tensorboard
from rewards import REWARDS
from search_spaces import stages
from search_spaces.stages import STAGES, Stage

DEFAULT_STAGES = ("coarse", "fine")
"""A search without a stage runs these, as the paper does."""


@dataclasses.dataclass(frozen=True)
class StageJob:
    """One stage for all targets, or for one of separate targets.

    Attributes:
      stage: Name of the stage.
      config: Configuration.
      workdir: Folder of the search, by path or URL.
    """

    stage: str
    config: RunConfig
    workdir: remote.Folder

    def plan(self) -> Plan:
        """Load and check everything; prepares JAX.

        Raises:
          ValueError: See `nas.engine.planning.plan`.
        """
        backend.prepare(self.config.search.replicas)
        return planning.plan(self.stage, self.config, self.workdir.path)

    def run(
        self,
        plan: Plan,
        progress: Progress,
        *,
        tensorboard: bool = False,
        ray: cluster.ClusterSpec | None = None,
        workers: int = 1,
    ) -> tuple[SearchResult, ...]:
        """Run the stage, or resume it.

        Args:
          plan: From `plan`.
          progress: Where progress goes; its total is the number of steps.
          tensorboard: Also write the metrics as TensorBoard event files.
          ray: Cluster to run on; None for this process.
          workers: Processes on the cluster that share the replicas.

        Returns:
          One result, or one for each of separate targets.

        Raises:
          KeyboardInterrupt: After a checkpoint was written.
          nas.run.loop.NotFinite: The loss is not finite.
          nas.host.cluster.WorkersLost: Processes were lost again and again.
          ValueError: The cluster has too little.
        """
        if ray:
            worker = functools.partial(
                runner.run_worker,
                self.stage,
                self.config,
                self.workdir.absolute(),
                workers,
                tensorboard,
            )
            cluster.run_distributed(worker, cluster=ray, workers=workers, progress=progress)
            self.workdir.pull()  # the first process may have been on another machine
        else:
            saved = self.workdir.saver(progress.message)
            runner.run(plan, progress, tensorboard=tensorboard, saved=saved)
        return self.results(plan)

    def repair_report(self, plan: Plan) -> list[pathlib.Path]:
        """Write the report of a finished stage where a kill came between result and report.

        Args:
          plan: From `plan`.

        Returns:
          The pages; none where all are there.
        """
        pages = [sub_plan.folder.page for sub_plan in plan.sub_plans]
        return [] if all(page.exists() for page in (*pages, plan.folder.page)) else self.report()

    def report(self) -> list[pathlib.Path]:
        """Write the report of the stage.

        Of separate targets one for each, and one that compares them.

        Returns:
          The pages.
        """
        return report.write(self.stage, self.workdir.path)

    def results(self, plan: Plan) -> tuple[SearchResult, ...]:
        """The results of a finished stage.

        Args:
          plan: From `plan`.
        """
        return tuple(
            SearchResult(sub_plan.folder.path, self.workdir) for sub_plan in plan.sub_plans
        )


@dataclasses.dataclass(frozen=True)
class Session:
    """A search: a configuration, a folder and stages.

    Attributes:
      config: Configuration.
      workdir: Folder of the search, by path or URL.
      stages: Names of the stages, in their order.
    """

    config: RunConfig
    workdir: remote.Folder
    stages: tuple[str, ...]

    def check(
        self,
        *,
        tensorboard: bool = False,
        ray: cluster.ClusterSpec | None = None,
        workers: int = 1,
    ) -> None:
        """Refuse what could not run, before anything is loaded.

        Args:
          tensorboard: See `StageJob.run`.
          ray: See `StageJob.run`.
          workers: See `StageJob.run`.

        Raises:
          ValueError: A missing extra, replicas that cannot be shared, or objects that a cluster
            cannot have.
        """
        if tensorboard:
            check_tensorboard()
        names = (self.config.reward.kind, self.config.weights.optimizer, self.config.data.source)
        replicas = self.config.search.replicas
        sharing.check(workers, replicas, "search.replicas", ray, names)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from writing the folder; enter it before `workdir.pull`.

        Raises:
          ValueError: Another process writes it, and the message says which; or it is a file.
        """
        path = self.workdir.path
        if path.exists() and not path.is_dir():
            raise ValueError(f"`workdir` {path}: is a file; choose a folder")
        return lock.exclusive(path)

    def has_result_before(self, stage: str) -> bool:
        """Whether the result that a stage starts from is there.

        Args:
          stage: Name of the stage.
        """
        before = STAGES.get(stage).after
        return before is None or RunFolder(self.workdir.path).stage(before).architecture.exists()

    def jobs(self, stage: str) -> tuple[StageJob, ...]:
        """The jobs of a stage.

        Once, or where it starts from separate targets, for each of them in its own folder.

        Args:
          stage: Name of the stage.

        Raises:
          ValueError: The configuration does not fit.
        """
        first = stages.chain(stage)[0]
        if first == stage or not self.config.separate:
            return (StageJob(stage, self.config, self.workdir),)
        backend.prepare(self.config.search.replicas)
        sub_plans = planning.plan(first, self.config, self.workdir.path).sub_plans
        jobs = [
            StageJob(stage, plan.config, self.workdir / plan.folder.path.parent.name)
            for plan in sub_plans
        ]
        for job in jobs:
            job.workdir.pull()
        return tuple(jobs)


def open_session(
    config: str | os.PathLike[str] | RunConfig | SearchResult = "quickstart",
    *,
    stage: str | Stage | None = None,
    targets: Sequence[str | Target] | None = None,
    data: str | Dataset[Any] | None = None,
    workdir: Any = None,
    seed: int | None = None,
    separate: bool | None = None,
    reward: Any = None,
    optimizer: Any = None,
    changes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Session:
    """Resolve what was asked for into a session; see `nas.search` for the arguments.

    Args:
      config: Configuration by name, file or object; or an earlier result, whose configuration and
        folder are used.
      stage: Stage by name, or one of your own; None for coarse and fine.
      targets: Targets as text, or as objects with devices of your own.
      data: Data set by name, or one of your own.
      workdir: Folder of the search, by path or URL; default: that of the result, or runs/NAME.
      seed: Random seed.
      separate: Find a network for each target.
      reward: Reward by name, or one of your own.
      optimizer: Optimiser of the weights by name, or one of your own.
      changes: "key.path=value" each.
      settings: {key path: value}.

    Raises:
      ValueError: Something unknown, or that does not fit.
    """
    names = _stage_names(stage)  # first, because the configuration may name a stage of its own
    if isinstance(config, SearchResult):
        workdir = config.workdir if workdir is None else workdir
        config = config.record.config
    given: dict[str, Any] = {}
    if targets:
        given["targets"] = [_target_text(target) for target in targets]
    if data is not None:
        given["data.source"] = data if isinstance(data, str) else load.register_dataset(data)
    if separate:
        given["separate"] = True
    if seed is not None:
        given["seed"] = seed
    if reward is not None:
        given["reward.kind"] = REWARDS.name_of(reward)
    if optimizer is not None:
        given["weights.optimizer"] = OPTIMIZERS.name_of(optimizer)
    given |= settings or {}
    if isinstance(config, RunConfig):
        resolved = config_files.changed(config, given)
    else:
        resolved = config_files.load(config, RunConfig, changes, given)
    folder = remote.as_folder(f"runs/{resolved.name}" if workdir is None else workdir)
    return Session(resolved, folder, names)


def _stage_names(stage: str | Stage | None) -> tuple[str, ...]:
    if stage is None:
        return DEFAULT_STAGES
    if isinstance(stage, str):
        STAGES.get(stage)
        return (stage,)
    STAGES.register(stage.name, stage)
    return (stage.name,)


def _target_text(target: str | Target) -> str:
    if isinstance(target, str):
        return target
    register_device(target.device)
    return str(target)


shared.share("rewards", "REWARDS")
shared.share("nas.run.optimizers", "OPTIMIZERS")
shared.share("search_spaces.stages", "STAGES")
