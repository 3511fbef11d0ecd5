"""TFLite files of anyone, to measure: their contents, and the network that they are, if known."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
from typing import Any

from nas.exporters import check, delegate, litert, metadata
from nas.exporters.contents import Contents, contents
from nas.exporters.delegate import LeftOut
from nas.exporters.record import ExportRecord, sidecar_of
from nas.exporters.tflite import Dtype
from nas.measurement.models import network_model
from search_spaces import ArchSpec, yaml_io

_IDENTIFIER = b"TFL3"
_ENDINGS = (".tflite", ".lite")


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A TFLite model to measure.

    Attributes:
      label: Name of its file as given, or of its network.
      tflite: The model.
      contents: Its contents.
      inputs: Type, shape and name of each input, as text.
      spec: The network that it is; None where that is not known.
      notes: What is not as usual, a sentence each.
    """

    label: str
    tflite: bytes
    contents: Contents
    inputs: tuple[str, ...]
    spec: ArchSpec | None = None
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the model."""
        return hashlib.sha256(self.tflite).hexdigest()

    @functools.cached_property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Operators that run outside XNNPACK, by block where the network is known."""
        return delegate.left_out(self.tflite, self.spec)

    @property
    def why_not_joining(self) -> str:
        """Why its time cannot join a table of networks; "" if it can."""
        if self.spec is None:
            return "its network is not known"
        if self.contents.dtype not in ("int8", "float32", "float16"):
            return f"tables have no type {self.contents.dtype!r}"
        ends = "int8" if self.contents.dtype == "int8" else "float32"
        if any(text.split()[0] != ends for text in self.inputs):
            return "its conversions of inputs and outputs are not operations of the network"
        return ""


def is_model_file(item: object) -> bool:
    """Whether something given to measure is a TFLite file, or is meant to be one.

    Args:
      item: Name or path of a network or file, or anything else.

    Raises:
      ValueError: It is a file of neither kind.
    """
    if not isinstance(item, str | os.PathLike):
        return False
    path = pathlib.Path(item)
    if path.suffix.lower() in _ENDINGS:
        return True
    if path.suffix.lower() in (".yaml", ".yml") or not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(8)[4:] == _IDENTIFIER:
            return True
    raise ValueError(f"{item}: is neither a TFLite file nor the YAML file of a network")


def read(path: str | os.PathLike[str]) -> Model:
    """Read a TFLite file.

    Args:
      path: The file.

    Returns:
      The model. The network is that of its metadata, if the operators agree with it.

    Raises:
      ValueError: No such file, not a TFLite file, one that is damaged or not that of its record, or
        one that LiteRT cannot run, with the operator.
      nas.exporters.litert.MissingExtra: LiteRT is not installed.
    """
    label, path = str(path), pathlib.Path(path)
    try:
        tflite = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{label}: cannot be read: {error.strerror}") from None
    _check_record(label, path, tflite)
    if tflite[4:8] != _IDENTIFIER:
        what = "is empty" if not tflite else f"is not a TFLite file (it begins with {tflite[:8]!r})"
        raise ValueError(f"{label}: {what}")
    interpreter, notes = _opened(label, tflite)
    inputs = tuple(
        f"{_type_name(one['dtype'])} {[*map(int, one['shape'])]} {one['name']}"
        for one in interpreter.get_input_details()
    )
    spec, more = _network(tflite)
    return Model(label, tflite, contents(tflite), inputs, spec, (*notes, *more))


def of_network(spec: ArchSpec, dtype: Dtype) -> Model:
    """Make the model of a network, with random weights.

    Args:
      spec: The network.
      dtype: Type of the model.

    Returns:
      The model.

    Raises:
      ValueError: The network cannot be a model of that type.
    """
    tflite = network_model(spec, dtype)
    shape = [1, spec.resolution, spec.resolution, spec.input_channels]
    ends = "int8" if dtype == "int8" else "float32"
    notes = ("random weights",)
    return Model(spec.name, tflite, contents(tflite), (f"{ends} {shape} image",), spec, notes)


