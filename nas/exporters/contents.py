"""Contents of any TFLite model: operators, multiply-accumulates, type. Needs no network's spec."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from nas.exporters import litert
from nas.exporters.litert import TfliteOp

_OF_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")


@dataclasses.dataclass(frozen=True)
class Contents:
    """Contents of a model.

    Attributes:
      operators: {name: number of these operators}, the most frequent first.
      macs: Multiply-accumulates of one run, without those of `uncounted`.
      uncounted: Names of operators whose multiply-accumulates the file does not state.
      dtype: Type of weights and activations in our words, e.g. "int8" or "float16"; for other
        mixtures a description.
    """

    operators: Mapping[str, int]
    macs: int
    uncounted: tuple[str, ...]
    dtype: str


def contents(tflite: bytes) -> Contents:
    """Look through a model that LiteRT accepts.

    Convolutions, dense layers and products of activations have multiply-accumulates, as in
    `search_spaces.macs` and `attention_macs`; elementwise operators have none.

    Args:
      tflite: The model.

    Returns:
      Its contents; of several graphs those of the first, which a call runs.
    """
    ops = litert.operations(tflite)
    counts = collections.Counter(op.name for op in ops)
    builtin = set(vars(litert.module("ai_edge_litert.schema_py_generated").BuiltinOperator))
    return Contents(
        operators=dict(counts.most_common()),
        macs=sum(_MACS[op.name](op) for op in ops if op.name in _MACS),
        uncounted=tuple(
            name for name in counts if name not in builtin or name.startswith(_UNCOUNTED)
        ),
        dtype=_dtype(ops),
    )


def _conv(op: TfliteOp) -> int:
    """Weights [o, h, w, i of a group]."""
    return _elements(op.outputs[0]) * _elements(op.inputs[1][1:])


def _depthwise(op: TfliteOp) -> int:
    """Weights [1, h, w, o]."""
    return _elements(op.outputs[0]) * _elements(op.inputs[1][1:3])


def _transposed(op: TfliteOp) -> int:
    """Inputs are the shape of the output, weights [o, h, w, i], and the image."""
    o, h, w, _ = op.inputs[1]
    return _elements(op.inputs[2]) * o * h * w


def _conv_3d(op: TfliteOp) -> int:
    """Weights [d, h, w, i, o]."""
    return _elements(op.outputs[0]) * _elements(op.inputs[1][:4])


def _product(op: TfliteOp) -> int:
    """[.., m, k] and [.., k, n], either of which may be stored transposed."""
    m = op.outputs[0][-2]
    first, second = op.inputs[0][-2:]
    return _elements(op.outputs[0]) * (second if first == m else first)


_MACS: dict[str, Callable[[TfliteOp], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _conv,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _conv_3d,
    "BATCH_MATMUL": _product,
}
# Recurrent layers and other graphs; STABLEHLO_ may be a convolution.
_UNCOUNTED = (
    *("LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_", "BIDIRECTIONAL_", "CONV_3D_TRANSPOSE"),
    *("CALL", "IF", "WHILE", "CUSTOM", "DELEGATE", "STABLEHLO_"),
)


def _elements(shape: Sequence[int]) -> int:
    return math.prod(shape)


def _dtype(ops: Sequence[TfliteOp]) -> str:
    """Types of weights and activations, each that of most elements.

    A weight that DEQUANTIZE makes of a constant has the type of that constant.
    """
    stored = {
        tensor.number: op.reads[0].dtype
        for op in ops
        if op.name == "DEQUANTIZE" and op.reads[0].constant
        for tensor in op.writes
    }
    weights: collections.Counter[str] = collections.Counter()
    activations: collections.Counter[str] = collections.Counter()
    for op in ops:
        if op.name in _OF_WEIGHTS and len(op.reads) > 1:
            tensor = op.reads[1]
            if tensor.constant or tensor.number in stored:
                dtype = stored.get(tensor.number, tensor.dtype)
                weights[dtype] += _elements(tensor.shape)
        for tensor in op.writes:
            if tensor.number not in stored:
                activations[tensor.dtype] += _elements(tensor.shape)
    of_activations = activations.most_common(1)[0][0].lower() if activations else "?"
    of_weights = weights.most_common(1)[0][0].lower() if weights else of_activations
    if of_weights == of_activations:
        return of_weights
    if (of_weights, of_activations) == ("float16", "float32"):
        return "float16"
    return f"{of_activations} with {of_weights} weights"
