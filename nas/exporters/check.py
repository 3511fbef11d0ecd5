"""Check that an exported TFLite model is the network of its spec, operation by operation."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

from nas.exporters.litert import TfliteOp, operations
from search_spaces import ArchSpec, OpCall, lower, lower_by_block
from search_spaces.ops import Activation, OpKind


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation, with the properties that both a lowering and a model file contain.

    Attributes:
      kind: Kind as in `OpCall`; a 1x1 convolution of one pixel counts as fully_connected.
      weights: Number of elements of its kernel.
      outputs: Number of elements of its output.
      activation: Activation that is fused into it or follows it.
    """

    kind: OpKind
    weights: int
    outputs: int
    activation: Activation

    def __str__(self) -> str:
        activation = "" if self.activation == "none" else f" {self.activation}"
        return f"{self.kind}{activation} ({self.weights} weights, {self.outputs} outputs)"


def difference(spec: ArchSpec, tflite: bytes) -> str | None:
    """Compare a model with the lowering of a spec.

    Blocks must be in the spec's order. Inside a block the order may differ: the converter computes
    keys and values before queries, and a sum has no order.

    Args:
      spec: The network that the model should be.
      tflite: The model.

    Returns:
      The first difference in one line, or None if there is none.

    Raises:
      ValueError: The model has an operation that no lowering has.
    """
    rest = list(steps(operations(tflite)))
    for index, ops in enumerate(lower_by_block(spec)):
        wanted = collections.Counter(map(expected, ops))
        got = collections.Counter(rest[: len(ops)])
        del rest[: len(ops)]
        if wanted != got:
            missing = ", ".join(map(str, wanted - got)) or "nothing"
            extra = ", ".join(map(str, got - wanted)) or "nothing"
            return (
                f"blocks[{index}] ({spec.blocks[index].kind}): the model lacks {missing}; "
                f"instead it has {extra}"
            )
    if rest:
        return f"the model has {len(rest)} more operations than {spec.name}: {rest[0]} ..."
    return None


def blocks_of(spec: ArchSpec, ops: Sequence[TfliteOp]) -> tuple[int, ...]:
    """Find the block of each operation of a model.

    An operation that only moves data belongs to the block of the next other one.

    Args:
      spec: The network that the model is; see `difference`.
      ops: Operations of the model in the order in which they run.

    Returns:
      Index in `spec.blocks` for each operation.

    Raises:
      ValueError: The model has another number of steps than the spec.
    """
    ops = _with_constants(ops)
    pairs = zip(lower(spec), _groups(ops), strict=True)
    block_of = {op: call.block for call, (_, group) in pairs for op in group}
    out, block = [], len(spec.blocks) - 1
    for op in reversed(ops):
        block = block_of.get(op, block)
        out.append(block)
    return tuple(reversed(out))


def expected(op: OpCall) -> Step:
    """Step that an operation of a lowering should become.

    Args:
      op: Operation of a lowering.

    Returns:
      The step.
    """
    kind: OpKind = op.kind
    if kind == "conv2d" and op.kernel == op.input.height == op.input.width == 1:
        kind = "fully_connected"
    return Step(kind, op.weights, op.output.elements, op.activation)


def steps(ops: Sequence[TfliteOp]) -> tuple[Step, ...]:
    """Translate the operations of a model into steps of a lowering.

    | TFLite | kind |
    |---|---|
    | CONV_2D, DEPTHWISE_CONV_2D | conv2d, depthwise_conv2d |
    | FULLY_CONNECTED with constant weights | fully_connected |
    | BATCH_MATMUL, FULLY_CONNECTED of two activations | matmul |
    | MUL and ADD of a constant per channel | batch_norm |
    | MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, MUL, ADD | layer_norm |
    | MUL or DIV, ADD of two activations | mul, add |
    | SOFTMAX, MEAN, CONCATENATION | softmax, mean, concat |
    | AVERAGE_POOL_2D, MAX_POOL_2D, RESIZE_BILINEAR | avg_pool, max_pool, resize |
    | RELU, RELU6, GELU, HARD_SWISH, LOGISTIC | activation of the step before |
    | LOGISTIC and MUL, RELU6 and MUL of a constant | activation of the step before |
    | RESHAPE, TRANSPOSE, SLICE, PAD, PADV2 | none: they only move data |
    | QUANTIZE (to another scale) | none |
    | DEQUANTIZE of a constant | none: a weight that is stored as float16 |

    Args:
      ops: Operations in the order in which they run.

    Returns:
      The steps.

    Raises:
      ValueError: An operation is none of these.
    """
    return tuple(step for step, _ in _groups(ops))


_MOVES = {"RESHAPE", "TRANSPOSE", "SLICE", "PAD", "PADV2", "QUANTIZE"}
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


def _groups(ops: Sequence[TfliteOp]) -> list[tuple[Step, list[TfliteOp]]]:
    """Steps of `steps`, each with its operations."""
    rest = [
        op
        for op in _with_constants(ops)
        if op.name not in _MOVES and not (op.name == "DEQUANTIZE" and op.reads[0].constant)
    ]
    out: list[tuple[Step, list[TfliteOp]]] = []
    while rest:
        count, group = 1, []
        if tuple(op.name for op in rest[: len(_LAYER_NORM)]) == _LAYER_NORM:
            count = len(_LAYER_NORM)
            step = Step("layer_norm", 0, _elements(rest[count - 1]), "none")
        elif _is_batch_norm(rest):
            count = 2
            step = Step("batch_norm", 0, _elements(rest[1]), "none")
        elif out and (match := _activation(rest, out[-1][0])):
            count, activation = match
            before, group = out.pop()
            step = dataclasses.replace(before, activation=activation)
        else:
            step = _step(rest[0])
        out.append((step, [*group, *rest[:count]]))
        del rest[:count]
    return out


def _with_constants(ops: Sequence[TfliteOp]) -> list[TfliteOp]:
    """The operations; a constant that DEQUANTIZE makes of a float16 one counts as constant."""
    made = {
        tensor.number
        for op in ops
        if op.name == "DEQUANTIZE" and op.reads[0].constant
        for tensor in op.writes
    }
    return [
        dataclasses.replace(
            op,
            reads=tuple(
                dataclasses.replace(t, constant=t.constant or t.number in made) for t in op.reads
            ),
        )
        for op in ops
    ]


def _step(op: TfliteOp) -> Step:
    if op.name not in _KINDS:
        raise ValueError(
            f"the model has an operation that no lowering has: {op.name} of {op.inputs}"
        )
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
    constants = [
        [math.prod(tensor.shape) for tensor in op.reads if tensor.constant] for op in ops[:2]
    ]
    return constants == [[channels], [channels]] and ops[0].writes[0] in ops[1].reads


def _activation(ops: Sequence[TfliteOp], before: Step) -> tuple[int, Activation] | None:
    """(number of its operations, activation) if an activation comes next, else None."""
    op = ops[0]
    behind = ops[1] if len(ops) > 1 else None
    if (
        op.name == "LOGISTIC"
        and behind
        and behind.name == "MUL"
        and {*behind.reads} == {op.reads[0], op.writes[0]}
    ):
        return 2, "swish"
    if op.name in _ACTIVATIONS:
        return 1, _ACTIVATIONS[op.name]
    constants = [math.prod(tensor.shape) for tensor in op.reads if tensor.constant]
    if op.name == "MUL" and constants == [1] and before.activation == "relu6":
        return 1, "hard_sigmoid"
    return None


def _elements(op: TfliteOp) -> int:
    return math.prod(op.outputs[0])
