"""Module of every block against its lowering: shapes, operations, parameters."""

from __future__ import annotations

import itertools
import typing
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nas.model.blocks import MODULES, module_of
from nas.model.context import BlockContext, LayerConfig
from nas.model.layers.conv import activate
from search_spaces import OpCall, Shape
from search_spaces.blocks import (
    UIB,
    BaseBlock,
    Block,
    Classifier,
    Conv,
    Depthwise,
    FusedIB,
    PatchConv,
    Pool,
)

STRIDED: list[tuple[int, Literal[1, 2]]] = [(8, 1), (16, 1), (8, 2)]

BLOCKS: list[tuple[BaseBlock, Shape]] = [
    (Conv(filters=16, stride=2), Shape(7, 7, 3)),
    (Conv(filters=8, kernel=1, activation="gelu"), Shape(4, 4, 8)),
    (FusedIB(filters=8, expansion=2.0), Shape(6, 6, 8)),
    (FusedIB(filters=8, expansion=2.0, project_activation="relu"), Shape(6, 6, 8)),
    (FusedIB(filters=16, expansion=3.0, stride=2, kernel=5, activation="gelu"), Shape(6, 6, 8)),
    *(
        (
            UIB(filters=filters, start_dw=start, middle_dw=middle, expansion=2.0, stride=stride),
            Shape(6, 6, 8),
        )
        for start, middle, (filters, stride) in itertools.product((0, 3), (0, 5), STRIDED)
        if stride == 1 or start or middle
    ),
    (UIB(filters=8, start_dw=5, middle_dw=3, expansion=3.5, activation="gelu"), Shape(5, 5, 8)),
    (UIB(filters=8, start_dw=3, expansion=2.0, layer_scale=0.5), Shape(5, 5, 8)),
    (Conv(filters=12, kernel=1, norm="none", bias=True, activation="hard_swish"), Shape(3, 3, 8)),
    (Conv(filters=12, groups=4), Shape(5, 5, 8)),
    (Depthwise(kernel=7, stride=2, activation="relu6"), Shape(5, 5, 8)),
    (Depthwise(multiplier=2, norm="none", bias=True), Shape(5, 5, 8)),
    (PatchConv(filters=12, size=2), Shape(4, 6, 8)),
    (Pool(), Shape(3, 5, 8)),
    (Classifier(classes=4, dropout=0.5), Shape(1, 1, 8)),
]


KINDS: tuple[type[BaseBlock], ...] = typing.get_args(typing.get_args(Block)[0])


def _id(case: Any) -> str:
    return (
        "-".join(f"{value}" for value in case.model_dump().values())
        if isinstance(case, BaseBlock)
        else ""
    )


def _run_lowered(ops: tuple[OpCall, ...], block: Any, x: jax.Array) -> jax.Array:
    """Run a lowering's operations with XLA's convolutions and the weights of the block's module."""
    start = x
    for op in ops:
        if op.kind == "add":
            x = x + start
        elif op.kind == "mean":
            x = x.mean((1, 2), keepdims=True)
        elif op.kind == "fully_connected":
            x = x.reshape(len(x), -1) @ block.dense.kernel[...] + block.dense.bias[...]
        else:
            layer = getattr(block, op.role)
            grouped = op.kind == "depthwise_conv2d"
            if isinstance(layer, nnx.Dict):
                layer = layer[f"k{op.kernel}"]
            kernel = layer.kernel[...]
            x = jax.lax.conv_general_dilated(
                x,
                kernel[:, :, None] if grouped else kernel,
                (op.stride, op.stride),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=op.input.channels if grouped else op.groups,
            )
            x = x + layer.bias[...] if op.bias else x
            if op.norm:
                norm = layer.norm
                x = (x - norm.mean[...]) / jnp.sqrt(norm.var[...] + 1e-3) * norm.scale[
                    ...
                ] + norm.bias[...]
            x = activate(x, op.activation)
            x = x * block.layer_scale[...] if op.scale else x
    return x


@pytest.mark.parametrize(("block", "at"), BLOCKS, ids=_id)
def test_a_block_computes_its_lowering(block: BaseBlock, at: Shape, filled: Any) -> None:
    ops = tuple(block.lower(at))
    module = filled(
        lambda: module_of(block)(block, at.channels, config=LayerConfig(), rngs=nnx.Rngs(0))
    )
    graph, state = nnx.split(module)
    rng = np.random.default_rng(1)
    assert sum(a.size for a in jax.tree.leaves(nnx.split(module, nnx.Param, ...)[1])) == sum(
        op.params for op in ops
    )

    @jax.jit
    def both(state: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        module = nnx.merge(graph, state)
        return module(x, BlockContext()), _run_lowered(ops, module, x)

    got, want = both(
        state, jnp.asarray(rng.normal(size=(2, at.height, at.width, at.channels)), jnp.float32)
    )
    shape = ops[-1].output
    assert got.shape == (
        (2, 4) if isinstance(block, Classifier) else (2, shape.height, shape.width, shape.channels)
    )
    np.testing.assert_allclose(got, want, atol=2e-5 * float(jnp.abs(want).max()))


def test_every_block_has_a_module() -> None:
    for kind in KINDS:
        assert module_of(kind.model_construct()) in MODULES.values()


def test_dropout_only_with_a_key() -> None:
    module = MODULES[Classifier](
        Classifier(classes=3, dropout=0.25), 4000, config=LayerConfig(), rngs=nnx.Rngs(0)
    )
    module.dense.kernel[...] = jnp.ones((4000, 3))
    x = jnp.ones((2, 1, 1, 4000))
    np.testing.assert_array_equal(module(x, BlockContext(mode="train")), jnp.full((2, 3), 4000.0))
    first, again, other = (
        module(x, BlockContext(mode="train", key=jax.random.key(seed))) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).all()
    # kept features are scaled up; 5 % are 5.5 standard deviations
    np.testing.assert_allclose(first, 4000, rtol=0.05)
    assert (np.asarray(first) != 4000).all() and first[0, 0] != first[1, 0]


def test_no_dropout_without_a_rate() -> None:
    module = MODULES[Classifier](Classifier(classes=3), 8, config=LayerConfig(), rngs=nnx.Rngs(0))
    x = jnp.ones((2, 1, 1, 8))
    np.testing.assert_array_equal(
        module(x, BlockContext(mode="train", key=jax.random.key(0))),
        module(x, BlockContext(mode="train")),
    )
