"""Fixtures that the tests of networks share."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.model.network import Network, build_supernet
from search_spaces import ArchSpec, CoarseOptions, SearchSpace, yaml_io

Filled = Callable[[Callable[[], Any]], Any]
MacCounter = Callable[..., tuple[int, int, tuple[int, ...]]]


@pytest.fixture(scope="session")
def filled() -> Filled:
    """filled(build): the module that build() makes, with random arrays, none of them constant.

    Nothing is compiled for its initial weights, which is most of the time that a small module
    takes. Kernels have variance 1 / fan_in, means lie in -0.3 to 0.7, all other vectors (variances,
    scales, biases) in 0.5 to 1.5.
    """

    def fill(build: Callable[[], Any]) -> Any:
        graph, state = nnx.split(nnx.eval_shape(build))
        rng = np.random.default_rng(0)

        def values_for(path: Any, a: Any) -> np.ndarray:
            if a.ndim > 1:
                values = rng.normal(0, 1 / math.sqrt(math.prod(a.shape[:-1])), a.shape)
            else:
                values = rng.uniform(0.5, 1.5, a.shape) - (
                    0.8 if "mean" in jax.tree_util.keystr(path) else 0
                )
            return values.astype(a.dtype)

        return nnx.merge(graph, jax.tree_util.tree_map_with_path(values_for, state))

    return fill


@pytest.fixture(scope="session")
def count_macs() -> MacCounter:
    """count_macs(function, *arguments): (MACs of layers, MACs of products of activations, shape).

    They are counted in the traced program, not in specs, and so check a spec independently. Layers
    are convolutions and dense layers. A matrix product with a batch dimension has no weights among
    its operands, all others have. The shape is that of the (only) result.
    """

    def count(function: Callable[..., Any], *arguments: Any) -> tuple[int, int, tuple[int, ...]]:
        traced = jax.make_jaxpr(function)(*arguments)
        return *_count(traced.jaxpr), traced.out_avals[0].shape

    return count


_BASE = """
name: small
resolution: 11
blocks:
- {kind: conv, filters: 8, stride: 2}
- {kind: fused_ib, filters: 8, expansion: 2.0}
- {kind: uib, filters: 16, start_dw: 3}
- {kind: uib, filters: 16, middle_dw: 0, activation: gelu}
- {kind: uib, filters: 24, stride: 2}
- {kind: conv, filters: 16, kernel: 1}
- {kind: pool}
- {kind: classifier, classes: 5, dropout: 0.5}
"""
_COARSE = CoarseOptions(multipliers=(0.5, 1.0, 1.5), expansions=(2.0, 3.0))


@pytest.fixture(scope="session")
def parse() -> Callable[[str], ArchSpec]:
    """parse(text): the spec of a YAML text."""
    return lambda text: yaml_io.parse_model(text, ArchSpec, "test")


@pytest.fixture(scope="session")
def small_base(parse: Callable[[str], ArchSpec]) -> ArchSpec:
    """A network of 11 px images with every block of a base."""
    return parse(_BASE)


@pytest.fixture(scope="session")
def spaces(small_base: ArchSpec, tiny_space: SearchSpace) -> dict[str, SearchSpace]:
    """Small spaces of every kind, by name."""
    base = small_base
    by_block = _COARSE.model_copy(update={"filters_by": "block", "min_depth": 2})
    return {
        "coarse by stage": search_spaces.coarse_space(base, _COARSE),
        "coarse by block": search_spaces.coarse_space(base, by_block),
        "fine": search_spaces.fine_space(base),
        "one stage": search_spaces.one_stage_space(base, _COARSE),
        "hybrid": _hybrid(base),
        # its last decisions choose between two kinds of block
        "alternatives": tiny_space,
    }


def _hybrid(base: ArchSpec) -> SearchSpace:
    """Attention or UIB in every block, each with all of its decisions, at widths that are holes."""
    coarse = search_spaces.coarse_space(base, _COARSE.model_copy(update={"min_depth": None}))
    options = search_spaces.HybridOptions(heads=(1, 3), key_dims=(2, 5))
    return search_spaces.hybrid_space(coarse.spec, options)


@pytest.fixture(scope="session")
def conv_m() -> ArchSpec:
    """Widths and depths of MNv4-Conv-M (paper, table 11) with expansion 4, as in a coarse stage."""
    uibs = [
        {"kind": "uib", "filters": width, "stride": 1 if position else 2}
        for width, depth in [(80, 2), (160, 8), (256, 11)]
        for position in range(depth)
    ]
    blocks = [
        {"kind": "conv", "filters": 32, "stride": 2},
        {"kind": "fused_ib", "filters": 48, "stride": 2},
        *uibs,
        {"kind": "conv", "filters": 960, "kernel": 1},
        {"kind": "pool"},
        {"kind": "conv", "filters": 1280, "kernel": 1},
        {"kind": "classifier", "classes": 1000},
    ]
    return ArchSpec.model_validate({"name": "conv-m-like", "resolution": 256, "blocks": blocks})


@pytest.fixture(scope="session")
def randomised(filled: Filled) -> Callable[[SearchSpace], Network]:
    """randomised(space): its supernet with non-zero biases, and statistics that fit no batch."""
    return lambda space: filled(lambda: build_supernet(space, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="session")
def distinct_vectors() -> Callable[[SearchSpace, int], list[tuple[int, ...]]]:
    """distinct_vectors(space, count): random decision vectors of different networks."""

    def draw(space: SearchSpace, count: int) -> list[tuple[int, ...]]:
        vectors: dict[tuple[int, ...], tuple[int, ...]] = {}
        rng = random.Random(2)
        while len(vectors) < count:
            vector = space.random(rng)
            vectors.setdefault(space.canonical(vector), vector)
        return list(vectors.values())

    return draw


@pytest.fixture(scope="session")
def images_for() -> Callable[[ArchSpec], jax.Array]:
    """images_for(spec): three random images of its size."""

    def draw(spec: ArchSpec) -> jax.Array:
        shape = (3, spec.resolution, spec.resolution, spec.input_channels)
        return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)

    return draw


def _count(jaxpr: Any) -> tuple[int, int]:
    dense = products = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        shapes = [v.aval.shape for v in equation.invars if hasattr(v, "aval")]
        out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if name == "conv_general_dilated":
            # kernels are [h, w, in / groups, out]
            assert equation.params["dimension_numbers"].rhs_spec[0] == 3
            dense += out * math.prod(shapes[1][:3])
        elif name == "dot_general":
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            macs = out * math.prod(shapes[0][axis] for axis in contracted)
            dense, products = (dense, products + macs) if batch else (dense + macs, products)
        else:
            inner = [_count(sub) for value in equation.params.values() for sub in _jaxprs(value)]
            # only one branch runs; the stock convolution is one of them
            if name == "cond" and inner:
                inner = [max(inner)]
            times = equation.params["length"] if name == "scan" else 1
            dense += times * sum(d for d, _ in inner)
            products += times * sum(p for _, p in inner)
    return dense, products


def _jaxprs(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []
