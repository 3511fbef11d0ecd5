"""Training a found or given network from Python."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas.api import sharing
from nas.api.result import SearchResult
from nas.api.train_arguments import DEFAULT_RECIPE, fitting, resolved, with_padding
from nas.api.train_result import TrainResult
from nas.data import load
from nas.data.sources.image_folder import check_outside
from nas.host import backend, cluster, lock, remote
from nas.host.progress import Progress, ProgressBar, console
from nas.run.folder import TrainFolder
from nas.run.tensorboard import check as check_tensorboard
from nas.run.train_config import TrainConfig
from search_spaces import ArchSpec, files, with_classes
from search_spaces.ops import Padding

if TYPE_CHECKING:
    from nas.data.dataset import Dataset, Readable
    from nas.training.record import TrainRecord
    from nas.training.starting_points import Fitted

_SCRATCH, _SUPERNET, _TIMM = "scratch", "supernet", "timm:"


def train(
    network: str | os.PathLike[str] | ArchSpec | SearchResult,
    *,
    data: str | Dataset[Any] | None = None,
    recipe: str | os.PathLike[str] | TrainConfig = DEFAULT_RECIPE,
    workdir: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | TrainResult = _SCRATCH,
    fit_classes: bool = False,
    padding: Padding | None = None,
    seed: int = 0,
    optimizer: Any = None,
    settings: Mapping[str, Any] | None = None,
    changes: Sequence[str] = (),
    tensorboard: bool = False,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a network, or resume a training; a finished one is not repeated.

    Rerun the same call to resume after an interrupt: the result is bit-identical to that of an
    uninterrupted training. The network is evaluated on the validation split at intervals; the best
    one is kept, and evaluated on the test split once, at the end.

    Args:
      network: Result of a search, its folder, an `ArchSpec`, a YAML file, or a known network by
        name.
      data: As for `nas.search`; default: the data of the search, which a network alone has not.
      recipe: Recipe by name, file or object.
      workdir: Folder of the training; default: train-RECIPE in the folder of the result, or
        runs/NETWORK-RECIPE.
      init: "scratch"; "supernet": the weights inside the search's supernet; "timm:FILE", a state
        dict as safetensors; or the folder or result of another training, of which all that fits is
        taken. timm's published weights need `padding` "symmetric" and the setting `norm_epsilon`
        1e-5 to compute what they compute in timm.
      fit_classes: Give the classifier as many classes as the data have.
      padding: Padding of the network, see `ArchSpec`; None: as the network has it.
      seed: Random seed.
      optimizer: Name, or a function from a learning-rate schedule to an optax transformation.
      settings: Changes of the recipe, {key path: value}, e.g. {"epochs": 10}.
      changes: "key.path=value" each, applied before `settings`.
      tensorboard: Also write the metrics as TensorBoard event files.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: run on a Ray cluster, whose machines
        share the folder and find the data under the same name.
      workers: Processes on the cluster that share the recipe's `replicas`.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      The result.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
      KeyboardInterrupt: After a checkpoint was written.
      nas.run.loop.NotFinite: The loss is not finite.
    """
    job = open_job(
        network,
        data=data,
        recipe=recipe,
        workdir=workdir,
        init=init,
        fit_classes=fit_classes,
        padding=padding,
        seed=seed,
        optimizer=optimizer,
        settings=settings,
        changes=changes,
    )
    spec = sharing.cluster_spec(ray)
    job.check(tensorboard=tensorboard, ray=spec, workers=workers)
    if job.is_finished:
        return job.result
    options: dict[str, Any] = {"tensorboard": tensorboard, "ray": spec, "workers": workers}
    if progress is not None:
        progress.start_phase("train", job.config.steps)
        return job.run(progress, **options)
    with ProgressBar("train", job.config.steps, console()) as bar:
        return job.run(bar, **options)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainJob:
    """A training that has been checked.

    Attributes:
      spec: The network.
      dataset: The data.
      config: Resolved recipe.
      record: What decides the result, for the folder's `config.yaml`.
      folder: Folder of the training.
      fitted: Weights to start from; None: random weights.
    """

    spec: ArchSpec
    dataset: Dataset[Readable]
    config: TrainConfig
    record: TrainRecord
    folder: TrainFolder
    fitted: Fitted | None

    @property
    def is_finished(self) -> bool:
        """Whether the training has been done, and its report written."""
        return self.folder.result.exists() and self.folder.page.exists()

    @property
    def result(self) -> TrainResult:
        """The result of the finished training."""
        return TrainResult(self.folder.path)

    def check(
        self,
        *,
        tensorboard: bool = False,
        ray: cluster.ClusterSpec | None = None,
        workers: int = 1,
    ) -> None:
        """Refuse what could not run.

        Args:
          tensorboard: See `run`.
          ray: See `run`.
          workers: See `run`.

        Raises:
          ValueError: A missing extra, replicas that cannot be shared, or objects that a cluster
            cannot have.
        """
        if tensorboard:
            check_tensorboard()
        names = (self.config.optimizer, self.record.data)
        sharing.check(workers, self.config.replicas, "replicas", ray, names)

    def run(
        self,
        progress: Progress,
        *,
        tensorboard: bool = False,
        ray: cluster.ClusterSpec | None = None,
        workers: int = 1,
    ) -> TrainResult:
        """Train, or resume, and write the report.

        Args:
          progress: Where progress goes; its total is the number of steps.
          tensorboard: Also write the metrics as TensorBoard event files.
          ray: Cluster to run on; None for this process.
          workers: Processes on the cluster that share the replicas.

        Raises:
          KeyboardInterrupt: After a checkpoint was written.
          nas.run.loop.NotFinite: The loss is not finite.
          nas.host.cluster.WorkersLost: Processes were lost again and again.
          ValueError: The cluster has too little.
        """
        with lock.exclusive(self.folder.path):
            if not self.is_finished:  # another process may have finished it in the meantime
                self._run(progress, tensorboard, ray, workers)
        return self.result

    def _run(
        self,
        progress: Progress,
        tensorboard: bool,
        ray: cluster.ClusterSpec | None,
        workers: int,
    ) -> None:
        from nas.report import training as report
        from nas.training import run, weights

        initial = (self.fitted.params, self.fitted.stats) if self.fitted else None
        request = run.Request(self.spec, self.record, self.folder, initial)
        if self.folder.result.exists():  # a kill came between the result and the report
            best = weights.load(self.folder.best)
        elif ray:
            folder = TrainFolder(self.folder.path.absolute())
            request = dataclasses.replace(request, folder=folder)
            worker = functools.partial(run.run_worker, request, workers, tensorboard)
            cluster.run_distributed(worker, cluster=ray, workers=workers, progress=progress)
            best = weights.load(self.folder.best)
        else:
            best = run.run(request, self.dataset, progress, tensorboard=tensorboard)
        shown = report.examples(best.predict, self.dataset.test, self.dataset.class_names)
        report.keep_examples(self.folder, shown)
        report.write(self.folder)