def _check_record(label: str, path: pathlib.Path, tflite: bytes) -> None:
    """Refuse a file of ours that is not the one that its record describes."""
    sidecar = sidecar_of(path)
    if not sidecar.exists():
        return
    try:
        record = yaml_io.load_model(sidecar, ExportRecord)
    except ValueError:
        return  # a YAML file of someone else
    if hashlib.sha256(tflite).hexdigest() != record.sha256:
        raise ValueError(
            f"{label}: is not the file that {sidecar.name} describes ({len(tflite)} bytes, there "
            f"{record.bytes}): cut off or changed since its export; copy or export it again"
        )


def _opened(label: str, tflite: bytes) -> tuple[Any, tuple[str, ...]]:
    """Interpreter of a model, with a batch of 1, and notes."""
    try:
        interpreter = litert.interpreter(tflite)
    except litert.MissingExtra:
        raise
    except ValueError as error:
        raise ValueError(f"{label}: {_reason(str(error))}") from None
    dynamic = False
    for one in interpreter.get_input_details():
        open_axes = [axis for axis, size in enumerate(one["shape_signature"]) if size < 0]
        if open_axes == [0]:
            dynamic = True
        elif open_axes:
            raise ValueError(
                f"{label}: its input {one['name']!r} has sizes that are not fixed, "
                f"{[*map(int, one['shape_signature'])]}; convert it again with fixed sizes"
            )
        batch = int(one["shape"][0]) if len(one["shape"]) else 1
        if dynamic and batch != 1:
            raise ValueError(
                f"{label}: its input {one['name']!r} has an open batch and is stored with "
                f"{batch}; convert it again with a batch of 1"
            )
    notes = ("its batch is open, and set to 1",) if dynamic else ()
    graphs = len(interpreter.get_signature_list())
    if graphs > 1:
        notes += (f"it has {graphs} signatures; the first graph is measured",)
    return interpreter, notes


def _reason(message: str) -> str:
    """LiteRT's message in fewer words, with the operator first."""
    message = message.removeprefix("LiteRT rejects the model: ")
    if "valid Flatbuffer" in message or "out of range offset" in message:
        return f"is damaged or cut off ({message})"
    if match := re.search(r"Node number (\d+) \(([^)]+)\)", message):
        number, name = match.groups()
        why = message[: match.start()].strip()
        if "Select TensorFlow op" in message:
            why = "it is one of TensorFlow's; convert the model to TFLite's own operators"
        elif "edgetpu" in name:
            why = "the file was compiled for an Edge TPU; measure the one that it was made from"
        elif "unresolved custom op" in message:
            why = "it is a custom operator"
        return f"LiteRT cannot run its operator {name} (number {number}): {why}"
    if match := re.search(r"builtin opcode '(\w+)' version '(\d+)'", message):
        return (
            f"LiteRT cannot run its operator {match[1]} in version {match[2]}, which is newer than "
            f"{litert.runtime()}"
        )
    if match := re.search(r"builtin_code out of range: (\d+)", message):
        return f"LiteRT cannot run its operator number {match[1]}, newer than {litert.runtime()}"
    return f"LiteRT cannot run it: {message}"


def _network(tflite: bytes) -> tuple[ArchSpec | None, tuple[str, ...]]:
    """The network that the metadata of a model names, if its operators are that network's."""
    try:
        info = metadata.read(tflite)
    except ValueError:
        return None, ()
    try:
        spec = yaml_io.parse_model(info.architecture, ArchSpec, metadata.INFO)
        different = check.difference(spec, tflite)
    except ValueError as error:
        return None, (f"its metadata cannot be used: {error}",)
    if different:
        return None, (f"its metadata name {spec.name}, but it is another network: {different}",)
    return spec, ()


def _type_name(dtype: Any) -> str:
    return str(getattr(dtype, "__name__", dtype))
