"""Blocks of EfficientViT and Next-ViT: modules against lowerings, values against formulas."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest
from flax import nnx

import search_spaces
from nas.model.blocks import module_of
from nas.model.context import BlockContext, LayerConfig
from nas.model.network import build_network, split
from search_spaces import ArchSpec, Shape, yaml_io
from search_spaces.blocks import (
    BaseBlock,
    BatchNorm,
    Concat,
    Conv,
    Depthwise,
    EfficientViTBlock,
    LinearAttention,
    NextConvBlock,
    NextTransformerBlock,
    PooledAttention,
)

BLOCKS: list[tuple[BaseBlock, Shape]] = [
    (BatchNorm(), Shape(3, 5, 8)),
    (Concat(blocks=(Conv(filters=6, kernel=1), Depthwise())), Shape(4, 5, 8)),
    (LinearAttention(heads=2, key_dim=4), Shape(4, 5, 8)),
    (LinearAttention(heads=3, key_dim=4, kernel=3), Shape(4, 5, 8)),
    (EfficientViTBlock(heads=2, key_dim=4, expanded=24), Shape(4, 5, 8)),
    (PooledAttention(heads=2, key_dim=4), Shape(4, 5, 8)),
    (PooledAttention(heads=3, key_dim=4, reduction=2), Shape(4, 6, 8)),
    (NextConvBlock(filters=8, head_dim=4), Shape(5, 5, 8)),
    (NextConvBlock(filters=12, head_dim=4), Shape(5, 5, 8)),
    (NextConvBlock(filters=8, head_dim=4, stride=2), Shape(5, 5, 8)),
    (
        NextTransformerBlock(filters=12, attention_filters=8, head_dim=4, reduction=2),
        Shape(4, 6, 8),
    ),
    (NextTransformerBlock(filters=16, attention_filters=12, head_dim=4, stride=2), Shape(5, 5, 8)),
    (NextTransformerBlock(filters=8, attention_filters=4, head_dim=4), Shape(4, 4, 4)),
]


def _build(filled: Any, block: BaseBlock, channels: int) -> Any:
    return filled(lambda: module_of(block)(block, channels, config=LayerConfig(), rngs=nnx.Rngs(0)))


def _run(module: Any, x: np.ndarray) -> np.ndarray:
    graph, state = nnx.split(module)
    return np.asarray(jax.jit(lambda s, x: nnx.merge(graph, s)(x, BlockContext()))(state, x))


def _image(at: Shape) -> np.ndarray:
    return (
        np.random.default_rng(1)
        .normal(size=(2, at.height, at.width, at.channels))
        .astype(np.float32)
    )


def _pixels(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1, x.shape[-1]).astype(np.float64)


def _norm(layer: Any, y: np.ndarray) -> np.ndarray:
    mean, var, scale, bias = (
        np.asarray(a[...]) for a in (layer.mean, layer.var, layer.scale, layer.bias)
    )
    return (y - mean) / np.sqrt(var + 1e-3) * scale + bias


def _matrix(layer: Any) -> np.ndarray:
    return np.asarray(layer.kernel[...], np.float64)[0, 0]


@pytest.mark.parametrize(("block", "at"), BLOCKS, ids=lambda case: getattr(case, "kind", ""))
def test_a_module_is_what_its_block_lowers_to(block: BaseBlock, at: Shape, count_macs: Any) -> None:
    assert block.problem(at.height, at.width, at.channels) is None
    ops = tuple(block.lower(at))
    assert ops[0].input.elements == at.elements and ops[-1].output == block.after(at)
    module = nnx.eval_shape(
        lambda: module_of(block)(block, at.channels, config=LayerConfig(), rngs=nnx.Rngs(0))
    )
    graph, params, stats = nnx.split(module, nnx.Param, ...)
    assert sum(math.prod(a.shape) for a in jax.tree.leaves(params)) == sum(op.params for op in ops)

    def forward(params: Any, stats: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, stats)(x, BlockContext())

    x = jax.ShapeDtypeStruct((2, at.height, at.width, at.channels), jnp.float32)
    after = block.after(at)
    assert jax.eval_shape(forward, params, stats, x).shape == (
        2,
        after.height,
        after.width,
        after.channels,
    )
    dense, products = (
        sum(op.macs for op in ops if (op.kind == "matmul") == product) for product in (False, True)
    )
    assert count_macs(forward, params, stats, x)[:2] == (2 * dense, 2 * products)


def test_what_linear_attention_lowers_to() -> None:
    """EfficientViT-B1's last stage: 7 x 7 x 256, 16 heads of 16."""
    ops = tuple(LinearAttention(heads=16, key_dim=16).lower(Shape(7, 7, 256)))
    assert [
        (op.role, op.kind, op.kernel, op.groups, op.out_channels, op.activation) for op in ops
    ] == [
        ("project", "conv2d", 1, 1, 768, "none"),
        ("aggregate_dw", "depthwise_conv2d", 5, 1, 768, "none"),
        ("aggregate", "conv2d", 1, 48, 768, "none"),
        ("queries_keys", "concat", 1, 1, 1024, "relu"),
        ("values", "concat", 1, 1, 512, "none"),
        ("ones", "concat", 1, 1, 544, "none"),
        ("state", "matmul", 1, 1, 544, "none"),
        ("mix", "matmul", 1, 1, 544, "none"),
        ("divide", "mul", 1, 1, 512, "none"),
        ("output", "conv2d", 1, 1, 256, "none"),
    ]
    assert [op.macs for op in ops if op.kind == "matmul"] == [32 * 49 * 16 * 17] * 2
    assert sum(op.params for op in ops) == 256 * 768 + 25 * 768 + 16 * 768 + 512 * 256 + 2 * 256


