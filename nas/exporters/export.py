"""Exports: a model is written, checked, and only then given its name."""

from __future__ import annotations

import hashlib
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np

from nas.exporters import check, delegate, litert
from nas.exporters.formats import FORMATS, Exported, Subject
from search_spaces import files, yaml_io
from search_spaces.frozen import FrozenModel

PARITY = 1e-5
"""Largest difference of a float32 model's logits, as a share of their range."""

ALLOWED_LOSS = 0.01
"""Accuracy that a model may lose against the network."""

_COMPARED = 32  # images on which logits are compared
_FEW = 500  # held-out images below which a loss is mostly chance
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_ROUNDS, _SECONDS = 5, 0.3  # of timing, each


class ExportRecord(FrozenModel):
    """The YAML file beside an exported model: what it is, and how it was checked.

    Attributes:
      format: Name of the format.
      file: Name of the model's file.
      bytes: Its size.
      sha256: Its hash.
      network: Name of the network.
      classes: Names of the classes, in the order of the outputs.
      size: Height and width of its images.
      mean: Mean of images / 255 that is subtracted; a uint8 model takes raw pixels.
      std: Standard deviation of images / 255 that divides after that.
      runtime: What ran the model for the checks; none if it was not run.
      difference: Largest difference of its logits from the network's, as a share of their range.
      images: Held-out images on which both were evaluated.
      float_accuracy: Accuracy of the network in float32.
      accuracy: Accuracy of the model.
      agreement: Share of the images to which both give the same class.
      milliseconds: Median time of an image, one thread of this machine.
      float_milliseconds: The same of the float32 model, timed in turn.
      left_out: Operations that XNNPACK does not take.
      warnings: What a user should know.
    """

    format: str
    file: str
    bytes: int
    sha256: str
    network: str
    classes: tuple[str, ...]
    size: int
    mean: float
    std: float
    runtime: str | None = None
    difference: float | None = None
    images: int = 0
    float_accuracy: float | None = None
    accuracy: float | None = None
    agreement: float | None = None
    milliseconds: float | None = None
    float_milliseconds: float | None = None
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def export(
    subject: Subject,
    format: str,
    folder: pathlib.Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    allow_loss: float = ALLOWED_LOSS,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[pathlib.Path, ExportRecord]:
    """Write a network in a format, check it, and give the files their names.

    Args:
      subject: The network.
      format: A key of `FORMATS`.
      folder: Folder of the files, which are called NETWORK.FORMAT.
      images: uint8 [n, h, w, c], held-out images.
      labels: [n], their classes.
      allow_loss: Accuracy that the model may lose, 0..1.
      progress: Called with what is being done.

    Returns:
      Path of the model, and its record, which lies beside it.

    Raises:
      ValueError: No such format, a missing extra, a network that the format cannot hold, or a
        check that fails; then nothing is written.
    """
    write = FORMATS.get(format)
    progress("convert")
    exported = write(subject)
    record, problems = _checked(subject, exported, format, images, labels, allow_loss, progress)
    if problems:
        raise ValueError(f"{format} of {subject.spec.name}: {'; '.join(problems)}; nothing written")
    paths = _keep(folder, subject.spec.name, exported.files)
    sidecar = paths[0].with_name(f"{record.file.replace('/', '.')}.yaml")
    files.write_atomically(sidecar, yaml_io.to_yaml(record, defaults=True))
    return paths[0], record


def _checked(
    subject: Subject,
    exported: Exported,
    format: str,
    images: np.ndarray,
    labels: np.ndarray,
    allow_loss: float,
    progress: Callable[[str], None],
) -> tuple[ExportRecord, list[str]]:
    """The record of a model, and why it must not be kept."""
    problems, warnings = [], []
    (ending, model), *_ = exported.files.items()
    fields: dict = {}
    if exported.tflite:
        progress("compare operations")
        if difference := check.difference(subject.spec, exported.tflite):
            problems.append(f"its operations are not the network's: {difference}")
    if exported.run is None:
        warnings.append(f"not run: {exported.runtime} is not installed")
    else:
        progress(f"evaluate on {len(images)} images")
        wanted, got = subject.run(images), exported.run(images)
        few = slice(0, _COMPARED)
        spread = max(float(np.ptp(wanted[few])), 1e-30)
        difference = float(np.abs(got[few] - wanted[few]).max()) / spread
        right = (wanted.argmax(1) == labels).mean(), (got.argmax(1) == labels).mean()
        loss = float(right[0] - right[1])
        fields = {
            "runtime": exported.runtime,
            "difference": float(f"{difference:.3g}"),
            "images": len(images),
            "float_accuracy": round(float(right[0]), 4),
            "accuracy": round(float(right[1]), 4),
            "agreement": round(float((wanted.argmax(1) == got.argmax(1)).mean()), 4),
        }
        if not np.isfinite(got).all():
            problems.append("its outputs are not finite")
        elif exported.exact and difference > PARITY:
            problems.append(
                f"its logits differ by {difference:.1e} of their range, at most {PARITY:.0e} is "
                "rounding"
            )
        elif loss > allow_loss:
            problems.append(
                f"accuracy {right[1]:.4f} instead of {right[0]:.4f} on {len(images)} held-out "
                f"images, a loss of {100 * loss:.1f} points where {100 * allow_loss:.1f} are "
                "allowed; give `allow_loss` if you know better"
            )
        if len(images) < _FEW and not exported.exact:
            warnings.append(f"{len(images)} held-out images show no small loss: use {_FEW} or more")
    if exported.tflite and not problems:
        progress("time it")
        fields |= _timed(subject, exported.tflite)
        # Conversions at the ends of a uint8 model are a pass over one image.
        outside = delegate.left_out(exported.tflite, subject.spec)
        left = [item for item in outside if item.name not in _CONVERSIONS]
        fields["left_out"] = tuple(map(str, left))
        if left:
            warnings.append(
                "XNNPACK leaves out "
                + ", ".join(f"{item} ({_kind(subject, item.block)})" for item in left)
            )
        ours, float32 = fields["milliseconds"], fields["float_milliseconds"]
        if "int8" in format and ours > 0.95 * float32:
            warnings.append(
                f"INT8 is not faster than float32 on this machine ({ours:.3g} against "
                f"{float32:.3g} ms); it pays where a device has integer units"
            )
    record = ExportRecord(
        format=format,
        file=_file_name(subject.spec.name, ending),
        bytes=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
        network=subject.spec.name,
        classes=subject.info.classes,
        size=subject.info.size,
        mean=subject.info.mean,
        std=subject.info.std,
        warnings=tuple(warnings),
        **fields,
    )
    return record, problems


def _kind(subject: Subject, block: int | None) -> str:
    return "?" if block is None else str(subject.spec.blocks[block].kind)


def _timed(subject: Subject, model: bytes) -> dict[str, float]:
    """Median milliseconds of a model and of the float32 one, in turn, a thread each."""
    interpreters = [litert.interpreter(file) for file in (model, subject.float32_tflite)]
    for interpreter in interpreters:
        (details,) = interpreter.get_input_details()
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
        interpreter.invoke()
    rounds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for times, interpreter in zip(rounds, interpreters, strict=True):
            begun, count = time.perf_counter(), 0
            while time.perf_counter() - begun < _SECONDS:
                interpreter.invoke()
                count += 1
            times.append((time.perf_counter() - begun) / count * 1000)
    ours, float32 = (float(f"{statistics.median(times):.4g}") for times in rounds)
    return {"milliseconds": ours, "float_milliseconds": float32}


def _file_name(network: str, ending: str) -> str:
    return f"{network}-{ending}" if "/" in ending else f"{network}.{ending}"


def _keep(folder: pathlib.Path, network: str, contents: dict[str, bytes]) -> list[pathlib.Path]:
    """Write all files under temporary names, then rename all of them."""
    pairs: list[tuple[str, pathlib.Path]] = []
    try:
        for ending, content in contents.items():
            path = folder / _file_name(network, ending)
            with files.writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
                pairs.append((temporary, path))
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
        for temporary, path in pairs:
            with files.writing(path):
                os.replace(temporary, path)
    finally:
        for temporary, _ in pairs:
            pathlib.Path(temporary).unlink(missing_ok=True)
    return [path for _, path in pairs]
