"""Training a found or given network from Python."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import search_spaces
from nas.api.result import SearchResult, open_result
from nas.api.train_result import TrainResult
from nas.data import load
from nas.host import backend, lock
from nas.host.progress import Progress, ProgressBar, console
from nas.run import config_files
from nas.run.folder import RunFolder, TrainFolder
from nas.run.optimizers import OPTIMIZERS
from nas.run.tensorboard import check as check_tensorboard
from nas.run.train_config import TrainConfig
from search_spaces import ArchSpec, files, with_classes, yaml_io

if TYPE_CHECKING:
    from nas.data.dataset import Dataset, Readable
    from nas.training.record import TrainRecord
    from nas.training.starting_points import Fitted

DEFAULT_RECIPE = "small"
_SCRATCH, _SUPERNET, _TIMM = "scratch", "supernet", "timm:"


def train(
    network: str | os.PathLike[str] | ArchSpec | SearchResult,
    *,
    data: str | Dataset[Any] | None = None,
    recipe: str | os.PathLike[str] | TrainConfig = DEFAULT_RECIPE,
    workdir: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | TrainResult = _SCRATCH,
    fit_classes: bool = False,
    seed: int = 0,
    optimizer: Any = None,
    settings: Mapping[str, Any] | None = None,
    changes: Sequence[str] = (),
    tensorboard: bool = False,
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
        taken. timm's published weights were trained with symmetric padding, which these layers do
        not have: they are a start for fine-tuning, and do not have their published accuracy.
      fit_classes: Give the classifier as many classes as the data have.
      seed: Random seed.
      optimizer: Name, or a function from a learning-rate schedule to an optax transformation.
      settings: Changes of the recipe, {key path: value}, e.g. {"epochs": 10}.
      changes: "key.path=value" each, applied before `settings`.
      tensorboard: Also write the metrics as TensorBoard event files.
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
        seed=seed,
        optimizer=optimizer,
        settings=settings,
        changes=changes,
    )
    if tensorboard:
        check_tensorboard()
    if job.is_finished:
        job.repair_report()
        return job.result
    if progress is not None:
        progress.start_phase("train", job.config.steps)
        return job.run(progress, tensorboard=tensorboard)
    with ProgressBar("train", job.config.steps, console()) as bar:
        return job.run(bar, tensorboard=tensorboard)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainJob:
    """A training that has been checked.

    Attributes:
      spec: The network.
      dataset: The data.
      config: Resolved recipe.
      record: Content of the folder's `config.yaml`.
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
        """Whether the training has been done."""
        return self.folder.result.exists()

    @property
    def result(self) -> TrainResult:
        """The result of the finished training."""
        return TrainResult(self.folder.path)

    def run(self, progress: Progress, *, tensorboard: bool = False) -> TrainResult:
        """Train, or resume.

        Args:
          progress: Where progress goes; its total is the number of steps.
          tensorboard: Also write the metrics as TensorBoard event files.

        Raises:
          KeyboardInterrupt: After a checkpoint was written.
          nas.run.loop.NotFinite: The loss is not finite.
        """
        with lock.exclusive(self.folder.path):
            if not self.is_finished:  # another process may have finished it in the meantime
                self._run(progress, tensorboard)
        return self.result

    def _run(self, progress: Progress, tensorboard: bool) -> None:
        from nas.report import training as report
        from nas.training import evaluation, record, training, validation, weights

        if not self.folder.record.exists():
            text = yaml_io.to_yaml(self.record, defaults=True)
            files.write_atomically(self.folder.record, text)
        data, made = self.dataset, []

        def callbacks(program: Any) -> Sequence[Any]:
            callback = validation.Validation(
                program, data.validation, self.folder, len(data.train), progress.message
            )
            made.append(callback)
            return [callback]

        trained = training.train(
            self.spec,
            data.train,
            self.config,
            mean=data.mean,
            std=data.std,
            seed=self.record.seed,
            folder=self.folder,
            progress=progress,
            tensorboard=tensorboard,
            initial=(self.fitted.params, self.fitted.stats) if self.fitted else None,
            callbacks=callbacks,
        )
        weights.save(trained, self.folder.last)
        best = weights.load(self.folder.best)
        rows = made[0].rows
        row = max(rows, key=record.best_of)  # the first of equal ones, whose weights are kept
        averaged = row.get(f"{record.AVERAGED}accuracy", -1.0) > row["accuracy"]
        prefix = record.AVERAGED if averaged else ""
        on_test = evaluation.evaluate(best.predict, data.test)
        measures = record.TrainMeasures(
            steps=int(rows[-1]["step"]),
            best_step=int(row["step"]),
            averaged=averaged,
            validation={name: row[prefix + name] for name in on_test.scalars},
            test=on_test.scalars,
            test_images=on_test.images,
            seconds=round(trained.seconds, 1),
        )
        text = record.confusion_text(on_test.confusion, data.class_names)
        files.write_atomically(self.folder.confusion, text)
        # Before the result, behind which a kill may come: the report is made from files alone.
        shown = report.examples(best.predict, data.test, data.class_names)
        report.keep_examples(self.folder, shown)
        files.write_atomically(self.folder.result, yaml_io.to_yaml(measures, defaults=True))
        report.write(self.folder)

    def repair_report(self) -> None:
        """Write the report of a finished training where a kill came between result and report."""
        if self.is_finished and not self.folder.page.exists():
            self.result.report()