def test_what_a_next_transformer_block_lowers_to() -> None:
    """Next-ViT's stage 2: 28 x 28 x 192 becomes 256 wide, keys and values of 49 means."""
    block = NextTransformerBlock(filters=256, attention_filters=192, reduction=4)
    ops = tuple(block.lower(Shape(28, 28, 192)))
    assert [(op.role, op.input.height * op.input.width, op.out_channels) for op in ops] == [
        ("norm", 784, 192),
        ("query", 784, 192),
        ("pool", 784, 192),
        ("key", 49, 192),
        ("value", 49, 192),
        ("scores", 784, 6 * 49),
        ("softmax", 784, 6 * 49),
        ("mix", 784, 192),
        ("output", 784, 192),
        ("residual", 784, 192),
        ("conv", 784, 64),
        ("conv", 784, 64),
        ("conv", 784, 64),
        ("residual", 784, 64),
        ("concat", 784, 256),
        ("norm", 784, 256),
        ("conv", 784, 512),
        ("conv", 784, 256),
        ("residual", 784, 256),
    ]
    assert [op.groups for op in ops if op.role == "conv"] == [1, 2, 1, 1, 1]
    strided = tuple(NextConvBlock(filters=192, stride=2).lower(Shape(56, 56, 96)))
    assert [op.role for op in strided] == [
        "pool",
        "conv",
        "conv",
        "conv",
        "residual",
        "norm",
        "conv",
        "conv",
        "residual",
    ]


