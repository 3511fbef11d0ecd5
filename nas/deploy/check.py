"""What a TFLite model does, in the words of the lowering: a check that an export is the network that was meant."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

from nas.deploy.litert import TfliteOp, operations
from search_spaces import ArchSpec, OpCall, lower_by_block
from search_spaces.ops import Activation, OpKind


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation, as far as a lowering and a model file both know it.

    Attributes:
      kind: as of `OpCall`; a 1x1 convolution of one pixel counts as fully_connected.
      weights: elements of its kernel.
      outputs: elements of its output.
      activation: fused into it, or behind it.
    """

    kind: OpKind
    weights: int
    outputs: int
    activation: Activation

    def __str__(self) -> str:
        more = "" if self.activation == "none" else f" {self.activation}"
        return f"{self.kind}{more} ({self.weights} weights, {self.outputs} outputs)"


def difference(spec: ArchSpec, tflite: bytes) -> str | None:
    """Where a model is not what `lower(spec)` says, in one line; None where it is.

    Blocks must follow each other as in the spec. Inside a block the order is the converter's: it computes keys and
    values before queries, and a sum does not care.
    """
    found = list(steps(operations(tflite)))
    for index, ops in enumerate(lower_by_block(spec)):
        wanted = collections.Counter(map(expected, ops))
        got = collections.Counter(found[: len(ops)])
        del found[: len(ops)]
        if wanted != got:
            missing, extra = (", ".join(map(str, many)) or "nothing" for many in (wanted - got, got - wanted))
            return f"blocks[{index}] ({spec.blocks[index].kind}): the model lacks {missing}; instead it has {extra}"
    return f"the model has {len(found)} more operations than {spec.name}: {found[0]} ..." if found else None


def expected(op: OpCall) -> Step:
    """The step that an operation of a lowering should become."""
    kind: OpKind = op.kind
    if kind == "conv2d" and op.kernel == op.input.height == op.input.width == 1:
        kind = "fully_connected"
    return Step(kind, op.weights, op.output.elements, op.activation)


def steps(ops: Sequence[TfliteOp]) -> tuple[Step, ...]:
    """A model's operations in the words of a lowering.

    | TFLite | kind |
    |---|---|
    | CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED with constant weights | conv2d, depthwise_conv2d, fully_connected |
    | BATCH_MATMUL, FULLY_CONNECTED of two activations | matmul |
    | MUL and ADD of a constant a channel | batch_norm |
    | MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, MUL, ADD | layer_norm |
    | MUL or DIV, ADD of two activations | mul, add |
    | SOFTMAX, MEAN, AVERAGE_POOL_2D, MAX_POOL_2D, CONCATENATION, RESIZE_BILINEAR | as they say |
    | RELU, RELU6, GELU, HARD_SWISH, LOGISTIC, LOGISTIC and MUL, RELU6 and MUL of a constant | activation before them |
    | RESHAPE, TRANSPOSE, SLICE, PADV2, QUANTIZE (to another scale) | none: they only move data |

    Raises:
      ValueError: for an operation that is none of these.
    """
    rest = [op for op in ops if op.name not in _MOVES]
    out: list[Step] = []
    while rest:
        taken = 1
        if tuple(op.name for op in rest[: len(_LAYER_NORM)]) == _LAYER_NORM:
            taken = len(_LAYER_NORM)
            out.append(Step("layer_norm", 0, _elements(rest[taken - 1]), "none"))
        elif _is_batch_norm(rest):
            taken = 2
            out.append(Step("batch_norm", 0, _elements(rest[1]), "none"))
        elif out and (found := _activation(rest, out[-1])):
            taken, activation = found
            out[-1] = dataclasses.replace(out[-1], activation=activation)
        else:
            out.append(_step(rest[0]))
        del rest[:taken]
    return tuple(out)


_MOVES = {"RESHAPE", "TRANSPOSE", "SLICE", "PADV2", "QUANTIZE"}
_LAYER_NORM = ("MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL", "MUL", "ADD")
_ACTIVATIONS: dict[str, Activation] = {
    "NONE": "none",
    "RELU": "relu",
    "RELU6": "relu6",
    "GELU": "gelu",
    "HARD_SWISH": "hard_swish",
    "LOGISTIC": "sigmoid",
}
_KINDS: dict[str, OpKind] = {
    "CONV_2D": "conv2d",
    "DEPTHWISE_CONV_2D": "depthwise_conv2d",
    "FULLY_CONNECTED": "fully_connected",
    "BATCH_MATMUL": "matmul",
    "SOFTMAX": "softmax",
    "MEAN": "mean",
    "AVERAGE_POOL_2D": "avg_pool",
    "MAX_POOL_2D": "max_pool",
    "RESIZE_BILINEAR": "resize",
    "ADD": "add",
    "MUL": "mul",
    "DIV": "mul",
    "CONCATENATION": "concat",
}


def _step(op: TfliteOp) -> Step:
    if op.name not in _KINDS:
        raise ValueError(f"the model has an operation that no lowering has: {op.name} of {op.inputs}")
    kind, weights, outputs = _KINDS[op.name], 0, _elements(op)
    if op.name == "FULLY_CONNECTED" and not op.reads[1].constant:
        kind = "matmul"
    elif kind in ("conv2d", "depthwise_conv2d", "fully_connected"):
        shape = op.inputs[1]
        weights = math.prod(shape)
        one_pixel = outputs == op.outputs[0][-1]
        if kind == "conv2d" and one_pixel and shape[1:3] == (1, 1) == op.inputs[0][1:3]:
            kind = "fully_connected"
        elif kind == "fully_connected" and not one_pixel:
            kind = "conv2d"
    return Step(kind, weights, outputs, _ACTIVATIONS[op.activation])


def _is_batch_norm(ops: Sequence[TfliteOp]) -> bool:
    if [op.name for op in ops[:2]] != ["MUL", "ADD"]:
        return False
    channels = ops[0].outputs[0][-1]
    constants = [[math.prod(tensor.shape) for tensor in op.reads if tensor.constant] for op in ops[:2]]
    return constants == [[channels], [channels]] and ops[0].writes[0] in ops[1].reads


def _activation(ops: Sequence[TfliteOp], before: Step) -> tuple[int, Activation] | None:
    """(operations that it takes, activation) of an activation that stands by itself, or None."""
    op = ops[0]
    behind = ops[1] if len(ops) > 1 else None
    if op.name == "LOGISTIC" and behind and behind.name == "MUL" and {*behind.reads} == {op.reads[0], op.writes[0]}:
        return 2, "swish"
    if op.name in _ACTIVATIONS:
        return 1, _ACTIVATIONS[op.name]
    constants = [math.prod(tensor.shape) for tensor in op.reads if tensor.constant]
    if op.name == "MUL" and constants == [1] and before.activation == "relu6":
        return 1, "hard_sigmoid"
    return None


def _elements(op: TfliteOp) -> int:
    return math.prod(op.outputs[0])