def open_job(
    network: Any,
    *,
    data: Any = None,
    recipe: Any = DEFAULT_RECIPE,
    workdir: Any = None,
    init: Any = _SCRATCH,
    fit_classes: bool = False,
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
      seed: Random seed.
      optimizer: Optimiser by name, or one of your own.
      settings: {key path: value}.
      changes: "key.path=value" each.

    Raises:
      ValueError: Something unknown, or that does not fit.
    """
    spec, result = _network(network)
    given = dict(settings or {})
    if optimizer is not None:
        given["optimizer"] = OPTIMIZERS.name_of(optimizer)
    if isinstance(recipe, TrainConfig):
        name, config = "recipe", config_files.changed(recipe, given)
    else:
        name = pathlib.Path(recipe).stem
        config = config_files.load(recipe, TrainConfig, changes, given, "recipes")
    if data is None and result is not None:
        data = result.record.config.data.source
    if data is None:
        raise ValueError(
            f"`data`: {spec.name} is a network alone, so its data must be given, e.g. "
            "imagefolder:photos"
        )
    backend.prepare(config.replicas)
    from nas.training import batches

    batches.check_shares(config)
    dataset = load.load_dataset(data, spec.resolution)
    spec = _with_classes_of(spec, dataset, fit_classes)
    if dataset.train.shape != (spec.resolution, spec.resolution, spec.input_channels):
        raise ValueError(
            f"`data`: {dataset.name} has images {list(dataset.train.shape)}, {spec.name} takes "
            f"{[spec.resolution, spec.resolution, spec.input_channels]}"
        )
    config = config.of_length(len(dataset.train))
    if workdir is None:
        home = pathlib.Path("runs") if result is None else result.path
        workdir = home / (f"{spec.name}-{name}" if result is None else f"train-{name}")
    fitted, origin = _starting_point(spec, config, seed, init, result)

    from nas.run.versions import machine, versions
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
        versions=versions(),
        machine=machine(),
    )
    folder = TrainFolder(pathlib.Path(workdir))
    check(folder, record)
    return TrainJob(spec, dataset, config, record, folder, fitted)


def _network(network: Any) -> tuple[ArchSpec, SearchResult | None]:
    if isinstance(network, ArchSpec):
        return network, None
    if isinstance(network, SearchResult):
        return network.architecture, network
    path = pathlib.Path(network)
    if not path.is_dir():
        return search_spaces.base(str(network)), None
    if RunFolder(path).stages:
        result = open_result(path)
        return result.architecture, result
    if path.name in RunFolder(path.parent).stages:
        result = open_result(path.parent, path.name)
        return result.architecture, result
    if (path / "architecture.yaml").exists():
        return search_spaces.load(path / "architecture.yaml"), None
    raise ValueError(f"{path}: holds neither a search nor an architecture.yaml")


def _with_classes_of(spec: ArchSpec, dataset: Dataset[Any], fit_classes: bool) -> ArchSpec:
    classes = len(dataset.class_names)
    if spec.classes == classes:
        return spec
    if not fit_classes:
        raise ValueError(
            f"`data`: {dataset.name} has {classes} classes, {spec.name} has {spec.classes} "
            "outputs; with `fit_classes` the classifier gets as many as the data have"
        )
    return with_classes(spec, classes)


def _starting_point(
    spec: ArchSpec, config: TrainConfig, seed: int, init: Any, result: SearchResult | None
) -> tuple[Fitted | None, str]:
    """Weights to start from, and what the record says of them."""
    if init == _SCRATCH:
        return None, _SCRATCH
    from nas.training import starting_points, weights

    if init == _SUPERNET:
        if result is None:
            raise ValueError("`init` supernet: needs the result or the folder of a search")
        from nas.engine import runner

        params, stats = runner.inherited(result.stage, result.workdir.path, result.architecture)
        origin = f"supernet of {result.stage}, space {result.record.space}"
    elif str(init).startswith(_TIMM):
        params, stats, origin = _timm_weights(spec, str(init).removeprefix(_TIMM))
    else:
        folder = init.path if isinstance(init, TrainResult) else pathlib.Path(init)
        best = TrainFolder(folder).best
        other = weights.load(best if best.exists() else folder)
        params, stats = other.params, other.stats
        origin = f"{other.spec.name} {other.spec.digest()}, weights {weights.digest(other)}"
    return starting_points.fit(spec, config, seed, params, stats, origin), origin


def _timm_weights(spec: ArchSpec, path: str) -> tuple[Any, Any, str]:
    """Weights of a state dict in timm's layout, whose classifier may have other classes."""
    from nas.exporters import safetensors, timm

    state = safetensors.read(path)
    classifier = state.get("classifier.weight")
    if classifier is not None and classifier.ndim == 2 and len(classifier) != spec.classes:
        spec = with_classes(spec, len(classifier))
    try:
        params, stats = timm.from_state_dict(spec, state)
    except ValueError as error:
        raise ValueError(f"`init` {_TIMM}{path}: {error}") from None
    digest = files.sha256(path)[:16]
    return params, stats, f"{_TIMM}{pathlib.Path(path).name} {digest}"
