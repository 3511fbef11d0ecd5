"""Shapes and dtypes of layers, blocks, selections and networks, checked while they run.

See `checked` in tests/conftest.py. The axes of a call have different lengths, so that a transposed
array cannot pass.

Letters: b images, h height, w width, c and o input and output channels, k kernel side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

import search_spaces
from nas.model.blocks import module_of
from nas.model.context import BlockContext, LayerConfig
from nas.model.heads import ClassifierHead
from nas.model.layers import convolution, depthwise, windows
from nas.model.layers.branches import weighted_sum, weighted_sum_reference
from nas.model.layers.conv import ConvNorm, Dense, DepthwiseNorm
from nas.model.layers.norm import BatchNorm, LayerNorm
from nas.model.network import Network, build_network, build_supernet
from nas.model.selection import Selection, prefix_mask
from search_spaces import SearchSpace
from search_spaces.blocks import MHSA, MQA, UIB

Checked = Callable[..., Callable[..., Any]]
Row = tuple[Callable[..., Any], dict[str, Any], Callable[..., Any]]
"""A function, the shapes of its parameters and result, and a call of it."""

CONFIG = LayerConfig()
HALF = "b {-(-x.shape[1]//stride)} {-(-x.shape[2]//stride)}"
"""Batch, height and width after a "SAME" convolution with a stride."""

CHANNEL_MASK = Bool[Array, "{channels}"] | None
MASK_OF_C = Bool[Array, "c"] | None
MASK_OF_O = Bool[Array, "o"] | None


def zeros(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.zeros(shape, dtype)


def build(kind: Any, *arguments: Any, **fields: Any) -> Any:
    """A layer or the module of a block; built while tracing, as it is used."""
    return kind(*arguments, **fields, config=CONFIG, rngs=nnx.Rngs(0))


MASK = zeros(5, dtype=bool)

LAYERS: dict[str, Row] = {
    "prefix_mask": (
        prefix_mask,
        {"width": Int[Array, ""] | int, "returns": CHANNEL_MASK},
        lambda f: (f(jnp.int32(3), 7), f(3, 7), f(7, 7)),
    ),
    "batch norm": (
        BatchNorm.__call__,
        {
            "x": Float[Array, "b h w c"],
            "mask": MASK_OF_C,
            "returns": Float[Array, "b h w c"],
        },
        lambda f: [
            f(BatchNorm(5, CONFIG), zeros(2, 3, 4, 5), mode, mask)
            for mode in ("train", "batch", "running")
            for mask in (None, MASK)
        ],
    ),
    "layer norm": (
        LayerNorm.__call__,
        {"x": Float[Array, "*b c"], "returns": Float[Array, "*b c"]},
        lambda f: f(LayerNorm(5), zeros(2, 3, 4, 5)),
    ),
    "convolution": (
        convolution.convolution,
        {
            "x": Float[Array, "b h w c"],
            "kernel": Float[Array, "k k c o"],
            "returns": Float[Array, HALF + " o"],
        },
        lambda f: [f(zeros(2, 6, 5, 3), zeros(k, k, 3, 7), s) for k in (1, 3) for s in (1, 2)],
    ),
    **{
        name: (
            function,
            {
                "x": Float[Array, "b h w c"],
                "kernel": Float[Array, "k k c"],
                "returns": Float[Array, HALF + " c"],
            },
            lambda f: [f(zeros(2, 6, 4, 7), zeros(3, 3, 7), stride=s) for s in (1, 2)],
        )
        for name, function in {
            "depthwise": depthwise.depthwise,
            "depthwise, XLA's": depthwise.plain,
            "depthwise, shifted": depthwise.shifted,
        }.items()
    },
    "windows.pad": (
        windows.pad,
        {"x": Float[Array, "b h w c"], "returns": Float[Array, "b {x.shape[1]+2} _ c"]},
        lambda f: f(zeros(2, 6, 5, 3), 3, 1),
    ),
    "windows.patches": (
        windows.patches,
        {"x": Float[Array, "b h w c"], "returns": Float[Array, HALF + " {size*size*x.shape[3]}"]},
        lambda f: f(zeros(2, 6, 5, 3), 3, 2),
    ),
    "conv norm": (
        ConvNorm.__call__,
        {
            "x": Float[Array, "b h w c"],
            "mask": MASK_OF_O,
            "returns": Float[Array, HALF.replace("stride", "self.stride") + " o"],
        },
        lambda f: [
            f(build(ConvNorm, 3, 4, 5, stride=2), zeros(2, 6, 7, 4), "batch", mask)
            for mask in (None, MASK)
        ],
    ),
    "depthwise norm": (
        DepthwiseNorm.__call__,
        {
            "x": Float[Array, "b h w c"],
            "mask": MASK_OF_C,
            "returns": Float[Array, HALF.replace("stride", "self.stride") + " c"],
        },
        lambda f: [
            f(build(DepthwiseNorm, 3, 5, stride=2), zeros(2, 6, 7, 5), "batch", mask)
            for mask in (None, MASK)
        ],
    ),
    "dense": (
        Dense.__call__,
        {"x": Float[Array, "b c"], "returns": Float[Array, "b 7"]},
        lambda f: f(Dense(5, 7, rngs=nnx.Rngs(0)), zeros(2, 5)),
    ),
    **{
        type(block).__name__: (
            module_of(block).__call__,
            {"x": Float[Array, "b h w c"], "returns": Float[Array, "b h w c"]},
            lambda f, block=block: f(
                build(module_of(block), block, 8), zeros(2, 6, 4, 8), BlockContext()
            ),
        )
        for block in (
            MQA(heads=3, key_dim=5, kv_stride=2, query_stride=2),
            MHSA(heads=3, key_dim=5),
            UIB(filters=8, start_dw=3),
        )
    },
    "drop_branch": (
        BlockContext.drop_branch,
        {"branch": Float[Array, "b h w c"], "returns": Float[Array, "b h w c"]},
        lambda f: f(BlockContext(key=jax.random.key(0), drop_rate=0.5), zeros(2, 3, 4, 5)),
    ),
    **{
        function.__name__: (
            function,
            {
                "shares": Float[Array, "{len(branches)}"],
                "x": Float[Array, "*b"],
                "returns": Float[Array, "*b"],
            },
            lambda f, options=options: f(zeros(2), [None, jnp.sin], zeros(3, 4), **options),
        )
        for function, options in (
            (weighted_sum, {"differentiable": True}),
            (weighted_sum_reference, {}),
        )
    },
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, checked: Checked) -> None:
    function, shapes, call = LAYERS[name]
    jax.eval_shape(lambda: call(checked(function, **shapes)))


def vectors(space: SearchSpace, replicas: int = 5) -> jax.Array:
    return zeros(replicas, len(space.decisions), dtype=jnp.int32)


def shares(space: SearchSpace) -> jax.Array:
    return zeros(len(space.decisions), max(decision.options for decision in space.decisions))


ANY_VECTOR = Int32[Array, "{len(self.space.decisions)}"] | None
ANY_SHARES = Float[Array, "{len(self.space.decisions)} _"] | None

NETWORKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "logits": (
        Network.__call__,
        {
            "images": Float[Array, "b h w c"],
            "vector": ANY_VECTOR,
            "shares": ANY_SHARES,
            "returns": Float32[Array, "b {self.spec.classes}"],
        },
    ),
    "features": (
        Network.features,
        {
            "images": Float[Array, "b h w c"],
            "vector": ANY_VECTOR,
            "shares": ANY_SHARES,
            "returns": dict[str, Float[Array, "b _ _ _"]],
        },
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, tiny_space: SearchSpace, checked: Checked) -> None:
    function, shapes = NETWORKS[name]
    run, x = checked(function, **shapes), zeros(2, 9, 9, 3)
    frozen = search_spaces.freeze(tiny_space, (0,) * len(tiny_space.decisions))

    def call() -> None:
        supernet = build_supernet(tiny_space, rngs=nnx.Rngs(0))
        run(supernet, x, vectors(tiny_space)[0], mode="batch")
        run(supernet, x, shares=shares(tiny_space), mode="batch")
        run(build_network(frozen, rngs=nnx.Rngs(0)), x)

    jax.eval_shape(call)


def test_heads(tiny_space: SearchSpace, checked: Checked) -> None:
    frozen = search_spaces.freeze(tiny_space, (0,) * len(tiny_space.decisions))
    logits = Float32[Array, "b {self.spec.classes}"]
    run = checked(ClassifierHead.__call__, features=Float[Array, "b h w c"], returns=logits)
    jax.eval_shape(lambda: run(build_network(frozen, rngs=nnx.Rngs(0)).head, zeros(2, 5, 3, 32)))


SIZE = {"returns": Int32[Array, ""] | int}
BRANCH = {"x": Float[Array, "*b"], "returns": Float[Array, "*b"]}

SELECTIONS: dict[str, Row] = {
    "index": (
        Selection.index,
        {"returns": Int32[Array, ""]},
        lambda f, selection, holes: f(selection, holes["end"]),
    ),
    "width": (
        Selection.width,
        SIZE,
        lambda f, selection, holes: (f(selection, holes["end"]), f(selection, 8)),
    ),
    "product_width": (
        Selection.product_width,
        SIZE,
        lambda f, selection, holes: f(
            selection, holes["width"], holes["expansion"], lambda a, b: int(a * b)
        ),
    ),
    "operator": (
        Selection.operator,
        BRANCH,
        lambda f, selection, holes: f(
            selection, holes["kernel"], [None, jnp.sin, jnp.cos], zeros(2, 3)
        ),
    ),
    "maybe_apply": (
        Selection.maybe_apply,
        BRANCH,
        lambda f, selection, holes: f(selection, holes["depth"], jnp.sin, zeros(2, 3)),
    ),
}


@pytest.mark.parametrize("by", ["vector", "shares"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(name: str, by: str, tiny_space: SearchSpace, checked: Checked) -> None:
    function, shapes, call = SELECTIONS[name]
    holes = {hole.name: hole for block in tiny_space.spec.blocks for _, hole, _ in block.holes()}
    if by == "vector":
        selection = Selection(tiny_space, vectors(tiny_space)[0])
    else:
        selection = Selection.from_shares(tiny_space, shares(tiny_space))
    jax.eval_shape(lambda: call(checked(function, **shapes), selection, holes))
