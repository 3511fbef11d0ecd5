"""Exports: a model is written, checked, and only then given its name."""

from __future__ import annotations

import hashlib
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

from latency_tables import DeviceModel
from latency_tables.comparison import compare
from nas.exporters import check, delegate, litert
from nas.exporters.contents import contents
from nas.exporters.formats import FORMATS, PACKAGE, Exported, Subject
from nas.exporters.record import ExportRecord, sidecar_of
from nas.host.processor import processor
from search_spaces import files, lower, yaml_io

PARITY = 1e-5
"""Largest difference of a float32 model's logits, as a share of their range."""

ALLOWED_LOSS = 0.01
"""Accuracy that a model may lose against the network."""

_COMPARED = 32  # images on which logits are compared
_FEW = 500  # held-out images below which a loss is mostly chance
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_ROUNDS, _SECONDS = 5, 0.3  # of timing, each


def export(
    subject: Subject,
    format: str,
    folder: pathlib.Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    allow_loss: float = ALLOWED_LOSS,
    devices: Sequence[DeviceModel] = (),
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
      devices: Devices whose predictions stand beside the time of a TFLite model.
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
    record, problems = _checked(
        subject, exported, format, images, labels, allow_loss, devices, progress
    )
    if problems:
        raise ValueError(f"{format} of {subject.spec.name}: {'; '.join(problems)}; nothing written")
    path, *_ = _keep(folder, subject.spec.name, exported.files)
    if record.file.endswith(f".{PACKAGE}"):
        path = folder / record.file
    sidecar = sidecar_of(path, record.file)
    files.write_atomically(sidecar, yaml_io.to_yaml(record, defaults=True))
    return path, record


def _checked(
    subject: Subject,
    exported: Exported,
    format: str,
    images: np.ndarray,
    labels: np.ndarray,
    allow_loss: float,
    devices: Sequence[DeviceModel],
    progress: Callable[[str], None],
) -> tuple[ExportRecord, list[str]]:
    """The record of a model, and why it must not be kept."""
    problems, warnings = [], []
    name, model_files = _model(subject.spec.name, exported.files)
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
        fields["processor"] = processor()
        dtype, ops = contents(exported.tflite).dtype, lower(subject.spec)
        fields["predictions"] = tuple(
            compare(ops, device, fields["milliseconds"], fields["processor"], dtype)
            for device in devices
        )
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
        file=name,
        bytes=sum(map(len, model_files)),
        sha256=_hash(model_files),
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
            end, count = time.perf_counter() + _SECONDS, 0
            # Time that the one thread ran: on a busy machine the others would count otherwise.
            begun = time.thread_time()
            while not count or time.perf_counter() < end:
                interpreter.invoke()
                count += 1
            times.append((time.thread_time() - begun) / count * 1000)
    ours, float32 = (float(f"{statistics.median(times):.4g}") for times in rounds)
    return {"milliseconds": ours, "float_milliseconds": float32}


def _model(network: str, files: dict[str, bytes]) -> tuple[str, list[bytes]]:
    """Name of a model, and what its bytes are: those of one file, or of all files of a package."""
    ending, content = next(iter(files.items()))
    if ending.startswith(f"{PACKAGE}/"):
        return f"{network}.{PACKAGE}", [files[name] for name in sorted(files)]
    return _file_name(network, ending), [content]


def _hash(model_files: list[bytes]) -> str:
    hashes = [hashlib.sha256(content) for content in model_files]
    if len(hashes) == 1:
        return hashes[0].hexdigest()
    return hashlib.sha256(b"".join(each.digest() for each in hashes)).hexdigest()


def _file_name(network: str, ending: str) -> str:
    is_folder = "/" in ending and not ending.startswith(f"{PACKAGE}/")
    return f"{network}-{ending}" if is_folder else f"{network}.{ending}"


def _keep(folder: pathlib.Path, network: str, new: dict[str, bytes]) -> list[pathlib.Path]:
    """Write all files under temporary names, then rename all of them."""
    pairs: list[tuple[str, pathlib.Path]] = []
    try:
        for ending, content in new.items():
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
