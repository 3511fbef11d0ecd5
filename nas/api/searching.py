"""Searching from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas.api import sharing
from nas.api.result import SearchResult
from nas.api.session import Session, open_session
from nas.host import cluster, remote
from nas.host.progress import Progress, ProgressBar, console

if TYPE_CHECKING:
    import os

    from latency_tables import Target
    from nas.data.dataset import Dataset
    from nas.run.config import RunConfig
    from search_spaces.stages import Stage


def search(
    config: str | os.PathLike[str] | RunConfig | SearchResult = "quickstart",
    *,
    stage: str | Stage | None = None,
    targets: Sequence[str | Target] | None = None,
    data: str | Dataset[Any] | None = None,
    workdir: str | os.PathLike[str] | remote.Folder | None = None,
    seed: int | None = None,
    separate: bool | None = None,
    reward: Any = None,
    optimizer: Any = None,
    settings: Mapping[str, Any] | None = None,
    tensorboard: bool = False,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> SearchResult | tuple[SearchResult, ...]:
    """Search a network, or resume a search; a finished one is not repeated.

    Runs the stages one after the other. Rerun the same call to resume after an interrupt: the
    result is bit-identical to that of an uninterrupted search.

    Args:
      config: Configuration by name, file or object; or an earlier result, to run another stage on
        its folder.
      stage: Stage by name, or a `search_spaces.Stage` of your own; None: coarse, then fine.
      targets: "device:value[unit]" each, e.g. "pixel6-cpu:2.4ms"; or `latency_tables.Target`
        objects, which may have devices of your own. Default: those of the configuration.
      data: "builtin:NAME", "distilled:DIR", "imagefolder:DIR", "npz:FILE" or "tfds:NAME"; or a
        `Dataset`.
      workdir: Folder of the search, by path or URL; default: runs/NAME of the configuration.
      seed: Random seed; default: that of the configuration.
      separate: Find a network for each target, from one supernet.
      reward: Name, `rewards.Reward`, or a function of (quality, cost ratios, exponent).
      optimizer: Name, or a function from a learning-rate schedule to an optax transformation.
      settings: Changes of the configuration, {key path: value}, e.g. {"search.steps.coarse": 500}.
      tensorboard: Also write the metrics as TensorBoard event files.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: run on a Ray cluster.
      workers: Processes on the cluster that share the replicas.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      The result of the last stage; a tuple of one for each target if they are separate.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
      KeyboardInterrupt: After a checkpoint was written.
      nas.run.loop.NotFinite: The loss is not finite.
    """
    session = open_session(
        config,
        stage=stage,
        targets=targets,
        data=data,
        workdir=workdir,
        seed=seed,
        separate=separate,
        reward=reward,
        optimizer=optimizer,
        settings=settings,
    )
    spec = sharing.cluster_spec(ray)
    session.check(tensorboard=tensorboard, ray=spec, workers=workers)
    with session.exclusive():
        return _run(
            session, progress, {"tensorboard": tensorboard, "ray": spec, "workers": workers}
        )


def _run(
    session: Session, progress: Progress | None, options: Mapping[str, Any]
) -> SearchResult | tuple[SearchResult, ...]:
    session.workdir.pull()
    results: list[SearchResult] = []
    for name in session.stages:
        results = []
        for job in session.jobs(name):
            try:
                plan = job.plan()
                if plan.is_finished:
                    job.repair_report(plan)
                    results += job.results(plan)
                    continue
                steps = job.config.search.steps.of(name)
                if progress is not None:
                    progress.start_phase(name, steps)
                    results += job.run(plan, progress, **options)
                else:
                    with ProgressBar(name, steps, console()) as bar:
                        results += job.run(plan, bar, **options)
                job.report()
            finally:
                job.workdir.push()
    return results[0] if len(results) == 1 else tuple(results)
