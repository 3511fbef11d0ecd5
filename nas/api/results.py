"""More from a finished search, from Python.

Other architectures, and whether its ranking can be trusted.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import search_spaces
from nas.api import sharing
from nas.api.result import SearchResult, open_result
from nas.host import backend, cluster, cores, lock, parallel, remote
from nas.host.progress import Offset, Progress, ProgressBar, console
from nas.run.folder import StageFolder, TrainingsFolder
from search_spaces import yaml_io

if TYPE_CHECKING:
    import os

    from latency_tables import Target
    from nas.engine.finalists import SuccessiveHalving
    from nas.engine.ranking import Diagnosis
    from nas.run.train_config import TrainConfig
    from nas.searchers.base import Searcher

RECIPE: Mapping[str, Any] = {"steps": 1500, "batch": 32, "learning_rate": 0.1}
"""Fields of the recipe of stand-alone trainings where nothing else is given.

Labels and flips are those of the run.
"""
ROUNDS = 4
"""Rounds of finalists where nothing else is given."""


def derive(
    run: SearchResult | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | remote.Folder,
    stage: str | None = None,
    targets: Sequence[str | Target] = (),
    by: str | Callable[..., Searcher] = "evolution",
    evaluations: int | None = None,
    finalists: int = 0,
    rounds: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Derive another network from the supernet of a finished stage.

    Other targets, or another searcher.

    Args:
      run: Result of a search, or its folder by path or URL.
      out: Folder of the new network, by path or URL.
      stage: Name of the stage; default: the last one there.
      targets: "device:value[unit]" each, or `latency_tables.Target` objects; default: those of the
        run.
      by: "evolution", "random", or "policy" (which knows only the targets that it was trained for);
        or a function from (space, repair, rng) to a searcher with `ask` and `tell`.
      evaluations: Networks that a searcher evaluates; default: the run's.
      finalists: Train this many candidates one by one, the better half of them again with another
        seed, and so on; the best reward of the mean of held-out accuracies wins. 0: the supernet's
        rewards decide.
      rounds: Rounds of finalists, which is the number of trainings of the last ones; default: 4.
      recipe: Fields of the finalists' recipe, see `nas.run.train_config.TrainConfig`.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: train finalists on a Ray cluster.
      workers: Trainings at a time, a core each; default: all cores.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      The new network and its candidates.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
    """
    _check_finalists(finalists, rounds, recipe, ray, workers)
    if by == "policy" and evaluations is not None:
        raise ValueError(
            "`evaluations` goes with `by` random or evolution: the policy proposes "
            "derive.survivors networks"
        )
    backend.prepare(2)
    result = open_result(run, stage)
    folder = remote.as_folder(out)
    with lock.exclusive(folder.path):
        folder.pull()
        return _derive(
            result,
            folder,
            targets,
            by,
            evaluations,
            finalists,
            rounds,
            recipe,
            ray,
            workers,
            progress,
        )


def _derive(
    result: SearchResult,
    folder: remote.Folder,
    targets: Sequence[str | Target],
    by: Any,
    evaluations: int | None,
    finalists: int,
    rounds: int | None,
    recipe: Mapping[str, Any] | None,
    ray: Any,
    workers: int | None,
    progress: Progress | None,
) -> SearchResult:
    from nas.api.session import _target_text
    from nas.engine import runner
    from nas.searchers.host import SEARCHERS

    _check_replaceable(StageFolder(folder.path), str(folder))
    usual = result.record.config.derive
    name = by if by == "policy" else SEARCHERS.name_of(by)
    changes: dict[str, Any] = {"by": name, "survivors": max(usual.survivors, finalists)}
    if evaluations is not None:
        changes["evaluations"] = evaluations
    settings = yaml_io.validate({**usual.model_dump(), **changes}, type(usual), "derive")
    total = 0 if name == "policy" else settings.evaluations
    pool = worker_pool(ray, workers)
    rounds = ROUNDS if rounds is None else rounds
    try:
        with shown("derive", total, progress) as bar:
            halving = None
            if finalists:
                halving = _halving(result, folder.path, finalists, rounds, recipe or {}, pool, bar)
            runner.rederive(
                result.stage,
                result.workdir.path,
                folder.path,
                settings,
                tuple(map(_target_text, targets)),
                finalists=halving,
                progress=bar,
            )
    finally:
        folder.push()
    return SearchResult(folder.path, result.workdir, result.stage)


