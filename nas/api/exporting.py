"""Exporting trained networks from Python."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

import latency_tables
import search_spaces
from latency_tables import DeviceModel, comparison, parse_targets
from nas.api.train_result import TrainResult
from nas.data import load
from nas.host import backend
from nas.host.progress import Progress, ProgressBar, console
from nas.run.folder import RunFolder, RunRecord, StageFolder, TrainFolder
from search_spaces import files, yaml_io

if TYPE_CHECKING:
    from nas.data.dataset import Dataset
    from nas.exporters.export import ExportRecord

DEFAULT_FORMAT = "tflite-int8"
_STEPS = 4  # of an export, for its progress


@dataclasses.dataclass(frozen=True)
class Export:
    """An exported model.

    Attributes:
      path: File of the model.
      record: What it is, and how it was checked; also a YAML file beside the model.
    """

    path: pathlib.Path
    record: ExportRecord

    def __repr__(self) -> str:
        r = self.record
        accuracy = "" if r.accuracy is None else f", accuracy {r.accuracy:.4f}"
        return f"Export({str(self.path)!r}, {r.bytes / 1e6:.2f} MB{accuracy})"


def export(
    trained: str | os.PathLike[str] | TrainResult,
    *,
    format: str = DEFAULT_FORMAT,
    out: str | os.PathLike[str] | None = None,
    data: str | Dataset[Any] | None = None,
    samples: int = 500,
    images: int = 2000,
    allow_loss: float = 0.01,
    device: str | DeviceModel | None = None,
    progress: Progress | None = None,
) -> Export:
    """Export a trained network, and check the file before it gets its name.

    The check compares the operations with the lowering of the architecture, the logits and the
    accuracy with the network's, and times INT8 against float32. Its record joins the report of the
    training.

    Args:
      trained: Result of `nas.train`, its folder, or the folder of a search with one training.
      format: "tflite-int8", "tflite-uint8", "tflite-fp16", "tflite-fp32", "onnx", "stablehlo",
        "pytorch" or "coreml".
      out: Folder of the files; default: "export" in the folder of the training.
      data: Data for calibration and checks; default: those of the training.
      samples: Training images that show the ranges of INT8 activations.
      images: Validation images on which the model is evaluated.
      allow_loss: Accuracy that the model may lose against the network, 0..1.
      device: Device whose prediction stands beside the time of a TFLite model; default: the targets
        in ms of the search that found the network.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      The model's file and its record.

    Raises:
      ValueError: Something does not fit, an extra is missing, or the check fails; then nothing is
        written.
    """
    from nas.exporters import export as exporting
    from nas.exporters.formats import FORMATS

    FORMATS.get(format)
    if samples < 1 or images < 1:
        raise ValueError(f"`samples` and `images` must be at least 1, got {samples} and {images}")
    backend.prepare(1)
    result = open_training(trained)
    devices, unknown = _devices(result, device)
    dataset, subject = _subject(result, data, samples)
    held_out = dataset.validation.read(np.arange(min(images, len(dataset.validation))))
    folder = pathlib.Path(out) if out is not None else result.folder.exports

    def run(bar: Progress) -> Export:
        steps = iter(range(_STEPS))

        def step(text: str) -> None:
            bar.update(next(steps), text)

        path, record = exporting.export(
            subject,
            format,
            folder,
            held_out.images,
            held_out.labels,
            allow_loss=allow_loss,
            devices=devices,
            progress=step,
        )
        bar.update(_STEPS, "checked")
        for text in (*unknown, *_report(result.folder, path, record)):
            bar.message(text)
        return Export(path, record)

    if progress is not None:
        progress.start_phase("export", _STEPS)
        return run(progress)
    with ProgressBar("export", _STEPS, console()) as bar:
        return run(bar)


def open_training(trained: Any) -> TrainResult:
    """The result of a finished training.

    Args:
      trained: A result, which is returned; the folder of a training; or the folder of a search or
        of a stage that holds one training.

    Raises:
      ValueError: The folder holds no finished training, or several.
    """
    if isinstance(trained, TrainResult):
        return trained
    path = pathlib.Path(trained)
    if TrainFolder(path).best.exists():
        found = [path]
    else:
        stages = RunFolder(path).stages if path.is_dir() else ()
        folders = [RunFolder(path).stage(stages[-1]).path] if stages else [path]
        found = [best.parent for folder in folders for best in sorted(folder.glob("train-*/best"))]
    if not found:
        raise ValueError(f"{path}: holds no training; run `nas-train {path}` first")
    if len(found) > 1:
        names = ", ".join(str(folder) for folder in found)
        raise ValueError(f"{path}: holds {len(found)} trainings ({names}); give one of them")
    result = TrainResult(found[0])
    if not result.folder.result.exists():
        raise ValueError(f"{found[0]}: is not finished; rerun its `nas-train` command")
    return result


def _devices(
    result: TrainResult, given: str | DeviceModel | None
) -> tuple[list[DeviceModel], list[str]]:
    """Devices to compare with, and what a user should know of those that are missing."""
    spec = result.architecture
    ops = search_spaces.lower(spec)
    if given is not None:
        comparison.compare(ops, given, 1.0, "", "")  # refuses one that cannot predict
        return [latency_tables.device(given)], []
    found, messages = [], []
    of_search = _targets(StageFolder(result.path.parent))
    costs = spec.found.cost if spec.found else {}
    for name in (name for name, cost in costs.items() if cost.unit == "ms"):
        try:
            one = of_search.get(name) or latency_tables.device(name)
            comparison.compare(ops, one, 1.0, "", "")
            found.append(one)
        except ValueError as error:
            messages.append(f"no prediction of {name}: {error}")
    return found, messages


def _targets(stage: StageFolder) -> dict[str, DeviceModel]:
    """Devices of the targets of a search, which may be files, by their names."""
    try:
        record = yaml_io.load_model(stage.record, RunRecord)
        targets = [target for text in record.config.targets for target in parse_targets(text)]
    except ValueError:  # not in the folder of a search, or its device files have moved
        return {}
    return {target.device.name: target.device for target in targets}


def _report(folder: TrainFolder, model: pathlib.Path, record: ExportRecord) -> list[str]:
    """Add an export to the report of its training; messages where that is not possible."""
    from nas.report import training as report

    try:
        if not model.absolute().is_relative_to(folder.exports.absolute()):
            name = f"{record.file.replace('/', '.')}.yaml"
            text = yaml_io.to_yaml(record, defaults=True)
            files.write_atomically(folder.exports / "elsewhere" / name, text)
        report.write(folder)
    except OSError as error:
        return [f"{folder.page}: not written ({error.strerror or error})"]
    return []


def _subject(result: TrainResult, data: Any, samples: int) -> tuple[Any, Any]:
    """(data set, subject of the export)."""
    from nas.exporters.formats import Subject
    from nas.exporters.metadata import ModelInfo

    record, network = result.record, result.network
    dataset = load.load_dataset(record.data if data is None else data, network.spec.resolution)
    if data is None and dataset.fingerprint != record.dataset_hash:
        raise ValueError(
            f"`data`: {record.data} has changed since the training (fingerprint "
            f"{dataset.fingerprint[:12]}, then {record.dataset_hash[:12]}); give the data"
        )
    if dataset.class_names != record.classes:
        raise ValueError(
            f"`data`: its classes are {', '.join(dataset.class_names[:5])} ..., the network was "
            f"trained for {', '.join(record.classes[:5])} ..."
        )
    index = np.linspace(0, len(dataset.train) - 1, min(samples, len(dataset.train))).astype(int)
    examples = dataset.train.read(index)
    if len(index) > 1 and len(np.unique(examples.labels)) == 1:
        index = np.random.default_rng(0).permutation(len(dataset.train))[:samples]
        examples = dataset.train.read(index)
    if len(np.unique(examples.labels)) == 1 and len(record.classes) > 1:
        name = record.classes[int(examples.labels[0])]
        raise ValueError(
            f"`samples`: all {len(index)} images for the calibration are of class {name!r}; their "
            "ranges are not those of the other classes; give more, or other `data`"
        )
    info = ModelInfo(
        name=network.spec.name,
        description=f"Classifies images into {len(record.classes)} classes.",
        classes=record.classes,
        mean=network.mean,
        std=network.std,
        size=network.spec.resolution,
        architecture=yaml_io.to_yaml(network.spec),
        provenance={
            "data": record.data,
            "dataset_hash": record.dataset_hash,
            "architecture": record.architecture,
            "seed": str(record.seed),
            "test_accuracy": f"{result.measures.test['accuracy']:.4f}",
            **record.versions,
        },
    )
    epsilon = network.config.norm_epsilon
    subject = Subject(network.spec, network.params, network.stats, epsilon, info, examples.images)
    return dataset, subject