def open_job(
    network: Any,
    *,
    data: Any = None,
    recipe: Any = DEFAULT_RECIPE,
    workdir: Any = None,
    init: Any = _SCRATCH,
    fit_classes: bool = False,
    padding: Padding | None = None,
    seed: int = 0,
    optimizer: Any = None,
    settings: Mapping[str, Any] | None = None,
    changes: Sequence[str] = (),
) -> TrainJob:
    """Resolve and check what was asked for; see `train` for the arguments.

    Args:
      network: Result, folder, spec, file or name.
      data: Data set by name, or one of your own.
      recipe: Recipe by name, file or object.
      workdir: Folder of the training.
      init: Weights to start from.
      fit_classes: Give the classifier as many classes as the data have.
      padding: Padding of the network.
      seed: Random seed.
      optimizer: Optimiser by name, or one of your own.
      settings: {key path: value}.
      changes: "key.path=value" each.

    Raises:
      ValueError: Something unknown, or that does not fit.
    """
    if workdir is not None and remote.is_url(str(workdir)):
        raise ValueError(f"`workdir` {workdir}: trainings write to a path, not to a URL")
    spec, result, data, name, config = resolved(network, data, recipe, optimizer, settings, changes)
    if padding is not None:
        spec = with_padding(spec, padding)
    backend.prepare(config.replicas)
    if workdir is None:
        home = pathlib.Path("runs") if result is None else result.path
        workdir = home / (f"{spec.name}-{name}" if result is None else f"train-{name}")
    if isinstance(data, str):
        check_outside(data, workdir, "workdir")
    dataset = load.load_dataset(data, spec.resolution)
    spec = fitting(spec, dataset, fit_classes)
    config = config.of_length(len(dataset.train))
    fitted, origin = _starting_point(spec, config, seed, init, result)

    from nas.training.record import TrainRecord, check

    record = TrainRecord(
        network=spec.name,
        architecture=spec.digest(),
        data=data if isinstance(data, str) else load.register_dataset(data),
        dataset_hash=dataset.fingerprint,
        classes=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
        recipe=config,
        seed=seed,
        init=origin,
        data_notes=dataset.notes,
    )
    folder = TrainFolder(pathlib.Path(workdir))
    check(folder, record)
    return TrainJob(spec, dataset, config, record, folder, fitted)


