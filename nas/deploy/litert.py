"""The LiteRT packages: imported here only, and only when something needs them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

EXTRA = "pip install 'mnv4-nas[export]'"


class MissingExtra(ImportError, ValueError):
    """LiteRT is not installed: an ImportError, and for commands a user's mistake like any other."""


def module(name: str) -> Any:
    """A module of `ai_edge_litert`, `litert_converter` or `litert_quantizer`.

    Raises:
      MissingExtra: (an ImportError) one line, with the extra to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise
        raise MissingExtra(f"models for devices need {package}, which is not installed: {EXTRA}") from None


def runtime() -> str:
    """Name and version of what runs the models, e.g. "LiteRT 2.3.0"."""
    module("ai_edge_litert")
    return f"LiteRT {importlib.metadata.version('ai-edge-litert')}"


def interpreter(tflite: bytes, threads: int = 1) -> Any:
    """A LiteRT interpreter with XNNPACK (its default on CPUs), its tensors allocated.

    Raises:
      ValueError: if the model cannot be run.
    """
    with _quiet():
        try:
            loaded = module("ai_edge_litert.interpreter").Interpreter(model_content=tflite, num_threads=threads)
            loaded.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"LiteRT refuses the model: {' '.join(str(error).split())}") from None
    return loaded


def run(tflite: bytes, *inputs: np.ndarray) -> np.ndarray:
    """The output of a model, float32, for float32 inputs; those of an INT8 model are quantised on the way.

    real = (int8 - zero_point) * scale
    """
    return run_with(interpreter(tflite), *inputs)


def run_with(model: Any, *inputs: np.ndarray) -> np.ndarray:
    """As `run`, of an `interpreter` that is there already."""
    for details, values in zip(model.get_input_details(), inputs, strict=True):
        scale, zero = details["quantization"]
        if details["dtype"] is np.int8:
            values = np.clip(np.round(values / scale) + zero, -128, 127)
        model.set_tensor(details["index"], np.asarray(values, details["dtype"]).reshape(details["shape"]))
    model.invoke()
    (details,) = model.get_output_details()
    scale, zero = details["quantization"]
    values = model.get_tensor(details["index"]).astype(np.float32)
    return (values - zero) * np.float32(scale) if details["dtype"] is np.int8 else values


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What an operation of a model reads or writes.

    Attributes:
      number: its place in the model.
      shape: its axes; () of a scalar.
      constant: whether the model contains its values.
      dtype: TFLite's name of it, e.g. "INT8".
    """

    number: int
    shape: tuple[int, ...]
    constant: bool
    dtype: str


@dataclasses.dataclass(frozen=True)
class TfliteOp:
    """One operation of a TFLite model, as its file lists it.

    Attributes:
      name: TFLite's, e.g. "CONV_2D".
      reads, writes: its tensors; inputs that are left out are missing.
      activation: fused, TFLite's name of it, e.g. "RELU"; "NONE" where there is none.
    """

    name: str
    reads: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    activation: str

    @property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of what it reads."""
        return tuple(tensor.shape for tensor in self.reads)

    @property
    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of what it writes."""
        return tuple(tensor.shape for tensor in self.writes)


def operations(tflite: bytes) -> tuple[TfliteOp, ...]:
    """The operations of a model, in the order in which they run, before any delegate takes them."""
    schema = module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(tflite, 0)
    kinds, dtypes, activations = (
        {number: name for name, number in vars(enum).items() if isinstance(number, int)}
        for enum in (schema.BuiltinOperator, schema.TensorType, schema.ActivationFunctionType)
    )
    graph = model.subgraphs[0]

    def tensors(numbers: Sequence[int]) -> tuple[Tensor, ...]:
        out = []
        for number in map(int, numbers):
            if number >= 0:
                tensor = graph.tensors[number]
                shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
                buffer = model.buffers[tensor.buffer]
                constant = buffer.size > 0 or (buffer.data is not None and len(buffer.data) > 0)  # large ones lie apart
                out.append(Tensor(number, shape, constant, dtypes[tensor.type]))
        return tuple(out)

    out = []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        name = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        fused = activations[getattr(op.builtinOptions, "fusedActivationFunction", 0)]
        out.append(TfliteOp(name, tensors(op.inputs), tensors(op.outputs), fused))
    return tuple(out)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """LiteRT writes about its delegate to the process's standard error, past Python: let it do so elsewhere.

    What goes wrong it raises as well.
    """
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
