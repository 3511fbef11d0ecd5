"""ONNX files of trained networks, written node by node from the lowerings of their blocks.

Images are [b, c, h, w] in these files. Norms and layer scales behind convolutions are folded into
them in float64. Only this module imports `onnx`, and only when it is needed.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nas.exporters.litert import MissingExtra
from nas.model.network import Params, Stats
from search_spaces import ArchSpec, OpCall, Shape, blocks
from search_spaces.ops import Activation, Padding

EXTRA = "pip install 'mnv4-nas[onnx]'"
OPSET, IR_VERSION = 20, 10
"""Versions of the operators (the first one with GELU) and of the file format (ONNX 1.16)."""


def network_onnx(
    spec: ArchSpec,
    params: Params,
    stats: Stats,
    *,
    metadata: Mapping[str, str] = types.MappingProxyType({}),
    epsilon: float = 1e-3,
) -> bytes:
    """Write a trained network as an ONNX model.

    Its input is "image" float32 [batch, c, h, w], its output "logits" [batch, classes]; the size of
    the batch is free. The names of nodes begin with that of their block, e.g. "blocks.3/expand".

    Args:
      spec: Network without holes.
      params: Its parameters, from `nas.model.network.split`.
      stats: Its statistics of norms, from `nas.model.network.split`.
      metadata: Texts that the file keeps under their keys.
      epsilon: Offset that the network's norms add to the variance, see `LayerConfig`.

    Returns:
      The ONNX model.

    Raises:
      ValueError: The spec has holes, or a block that is not in `BLOCKS`.
      MissingExtra: `onnx` is not installed.
    """
    if not spec.is_frozen:
        raise ValueError(f"{spec.name} has holes; freeze it first")
    graph = _Graph((onnx := _onnx()).helper.make_node, epsilon, spec.padding)
    arrays, x = _merge(params, stats)["blocks"], "image"
    for index, block, channels, (height, width) in spec.walk():
        assert isinstance(channels, int)
        at = Shape(height, width, channels)
        x = _write(_Block(graph, f"blocks.{index}", block, at, arrays.get(index, {}), x))
    graph.nodes[-1].output[0] = "logits"
    value, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    shape = ("batch", spec.input_channels, spec.resolution, spec.resolution)
    constants = [
        onnx.numpy_helper.from_array(a if a.dtype == np.int64 else a.astype("f4"), name)
        for name, a in graph.constants.items()
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            spec.name,
            [value("image", float32, shape)],
            [value("logits", float32, ("batch", spec.classes))],
            constants,
        ),
        producer_name="mnv4-nas",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(model, dict(metadata))
    return model.SerializeToString()


def onnx_operations(model: bytes) -> tuple[str, ...]:
    """List the operators of a model in the order in which they run.

    Args:
      model: ONNX model.

    Returns:
      ONNX's name of the operator of every node, e.g. "Conv".
    """
    return tuple(node.op_type for node in _onnx().load_from_string(model).graph.node)


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingExtra(f"ONNX files require onnx, which is not installed: {EXTRA}") from None


_Arrays = dict[Any, Any]
"""Parameters and statistics of a block or a layer, in one tree."""

_ACTIVATIONS: dict[Activation, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "gelu": ("Gelu", {"approximate": "tanh"}),
    "hard_swish": ("HardSwish", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
}
"""Operators and attributes of activations; those that take more than one node are missing."""

_NORM = ("scale", "bias", "mean", "var")
"""Arrays of a batch norm, in the order of the inputs of BatchNormalization."""

_LAYERS_OF_ROLES = {"classifier": "dense", "query_pool": "query_norm", "pool": "pool_norm"}
"""Name of an operation's layer in the module of its block, where it is not the operation's role."""


@dataclasses.dataclass
class _Graph:
    """Nodes and constants in the making.

    `constants` are int64, or float64 that becomes float32. `linear` has the names of the weights
    and bias of every convolution, by its output.
    """

    make_node: Callable[..., Any]
    epsilon: float
    padding: Padding
    nodes: list[Any] = dataclasses.field(default_factory=list)
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    linear: dict[str, list[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Block:
    """Block whose nodes are added to a graph; a node has the name of its output."""

    graph: _Graph
    name: str
    spec: Any
    at: Shape
    arrays: _Arrays
    input: str

    def __post_init__(self) -> None:
        self.ops: dict[str, OpCall] = {op.role: op for op in self.spec.lower(self.at)}

    def constant(self, name: str, values: Any) -> str:
        a, name = np.asarray(values), f"{self.name}/{name}"
        self.graph.constants[name] = a if a.dtype == np.int64 else a.astype(np.float64)
        return name

    def constants(self, name: str, layer: _Arrays, *keys: str) -> list[str]:
        return [self.constant(f"{name}/{key}", layer[key]) for key in keys]

    def node(self, kind: str, name: str, *inputs: str, outputs: Any = (), **attributes: Any) -> str:
        name, make_node = f"{self.name}/{name}", self.graph.make_node
        self.graph.nodes.append(make_node(kind, inputs, outputs or [name], name=name, **attributes))
        return name

    def reshape(self, name: str, x: str, *shape: int) -> str:
        """Give every image or feature map another shape; the batch stays."""
        return self.node("Reshape", name, x, self.constant(f"{name}/shape", [0, *shape]))

    def scale(self, name: str, x: str, factor: Any) -> str:
        """Multiply x by one factor, or one for each channel.

        A convolution whose output is x, which nothing else may read, is multiplied instead.
        """
        factor, constants = np.asarray(factor, np.float64), self.graph.constants
        if x not in self.graph.linear:
            return self.node("Mul", name, x, self.constant(f"{name}/by", factor.reshape(-1, 1, 1)))
        for key in self.graph.linear[x]:
            constants[key] = _by_row(constants[key], factor)
        return x

    def activate(self, role: str, x: str, activation: Activation) -> str:
        name = f"{role}/{activation}"
        if activation == "none":
            return x
        if activation == "relu6":
            limits = [self.constant(f"{name}/{limit:.0f}", limit) for limit in (0.0, 6.0)]
            return self.node("Clip", name, x, *limits)
        if activation == "swish":  # one operator only from opset 24
            return self.node("Mul", name, x, self.node("Sigmoid", f"{role}/sigmoid", x))
        kind, attributes = _ACTIVATIONS[activation]
        return self.node(kind, name, x, **attributes)

    def run(self, role: str, x: str) -> str:
        """Apply the operation of a role to x, or nothing where the block has none.

        Norm, scale and activation are part of it. Sums read the block's input, too.
        """
        if role not in self.ops:
            return x
        op = self.ops[role]
        layer = self.arrays.get(_LAYERS_OF_ROLES.get(role, role), {})
        if op.kind in ("conv2d", "depthwise_conv2d", "fully_connected"):
            y = self.layer(op, x, layer.get(f"k{op.kernel}", layer))
        elif op.kind == "batch_norm":
            y = self.batch_norm(role, x, layer)
        elif op.kind == "layer_norm":
            weights = self.constants(role, layer, "scale", "bias")
            y = self.node("Transpose", f"{role}/to_rows", x, perm=[0, 2, 3, 1])
            # The epsilon of `nas.model.layers.norm.LayerNorm`.
            y = self.node("LayerNormalization", f"{role}/rows", y, *weights, epsilon=1e-6)
            y = self.node("Transpose", role, y, perm=[0, 3, 1, 2])
        elif op.kind == "mean":
            y = self.node("GlobalAveragePool", role, x)
        elif op.kind == "avg_pool":
            y = self.node("AveragePool", role, x, **_windows(op))
            y = self.batch_norm(f"{role}/norm", y, layer) if op.norm else y
        elif op.kind == "resize":  # half-pixel centres are the default
            scales = self.constant(f"{role}/scales", [1.0, 1.0, op.stride, op.stride])
            y = self.node("Resize", role, x, "", scales, mode="linear")
        else:
            y = self.node({"add": "Add", "mul": "Mul"}[op.kind], role, self.input, x)
        if op.scale:
            y = self.scale(f"{role}/scale", y, self.arrays["layer_scale"])
        return self.activate(role, y, op.activation)

    def layer(self, op: OpCall, x: str, layer: _Arrays) -> str:
        """Apply a convolution or dense layer, with its norm folded."""
        kernel = np.asarray(layer["kernel"], np.float64)
        depthwise, dense = op.kind == "depthwise_conv2d", kernel.ndim == 2
        weights = np.moveaxis(kernel, -1, 0)  # [o, i], [o, k, k] or [o, k, k, i]
        weights = weights[:, None] if depthwise else np.moveaxis(weights, -1, 1)
        folded = {"weights": weights}
        if "bias" in layer:
            folded["bias"] = np.asarray(layer["bias"], np.float64)
        if norm := layer.get("norm"):
            scale, shift, mean, var = (np.asarray(norm[key], np.float64) for key in _NORM)
            gain = scale / np.sqrt(var + self.graph.epsilon)
            folded["weights"] = _by_row(weights, gain)
            folded["bias"] = (folded.get("bias", 0) - mean) * gain + shift
        constants = self.constants(op.role, folded, *folded)
        if dense:
            x = self.node("Flatten", f"{op.role}/row", x)
            return self.node("Gemm", op.role, x, *constants, transB=1)
        groups = op.input.channels if depthwise else op.groups
        y = self.node(
            "Conv", op.role, x, *constants, group=groups, **_windows(op, self.graph.padding)
        )
        self.graph.linear[y] = constants
        return y

    def batch_norm(self, name: str, x: str, norm: _Arrays) -> str:
        constants = self.constants(name, norm, *_NORM)
        return self.node("BatchNormalization", name, x, *constants, epsilon=self.graph.epsilon)

    def attend(self, query: str, key: str, value: str) -> str:
        """softmax(q k^T / sqrt(key_dim)) v, each of them [b, heads * size, h, w]."""
        scores, mix = self.ops["scores"], self.ops["mix"]
        assert scores.other is not None
        pixels, size, turn = scores.other.height * scores.other.width, scores.depth, [0, 1, 3, 2]
        heads, key_heads = scores.input.channels // size, scores.other.channels // size
        q = self.scale("query/scale", query, size**-0.5)
        q = self.reshape("query/heads", q, heads, size, scores.input.height * scores.input.width)
        q = self.node("Transpose", "query/rows", q, perm=turn)
        k = self.reshape("key/heads", key, key_heads, size, pixels)
        v = self.reshape("value/heads", value, key_heads, mix.out_channels // heads, pixels)
        v = self.node("Transpose", "value/rows", v, perm=turn)
        y = self.node("Softmax", "softmax", self.node("MatMul", "scores", q, k), axis=-1)
        y = self.node("Transpose", "mix/columns", self.node("MatMul", "mix", y, v), perm=turn)
        return self.reshape("mix/joined", y, mix.out_channels, mix.output.height, mix.output.width)


def _write(block: _Block) -> str:
    """Add all nodes of a block; returns its output."""
    known = next((BLOCKS[kind] for kind in type(block.spec).__mro__ if kind in BLOCKS), None)
    if known is None:
        index = block.name.partition("/")[0].removeprefix("blocks.")
        raise ValueError(
            f"blocks[{index}]: ONNX files have no {block.spec.kind} blocks; write stablehlo instead"
        )
    return known(block)


def _chain(block: _Block) -> str:
    """Block whose operations each take the output of the one before."""
    x = block.input
    for role in block.ops:
        x = block.run(role, x)
    return x


def _parts(block: _Block) -> str:
    """Block that is a chain of other blocks."""
    spec, at, x = block.spec, block.at, block.input
    parts = spec.blocks if isinstance(spec, blocks.Residual) else spec.parts(at.channels)
    for index, part in enumerate(parts):
        arrays = block.arrays.get("parts", {}).get(index, {})
        x = _write(_Block(block.graph, f"{block.name}/parts.{index}", part, at, arrays, x))
        at = part.after(at)
    return x


def _residual(block: _Block) -> str:
    y = _parts(block)
    if block.spec.layer_scale is not None:
        y = block.scale("scale", y, block.arrays["layer_scale"])
    return block.node("Add", "residual", block.input, y)


def _concat(block: _Block) -> str:
    return block.node("Concat", "concat", block.input, _parts(block), axis=1)


def _attention(block: _Block) -> str:
    """See `nas.model.blocks.attention.Attention`."""
    arrays, channels = block.arrays, block.at.channels
    for side in ("query", "key", "value"):
        arrays[side] = {"kernel": arrays[side].reshape(1, 1, channels, -1)}
    arrays["output"] = {"kernel": arrays["output"].reshape(1, 1, -1, channels)}
    if block.spec.output_bias:
        arrays["output"]["bias"] = arrays["bias"]
    normed = block.run("norm", block.input)
    query = block.run("query", block.run("query_pool", normed))
    key, value = (block.run(s, block.run(f"{s}_dw", normed)) for s in ("key", "value"))
    y = block.run("resize", block.attend(query, key, value))
    return block.run("residual", block.run("output", y))


def _pooled_attention(block: _Block) -> str:
    """See `nas.model.blocks.vit.PooledAttention`."""
    at, query, pooled = block.at, block.run("query", block.input), block.input
    if (r := block.spec.reduction) > 1:
        pooled = block.reshape("windows", pooled, at.channels, at.height * at.width // r, r)
        pooled = block.run("pool", pooled)
    key, value = (block.run(side, pooled) for side in ("key", "value"))
    return block.run("output", block.attend(query, key, value))


def _linear_attention(block: _Block) -> str:
    """See `nas.model.blocks.vit.LinearAttention`; [b, q or k or v, heads, size, pixels] here."""
    spec, at = block.spec, block.at
    projected = block.run("project", block.input)
    aggregated = block.run("aggregate", block.run("aggregate_dw", projected))
    shape = (3, spec.heads, spec.key_dim, at.height * at.width)
    projected = block.reshape("project/heads", projected, *shape)
    aggregated = block.reshape("aggregate/heads", aggregated, *shape)
    pair = block.node("Concat", "pair", projected, aggregated, axis=2)
    query, key, value = sides = [f"{block.name}/{side}" for side in ("query", "key", "value")]
    block.node("Split", "sides", pair, outputs=sides, axis=1, num_outputs=3)
    query, key = (block.activate(s, x, "relu") for s, x in (("query", query), ("key", key)))
    key = block.node("Transpose", "key/rows", key, perm=(0, 1, 2, 4, 3))
    mix = block.node("MatMul", "mix", block.node("MatMul", "state", value, key), query)
    # Instead of a column of ones behind the values, the sum of the keys.
    keys = block.node("ReduceSum", "key/sum", key, block.constant("key/axes", [3]))
    total = block.node("MatMul", "total", keys, query)
    total = block.node("Add", "total/offset", total, block.constant("total/by", 1e-5))
    y = block.node("Div", "divide", mix, total)
    y = block.reshape("joined", y, 2 * spec.heads * spec.key_dim, at.height, at.width)
    return block.run("output", y)


_CHAINS = (
    *(blocks.Conv, blocks.FusedIB, blocks.UIB, blocks.Pool, blocks.Classifier, blocks.Depthwise),
    *(blocks.PatchConv, blocks.LayerNorm, blocks.BatchNorm, blocks.AvgPool, blocks.SqueezeExcite),
)

BLOCKS: dict[type[blocks.BaseBlock], Callable[[_Block], str]] = {
    **dict.fromkeys(_CHAINS, _chain),
    blocks.Composite: _parts,
    blocks.Residual: _residual,
    blocks.Concat: _concat,
    blocks.Attention: _attention,
    blocks.PooledAttention: _pooled_attention,
    blocks.LinearAttention: _linear_attention,
}
"""Writer of every block class; classes derived from it share its writer."""


def _windows(op: OpCall, padding: Padding = "same") -> dict[str, list[int]]:
    """Kernel, strides, and padding [top, left, bottom, right]."""
    sides = ((op.input.height, op.output.height), (op.input.width, op.output.width))
    totals = [max((o - 1) * op.stride + op.kernel - i, 0) for i, o in sides]
    halves = [n // 2 for n in totals], [n - n // 2 for n in totals]
    pads = [n for half in halves[:: 1 if padding == "same" else -1] for n in half]
    return {"kernel_shape": [op.kernel] * 2, "strides": [op.stride] * 2, "pads": pads}


def _by_row(a: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """`a` times one factor, or times one for each index of its first axis."""
    return a * factor.reshape(-1, *(1,) * (a.ndim - 1))


def _merge(params: _Arrays, stats: _Arrays) -> _Arrays:
    """Both trees in a new one; no array of one has the name of an array of the other."""
    return {
        key: _merge(params.get(key, {}), stats.get(key, {})) if isinstance(value, dict) else value
        for key, value in {**params, **stats}.items()
    }
