"""TFLite models to measure, with random weights: one operation, one block or one network each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nas.exporters import tflite
from nas.exporters.tflite import Dtype
from nas.model.blocks import module_of
from nas.model.context import BlockContext, LayerConfig
from nas.model.layers.conv import activate
from nas.model.network import build_network, split
from search_spaces import ArchSpec, OpCall, Shape
from search_spaces.blocks import BaseBlock

_Layer = Callable[..., jax.Array]
_NHWC = ("NHWC", "HWIO", "NHWC")


def operation_model(op: OpCall, dtype: Dtype) -> bytes:
    """Model of a single operation.

    Norm, bias and layer scale are folded as in `OpCall.folded`: every convolution and dense layer
    has a bias. The activation is fused where TFLite can fuse it (relu, relu6); elsewhere it is an
    operation of its own. The operands of a matmul are one matrix for each head. An `OpCall` does
    not state how many heads share the channels of a softmax; here they are one row.

    Args:
      op: The operation.
      dtype: Type of the model.

    Returns:
      The TFLite model.

    Raises:
      ValueError: The operation cannot be a model of that type.
    """
    layer, *shapes = _LAYERS[op.kind](op, np.random.default_rng(0))

    def forward(*inputs: jax.Array) -> jax.Array:
        return activate(layer(*inputs), op.activation)

    return _finish(forward, tuple(shapes), dtype, str(op))


def block_model(block: BaseBlock, at: Shape, dtype: Dtype) -> bytes:
    """Model of a single block.

    Args:
      block: Block without holes.
      at: Shape of its input.
      dtype: Type of the model.

    Returns:
      The TFLite model.

    Raises:
      ValueError: The block cannot be a model of that type.
    """

    def build() -> Any:
        return module_of(block)(block, at.channels, config=LayerConfig(), rngs=nnx.Rngs(0))

    graph, state = nnx.split(nnx.eval_shape(build))
    arrays = random_weights(nnx.to_pure_dict(state))

    def forward(image: jax.Array) -> jax.Array:
        return nnx.merge(graph, arrays)(image, BlockContext())

    return _finish(forward, ((1, at.height, at.width, at.channels),), dtype, f"block {block!r}")


def network_model(spec: ArchSpec, dtype: Dtype) -> bytes:
    """Model of a whole network.

    Args:
      spec: Network without holes.
      dtype: Type of the model.

    Returns:
      The TFLite model.

    Raises:
      ValueError: The spec has holes, or cannot be a model of that type.
    """
    _, *shapes = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))
    params, stats = random_weights(shapes[0], 0), random_weights(shapes[1], 1)
    images = np.random.default_rng(2).normal(
        size=(1, spec.resolution, spec.resolution, spec.input_channels)
    )
    return tflite.network_tflite(spec, params, stats, dtype, images.astype(np.float32))


def random_weights(shapes: Any, seed: int = 0) -> Any:
    """Random arrays for given shapes: kernels of variance 1 / fan_in, scales near 1, others near 0.

    Layer scales are near 0.1. Near 1, residual sums would grow until each softmax is one-hot, at a
    position that rounding decides.

    Args:
      shapes: Tree of shapes, with the names of parameters or statistics.
      seed: Random seed.

    Returns:
      Tree of float32 arrays.
    """
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        normal = rng.normal(size=leaf.shape)
        if leaf.ndim > 1:
            normal /= np.sqrt(np.prod(leaf.shape[:-1]))
        elif path[-1].key in ("scale", "var"):
            normal = 1 + 0.1 * np.abs(normal)
        elif path[-1].key == "layer_scale":
            normal = 0.1 + 0.01 * np.abs(normal)
        else:
            normal *= 0.1
        return normal.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _finish(forward: _Layer, shapes: tuple[tuple[int, ...], ...], dtype: Dtype, what: str) -> bytes:
    try:
        model = tflite.to_tflite(forward, *shapes)
        if dtype == "float32":
            return model
        # All inputs have the same range, so that none is requantised to the range of another.
        rng = np.random.default_rng(1)
        return tflite.quantize(
            model, [tuple(np.clip(2 * rng.normal(size=shape), -1, 1) for shape in shapes)]
        )
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _image(shape: Shape) -> tuple[int, ...]:
    return (1, shape.height, shape.width, shape.channels)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


def _conv2d(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    groups = op.input.channels if op.kind == "depthwise_conv2d" else op.groups
    kernel = _normal(rng, op.kernel, op.kernel, op.input.channels // groups, op.out_channels)
    kernel, bias = jnp.asarray(kernel), rng.normal(size=op.out_channels).astype(np.float32)

    def layer(x: jax.Array) -> jax.Array:
        strides = (op.stride, op.stride)
        y = jax.lax.conv_general_dilated(
            x, kernel, strides, "SAME", dimension_numbers=_NHWC, feature_group_count=groups
        )
        return y + bias

    return layer, _image(op.input)


def _fully_connected(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    kernel = _normal(rng, op.input.elements, op.out_channels)
    bias = rng.normal(size=op.out_channels).astype(np.float32)
    return lambda x: x @ kernel + bias, (1, op.input.elements)


def _matmul(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    """[a, n, d] @ [a or 1, d, m] of a heads; keys, which are pixels of d channels, are [m, d]."""
    del rng
    assert op.other is not None
    heads, rows = op.input.channels // op.depth, op.input.height * op.input.width
    columns = op.out_channels // heads
    shared = op.other.elements == op.depth * columns
    transposed = op.other.height * op.other.width != op.depth
    matrix = (columns, op.depth) if transposed else (op.depth, columns)

    def layer(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.matmul(x, y.mT if transposed else y)

    if shared:
        return layer, (rows * heads, op.depth), matrix
    return layer, (heads, rows, op.depth), (heads, *matrix)


def _softmax(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    del rng
    return jax.nn.softmax, (1, op.input.height * op.input.width, op.input.channels)


def _batch_norm(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    gain, shift = (rng.normal(size=op.out_channels).astype(np.float32) for _ in range(2))
    return lambda x: x * gain + shift, _image(op.input)


def _layer_norm(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    gain, shift = (rng.normal(size=op.out_channels).astype(np.float32) for _ in range(2))

    def layer(x: jax.Array) -> jax.Array:
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-6) * gain
            + shift
        )

    return layer, _image(op.input)


def _pool(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    del rng
    window, strides = (op.kernel, op.kernel), (op.stride, op.stride)
    if op.kind == "max_pool":
        return lambda x: nnx.max_pool(x, window, strides, "SAME"), _image(op.input)
    return lambda x: nnx.avg_pool(x, window, strides, "SAME", count_include_pad=False), _image(
        op.input
    )


def _mean(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    del rng
    return lambda x: x.mean((1, 2), keepdims=True), _image(op.input)


def _resize(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    del rng
    shape = _image(op.output)
    attributes = {
        "size": np.array(shape[1:3], np.int32),
        "align_corners": False,
        "half_pixel_centers": True,
    }

    def resize(x: jax.Array, **attributes: Any) -> jax.Array:
        del attributes
        return jax.image.resize(x, shape, "bilinear")

    composite = jax.lax.composite(resize, tflite.RESIZE_BILINEAR)
    return lambda x: composite(x, **attributes), _image(op.input)


def _elementwise(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    del rng
    call = jnp.add if op.kind == "add" else jnp.multiply
    first, second = op.input, op.other or op.input
    if second.channels in (1, first.channels):
        return call, _image(first), _image(second)
    # One value for a group of channels, such as a head of attention.
    heads = second.channels
    pixels = first.height * first.width
    return call, (1, pixels, heads, first.channels // heads), (1, pixels, heads, 1)


def _concat(op: OpCall, rng: np.random.Generator) -> tuple[Any, ...]:
    del rng
    second = op.other or op.input.after(channels=op.out_channels - op.input.channels)
    return lambda x, y: jnp.concatenate([x, y], -1), _image(op.input), _image(second)


_LAYERS: dict[str, Callable[[OpCall, np.random.Generator], Sequence[Any]]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _conv2d,
    "fully_connected": _fully_connected,
    "matmul": _matmul,
    "softmax": _softmax,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "mean": _mean,
    "avg_pool": _pool,
    "max_pool": _pool,
    "resize": _resize,
    "add": _elementwise,
    "mul": _elementwise,
    "concat": _concat,
}
