"""The LiteRT packages; only this module imports them, and only when they are needed."""

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
    """Error for a missing package of an extra; as a ValueError it is one line for users."""


def module(name: str) -> Any:
    """Import a module of `ai_edge_litert`, `litert_converter` or `litert_quantizer`.

    Args:
      name: Full name of the module.

    Returns:
      The module.

    Raises:
      MissingExtra: The package is not installed; the message names the extra to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise
        raise MissingExtra(
            f"models for devices require {package}, which is not installed: {EXTRA}"
        ) from None


def runtime() -> str:
    """Name and version of the runtime, e.g. "LiteRT 2.3.0"."""
    module("ai_edge_litert")
    return f"LiteRT {importlib.metadata.version('ai-edge-litert')}"


def interpreter(tflite: bytes, threads: int = 1) -> Any:
    """LiteRT interpreter with XNNPACK (its default on CPUs) and allocated tensors.

    Args:
      tflite: The model.
      threads: Number of threads.

    Returns:
      The interpreter.

    Raises:
      ValueError: LiteRT cannot run the model.
    """
    with _quiet():
        try:
            loaded = module("ai_edge_litert.interpreter").Interpreter(
                model_content=tflite, num_threads=threads
            )
            loaded.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"LiteRT rejects the model: {' '.join(str(error).split())}") from None
    return loaded


def run(tflite: bytes, *inputs: np.ndarray) -> np.ndarray:
    """Run a model once.

    Inputs and output of an INT8 or uint8 model are converted:

    real = (integer - zero_point) * scale

    Args:
      tflite: The model.
      *inputs: float32 arrays, one for each input of the model.

    Returns:
      Its only output as float32.
    """
    return run_with(interpreter(tflite), *inputs)


def run_with(model: Any, *inputs: np.ndarray, output: int | None = None) -> np.ndarray:
    """Run an existing interpreter once; see `run`.

    Args:
      model: Interpreter.
      *inputs: float32 arrays, one for each input of the model.
      output: Position of the output; None for the only one.

    Returns:
      That output as float32.
    """
    for details, values in zip(model.get_input_details(), inputs, strict=True):
        scale, zero = _quantisation(details)
        if np.issubdtype(details["dtype"], np.integer):
            ends = np.iinfo(details["dtype"])
            values = np.clip(np.round(values / scale) + zero, ends.min, ends.max)
        model.set_tensor(
            details["index"], np.asarray(values, details["dtype"]).reshape(details["shape"])
        )
    model.invoke()
    if output is None:
        (details,) = model.get_output_details()
    else:
        details = model.get_output_details()[output]
    scale, zero = _quantisation(details)
    values = model.get_tensor(details["index"]).astype(np.float32)
    quantised = np.issubdtype(details["dtype"], np.integer)
    return (values - zero) * np.float32(scale) if quantised else values


def _quantisation(details: Any) -> tuple[float, int]:
    """(scale, zero point) of a tensor; integers without a scale stand for themselves."""
    scale, zero = details["quantization"]
    return scale or 1.0, zero


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Input or output of an operation of a model.

    Attributes:
      number: Index in the model's list of tensors.
      shape: Shape; () for a scalar.
      constant: Whether the model contains its values.
      dtype: TFLite's name of its type, e.g. "INT8".
    """

    number: int
    shape: tuple[int, ...]
    constant: bool
    dtype: str


@dataclasses.dataclass(frozen=True)
class TfliteOp:
    """One operation of a TFLite model, as its file lists it.

    Attributes:
      name: TFLite's name, e.g. "CONV_2D"; of a custom operation the name in the file.
      reads: Input tensors, without optional ones that are left out.
      writes: Output tensors.
      activation: TFLite's name of the fused activation, e.g. "RELU", or "NONE".
    """

    name: str
    reads: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    activation: str

    @property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the input tensors."""
        return tuple(tensor.shape for tensor in self.reads)

    @property
    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the output tensors."""
        return tuple(tensor.shape for tensor in self.writes)


def operations(tflite: bytes) -> tuple[TfliteOp, ...]:
    """List the operations of a model in the order in which they run, without any delegate.

    Args:
      tflite: The model.

    Returns:
      The operations.
    """
    schema = module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(tflite, 0)
    kinds, dtypes, activations = (
        {number: name for name, number in vars(enum).items() if isinstance(number, int)}
        for enum in (schema.BuiltinOperator, schema.TensorType, schema.ActivationFunctionType)
    )
    graph = model.subgraphs[0]

    def tensors(numbers: Sequence[int] | None) -> tuple[Tensor, ...]:
        out = []
        for number in map(int, () if numbers is None else numbers):
            if number >= 0:
                tensor = graph.tensors[number]
                shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
                buffer = model.buffers[tensor.buffer]
                # Large constants are outside the buffer, which then only has a size.
                constant = buffer.size > 0 or (buffer.data is not None and len(buffer.data) > 0)
                out.append(Tensor(number, shape, constant, dtypes.get(tensor.type, "?")))
        return tuple(out)

    out = []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = kinds.get(number, f"operation {number}")
        if code.customCode:
            name = code.customCode.decode("utf-8", "replace")
        fused = activations[getattr(op.builtinOptions, "fusedActivationFunction", 0)]
        out.append(TfliteOp(name, tensors(op.inputs), tensors(op.outputs), fused))
    return tuple(out)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context that discards the standard error of the process.

    LiteRT reports its delegate there, bypassing Python; its errors are exceptions, too.
    """
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