def _starting_point(
    spec: ArchSpec, config: TrainConfig, seed: int, init: Any, result: SearchResult | None
) -> tuple[Fitted | None, str]:
    """Weights to start from, and what the record says of them."""
    if init == _SCRATCH:
        return None, _SCRATCH
    from nas.training import starting_points, weights

    note = ""
    if init == _SUPERNET:
        if result is None:
            raise ValueError("`init` supernet: needs the result or the folder of a search")
        from nas.engine import runner

        params, stats = runner.inherited(result.stage, result.workdir.path, result.architecture)
        origin = f"supernet of {result.stage}, space {result.record.space}"
    elif str(init).startswith(_TIMM):
        params, stats, origin = _timm_weights(spec, str(init).removeprefix(_TIMM))
        note = (
            f"computed with padding {spec.padding} and norm_epsilon {config.norm_epsilon:g}; "
            "timm's published weights have symmetric and 1e-05"
        )
    else:
        folder = init.path if isinstance(init, TrainResult) else pathlib.Path(init)
        best = TrainFolder(folder).best
        other = weights.load(best if best.exists() else folder)
        params, stats = other.params, other.stats
        origin = f"{other.spec.name} {other.spec.digest()}, weights {weights.digest(other)}"
    fitted = starting_points.fit(spec, config, seed, params, stats, origin)
    return dataclasses.replace(fitted, note=note), origin


def _timm_weights(spec: ArchSpec, path: str) -> tuple[Any, Any, str]:
    """Weights of a state dict in timm's layout, whose classifier may have other classes."""
    from nas.exporters import safetensors, timm

    try:
        state = safetensors.read(path)
    except ValueError as error:
        raise ValueError(
            f"`init` {_TIMM}{error}; write one with safetensors.torch.save_file(state_dict, path)"
        ) from None
    classifier = state.get("classifier.weight")
    if classifier is not None and classifier.ndim == 2 and len(classifier) != spec.classes:
        spec = with_classes(spec, len(classifier))
    try:
        params, stats = timm.from_state_dict(spec, state)
    except ValueError as error:
        raise ValueError(
            f"`init` {_TIMM}{path}: {error}; give the state dict of this network in timm, or the "
            "folder of another training, of which all that fits is taken"
        ) from None
    digest = files.sha256(path)[:16]
    return params, stats, f"{_TIMM}{pathlib.Path(path).name} {digest}"