def _check_finalists(
    finalists: int, rounds: int | None, recipe: Any, ray: Any, workers: int | None
) -> None:
    given = {"rounds": rounds, "recipe": recipe or None, "ray": ray, "workers": workers}
    for name, value in given.items():
        if not finalists and value is not None:
            raise ValueError(f"`{name}` goes with `finalists`: without, nothing is trained")
    if finalists < 0 or (rounds is not None and rounds < 1):
        raise ValueError(
            f"`finalists` must be at least 0, `rounds` at least 1; got {finalists} and {rounds}"
        )


def _check_replaceable(folder: StageFolder, name: str) -> None:
    """Refuse a folder with a search's own result: derivations took no time of their own."""
    if folder.architecture.exists():
        found = search_spaces.load(folder.architecture).found
        derived = found is not None and not found.seconds
    else:
        derived = True
    if folder.record.exists() or not derived:
        raise ValueError(
            f"`out` {name}: holds a search's own result, which would be lost; choose another folder"
        )


def _halving(
    result: SearchResult,
    out: pathlib.Path,
    count: int,
    rounds: int,
    fields: Mapping[str, Any],
    workers: parallel.WorkerPool,
    progress: Progress,
) -> SuccessiveHalving:
    from nas.engine import standalone
    from nas.engine.finalists import SuccessiveHalving, round_sizes, trainings_before

    recipe = standalone.recipe_of(result.record.config, **{**RECIPE, **fields})
    folder = StageFolder(out).finalists
    record = standalone.TrainingsRecord.of(result.stage, result.record, recipe)
    standalone.keep_record(TrainingsFolder(folder.path), record)

    def train(vectors: np.ndarray, seeds: int) -> np.ndarray:
        if seeds == 1:
            progress.start_phase("finalists", sum(round_sizes(count, rounds)))
        earlier = trainings_before(count, rounds, seeds)
        return standalone.train(
            result.stage,
            result.workdir.path,
            recipe,
            vectors,
            seeds=seeds,
            path=folder.trainings,
            progress=Offset(progress, earlier),
            workers=workers,
        )

    return SuccessiveHalving(count, rounds, train)


def diagnose(
    run: SearchResult | str | os.PathLike[str],
    *,
    stage: str | None = None,
    architectures: int = 30,
    seeds: int = 2,
    recipe: Mapping[str, Any] | TrainConfig | None = None,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Check whether the supernet's ranking of networks can be trusted.

    Networks are trained one by one, and compared with their accuracies inside the supernet.

    Its files, with a page, lie in the stage's folder; an interrupted diagnosis is resumed by the
    same call.

    Args:
      run: Result of a search, or its folder by path or URL.
      stage: Name of the stage; default: the last one there.
      architectures: Number of networks, at least 5.
      seeds: Trainings of each network.
      recipe: Recipe of the trainings, or fields of it, see `nas.run.train_config.TrainConfig`.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: train on a Ray cluster.
      workers: Trainings at a time, a core each; default: all cores.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      The diagnosis.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
    """
    backend.prepare(1)
    from nas.engine import diagnose as diagnosing
    from nas.engine import standalone
    from nas.report import diagnosis as page
    from nas.report import search as report
    from nas.run.train_config import TrainConfig

    result = open_result(run, stage)
    if not isinstance(recipe, TrainConfig):
        recipe = standalone.recipe_of(result.record.config, **{**RECIPE, **(recipe or {})})
    config = diagnosing.DiagnosisConfig(architectures=architectures, seeds=seeds, recipe=recipe)
    pool = worker_pool(ray, workers)
    with lock.exclusive(result.supernet_folder.diagnosis.path):
        try:
            with shown("diagnose", architectures * seeds, progress) as bar:
                diagnosis, folder = diagnosing.run(
                    result.stage, result.workdir.path, config, bar, workers=pool
                )
            page.write(folder)
            report.write(result.stage, result.workdir.path)
        finally:
            result.workdir.push()
    return diagnosis


@contextlib.contextmanager
def shown(name: str, total: int, progress: Progress | None) -> Iterator[Progress]:
    """The progress that was given, or a bar on standard error.

    Args:
      name: Name of the work.
      total: Its steps.
      progress: The progress that was given.
    """
    if progress is not None:
        yield progress
        return
    with ProgressBar(name, total, console()) as bar:
        yield bar


def worker_pool(ray: str | cluster.ClusterSpec | None, workers: int | None) -> parallel.WorkerPool:
    """The pool that was asked for.

    Args:
      ray: Cluster, or None for processes of this machine.
      workers: Number of processes; None: one a core.

    Raises:
      ValueError: Fewer than one.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"`workers`: got {workers}, expected at least 1")
    return parallel.WorkerPool(
        cores.count() if workers is None else workers, sharing.cluster_spec(ray)
    )