def test_linear_attention_is_the_direct_sum_over_pairs_of_pixels(filled: Any) -> None:
    """In the order that costs the square of the pixels; weights relu(q) . relu(k) that sum to 1."""
    heads, size, at = 2, 3, Shape(4, 5, 7)
    module, x = _build(filled, LinearAttention(heads=heads, key_dim=size), at.channels), _image(at)
    projected = x.astype(np.float64) @ _matrix(module.project)
    padded = np.pad(projected, ((0, 0), (2, 2), (2, 2), (0, 0)))
    taps = np.asarray(module.aggregate_dw.kernel[...], np.float64)
    local = np.zeros(projected.shape)
    for i, j in np.ndindex(5, 5):
        local += padded[:, i : i + at.height, j : j + at.width] * taps[i, j]
    # [size, 3 * heads * size]: a matrix for each of q, k, v of each head
    within = _matrix(module.aggregate)
    groups = [slice(g * size, (g + 1) * size) for g in range(3 * heads)]
    aggregated = np.concatenate([local[..., g] @ within[:, g] for g in groups], -1)
    outputs = []
    for y in (projected, aggregated):
        for head in range(heads):
            q, k, v = (_pixels(y)[..., groups[part * heads + head]] for part in range(3))
            weights = np.maximum(q, 0) @ np.maximum(k, 0).swapaxes(1, 2)
            outputs.append(weights / (weights.sum(-1, keepdims=True) + 1e-5) @ v)
    want = _norm(module.output.norm, np.concatenate(outputs, -1) @ _matrix(module.output))
    np.testing.assert_allclose(_pixels(_run(module, x)), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reduction", [1, 2])
def test_pooled_attention_is_the_formula(reduction: int, filled: Any) -> None:
    heads, size, at = 2, 4, Shape(2, 6, 7)
    module, x = (
        _build(
            filled, PooledAttention(heads=heads, key_dim=size, reduction=reduction), at.channels
        ),
        _image(at),
    )

    def dense(layer: Any, y: np.ndarray) -> np.ndarray:
        return y @ _matrix(layer) + np.asarray(layer.bias[...])

    pixels = pooled = _pixels(x)
    if reduction > 1:
        runs = [
            pixels[:, start : start + 4].mean(1) for start in (0, 4, 8)
        ]  # rows are 6 pixels: a run may cross them
        pooled = _norm(module.pool_norm, np.stack(runs, 1))
    q, k, v = dense(module.query, pixels), dense(module.key, pooled), dense(module.value, pooled)
    outputs = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        weights = np.exp(q[..., own] @ k[..., own].swapaxes(1, 2) / math.sqrt(size))
        outputs.append(weights / weights.sum(-1, keepdims=True) @ v[..., own])
    want = dense(module.output, np.concatenate(outputs, -1))
    np.testing.assert_allclose(_pixels(_run(module, x)), want, rtol=1e-4, atol=1e-4)


def test_concat_keeps_its_input_in_front(filled: Any) -> None:
    at = Shape(3, 4, 5)
    module, x = (
        _build(
            filled, Concat(blocks=(Conv(filters=2, kernel=1, activation="none", norm="none"),)), 5
        ),
        _image(at),
    )
    y = _run(module, x)
    np.testing.assert_array_equal(y[..., :5], x)
    np.testing.assert_allclose(y[..., 5:], x @ _matrix(module.parts[0].conv), rtol=1e-5, atol=1e-5)


def test_where_no_query_is_positive_linear_attention_is_0(filled: Any) -> None:
    """And not NaN: the divisor is 0 there."""
    module = _build(filled, LinearAttention(heads=1, key_dim=4, kernel=3), 4)
    module.project.kernel[...] = -jnp.abs(module.project.kernel[...])
    for layer in (module.aggregate_dw, module.aggregate):
        layer.kernel[...] = jnp.abs(layer.kernel[...])
    y = _run(module, np.ones((1, 3, 3, 4), np.float32))
    np.testing.assert_allclose(
        y, np.broadcast_to(_norm(module.output.norm, np.zeros(4)), y.shape), rtol=1e-5
    )


_NETWORK = """
name: hybrid
resolution: 8
blocks:
- {kind: conv, filters: 8, stride: 2}
- {kind: efficientvit, heads: 2, key_dim: 4, expanded: 16}
- {kind: next_conv, filters: 8, head_dim: 4}
- {kind: next_transformer, filters: 12, attention_filters: 8, head_dim: 4, reduction: 2}
- {kind: concat, blocks: [{kind: linear_attention, heads: 1, key_dim: 4}]}
- {kind: residual, blocks: [{kind: batch_norm}, {kind: pooled_attention, heads: 2, key_dim: 4}]}
- {kind: pool}
- {kind: classifier, classes: 3}
"""


def test_a_network_of_them(count_macs: Any) -> None:
    """From YAML to logits, with as many parameters and MACs as the spec counts."""
    spec = yaml_io.parse_model(_NETWORK, ArchSpec, "test")
    graph, params, stats = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))
    assert sum(math.prod(a.shape) for a in jax.tree.leaves(params)) == search_spaces.params(spec)

    def forward(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, stats)(images)

    arguments = params, stats, jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    assert jax.eval_shape(forward, *arguments).shape == (2, 3)
    want = 2 * search_spaces.macs(spec), 2 * search_spaces.attention_macs(spec)
    assert count_macs(forward, *arguments)[:2] == want


@pytest.mark.parametrize(
    ("block", "at", "problem"),
    [
        (
            PooledAttention(heads=1, reduction=2),
            Shape(3, 3, 8),
            "reduction: got 2, whose square must divide the number of the input's 3 x 3 pixels",
        ),
        (
            NextTransformerBlock(filters=64, attention_filters=32, reduction=4, stride=2),
            Shape(14, 14, 32),
            "reduction: got 4, whose square must divide the number of the input's 7 x 7 pixels",
        ),
        (
            NextConvBlock(filters=32, stride=2),
            Shape(1, 1, 32),
            "stride: got 2, but the input is already 1 x 1; use stride 1 or a larger resolution",
        ),
        (
            Concat(blocks=(Conv(filters=4), Conv(filters=4, stride=2))),
            Shape(4, 4, 3),
            "blocks: must keep the input's 4 x 4 pixels, but give 2 x 2",
        ),
        (
            Concat(blocks=(Conv(filters=4), Conv(filters=4, groups=3))),
            Shape(4, 4, 3),
            "blocks[1].groups: got 3, which must divide the input channels (4)",
        ),
    ],
)
def test_inputs_that_do_not_fit(block: BaseBlock, at: Shape, problem: str) -> None:
    assert block.problem(at.height, at.width, at.channels) == problem
    assert block.problem(at.height, at.width, None) in (None, problem)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"filters": 48}, r"filters: got 48, which must be a multiple of head_dim \(32\)"),
        (
            {"filters": 64, "attention_filters": 48},
            r"attention_filters: got 48, which must be a multiple of head_dim",
        ),
        (
            {"filters": 64, "attention_filters": 64},
            r"attention_filters: got 64, must be below filters \(64\)",
        ),
    ],
)
def test_widths_that_do_not_fit(fields: dict[str, int], problem: str) -> None:
    kind = NextTransformerBlock if "attention_filters" in fields else NextConvBlock
    with pytest.raises(pydantic.ValidationError, match=problem):
        kind.model_validate(fields)
