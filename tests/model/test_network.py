"""Networks from specs: parameters, shapes, precision, statistics, and errors."""

from __future__ import annotations

import functools
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.model.context import LayerConfig, NormMode
from nas.model.network import build_network, build_supernet, split
from search_spaces import ArchSpec, CoarseOptions, SearchSpace, freeze

Vectors = Callable[[SearchSpace, int], list[tuple[int, ...]]]
Images = Callable[[ArchSpec], jax.Array]
Parse = Callable[[str], ArchSpec]


def _one_stage_of_small_32() -> SearchSpace:
    options = CoarseOptions(expansions=(2.0, 4.0))
    return search_spaces.one_stage_space(search_spaces.base("small-32"), options)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["one stage of small-32", "coarse by stage", "fine"])
def test_a_network_has_the_parameters_and_shapes_of_its_lowering(
    spaces: dict[str, SearchSpace], name: str, seed: int
) -> None:
    space = spaces[name] if name in spaces else _one_stage_of_small_32()
    _check_lowering(freeze(space, space.random(random.Random(seed))))


def test_a_network_like_conv_m_has_the_parameters_and_shapes_of_its_lowering(
    conv_m: ArchSpec,
) -> None:
    _check_lowering(conv_m)


def _check_lowering(spec: ArchSpec) -> None:
    network = nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0)))
    graph, params, stats = split(network)
    assert sum(a.size for a in jax.tree.leaves(params)) == search_spaces.params(spec)
    images = jax.ShapeDtypeStruct(
        (2, spec.resolution, spec.resolution, spec.input_channels), jnp.float32
    )
    logits = jax.eval_shape(lambda p, s, x: nnx.merge(graph, p, s)(x), params, stats, images)
    assert logits.shape == (2, spec.classes)


def test_training_moves_statistics_and_running_does_not(
    spaces: dict[str, SearchSpace], filled: Any, distinct_vectors: Vectors, images_for: Images
) -> None:
    spec = freeze(spaces["fine"], distinct_vectors(spaces["fine"], 1)[0])
    network = filled(
        lambda: build_network(spec, rngs=nnx.Rngs(0), config=LayerConfig(momentum=0.5))
    )
    graph, params, stats = split(network)
    images = images_for(spec)

    @functools.partial(jax.jit, static_argnums=1)
    def run(stats: Any, mode: NormMode) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, params, stats)
        return model(images, mode=mode), split(model)[2]

    (running, same), (batch, same_too), (train, moved) = (
        run(stats, mode) for mode in ("running", "batch", "train")
    )
    for kept in (same, same_too):
        jax.tree.map(np.testing.assert_array_equal, kept, stats)
    assert all(
        (np.asarray(a) != b).mean() > 0.9
        for a, b in zip(*map(jax.tree.leaves, (moved, stats)), strict=True)
    )
    np.testing.assert_allclose(train, batch, atol=1e-5)
    assert np.abs(running - batch).max() > 1e-3
    for _ in range(20):
        _, moved = run(moved, "train")
    np.testing.assert_allclose(run(moved, "running")[0], batch, atol=1e-3)


def test_bfloat16_follows_float32(
    filled: Any, distinct_vectors: Vectors, images_for: Images, parse: Parse
) -> None:
    """Same weights: logits and gradients point the same way; no product has a float32 factor."""
    space = SearchSpace(
        parse("""
name: two-precisions
resolution: 6
blocks:
- {kind: conv, filters: 8}
- {kind: uib, filters: 8, start_dw: {one_of: [0, 3], name: start},
   present: {one_of: [true, false], name: depth}}
- {kind: pool}
- {kind: classifier, classes: 3}
""")
    )
    images = images_for(space.spec)
    vector = jnp.asarray(distinct_vectors(space, 1)[0], jnp.int32)
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        config = LayerConfig(dtype=dtype)
        supernet = filled(lambda c=config: build_supernet(space, rngs=nnx.Rngs(0), config=c))
        graph, params, stats = split(supernet)

        def logits(params: Any, graph: Any = graph, stats: Any = stats) -> jax.Array:
            return nnx.merge(graph, params, stats)(images, vector, mode="batch")

        text = str(jax.make_jaxpr(logits)(params))
        products = re.findall(r":(\w+)\[[^\n]*\] = (?:dot_general|conv_general_dilated)", text)
        assert products and {str(jnp.dtype(dtype)).replace("float", "f")} == set(products)
        y, gradient = jax.jit(lambda p, f=logits: (f(p), jax.grad(lambda p: (f(p) ** 2).sum())(p)))(
            params
        )
        leaves = [y, *jax.tree.leaves(gradient)]
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
        results.append((np.ravel(y), np.concatenate([np.ravel(leaf) for leaf in leaves[1:]])))
    for exact, rough in zip(*results, strict=True):
        cosine = exact @ rough / np.linalg.norm(exact) / np.linalg.norm(rough)
        assert 0.99 < cosine < 1 - 1e-7, cosine


def test_refusals(spaces: dict[str, SearchSpace], small_base: ArchSpec, images_for: Images) -> None:
    space = spaces["fine"]
    with pytest.raises(
        ValueError, match="small-fine has holes; freeze it first, or build its supernet"
    ):
        build_network(space.spec, rngs=nnx.Rngs(0))
    supernet = nnx.eval_shape(lambda: build_supernet(space, rngs=nnx.Rngs(0)))
    images, vector = images_for(space.spec), jnp.zeros(len(space.decisions), jnp.int32)
    shares = jnp.zeros((len(space.decisions), max(d.options for d in space.decisions)))
    with pytest.raises(ValueError, match="a supernet keeps no running statistics"):
        supernet(images, vector, mode="train")
    with pytest.raises(ValueError, match="a supernet needs a decision vector"):
        supernet(images)
    with pytest.raises(ValueError, match="got a decision vector and shares; pass one of the two"):
        supernet(images, vector, shares=shares)
    network = nnx.eval_shape(lambda: build_network(small_base, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="a network without holes takes none"):
        network(images, vector)
    with pytest.raises(ValueError, match="got shares, but a network without holes takes none"):
        network(images, shares=shares)


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((8, 22, 22, 3), "resize them, or change the spec's resolution"),
        ((8, 11, 12, 3), "resize them, or change the spec's resolution"),
        ((8, 11, 11, 1), "convert them, or change the spec's input_channels"),
        ((11, 11, 3), "add the batch axis"),
        ((8, 11, 11), "pass an array of 4 axes"),
    ],
    ids=str,
)
def test_images_of_another_shape_are_refused_while_tracing(
    spaces: dict[str, SearchSpace], small_base: ArchSpec, shape: tuple[int, ...], cure: str
) -> None:
    space = spaces["fine"]
    network = nnx.eval_shape(lambda: build_network(small_base, rngs=nnx.Rngs(0)))
    supernet = nnx.eval_shape(lambda: build_supernet(space, rngs=nnx.Rngs(0)))
    images, vector = jnp.zeros(shape), jnp.zeros(len(space.decisions), jnp.int32)
    end = re.escape(f" takes images [b, 11, 11, 3], got {list(shape)}; {cure}") + "$"
    with pytest.raises(ValueError, match="^network 'small'" + end):
        network(images)
    with pytest.raises(ValueError, match="^network 'small'" + end):
        network.features(images)
    with pytest.raises(ValueError, match="^supernet 'small-fine'" + end):
        supernet(images, vector, mode="batch")


_TREE_MODE = """
import jax, jax.numpy as jnp
from flax import nnx
import search_spaces
from nas.model.network import build_network, build_supernet, extract, split
spec = search_spaces.yaml_io.parse_model('''
name: tiny
resolution: 6
blocks:
- {kind: conv, filters: {one_of: [8, 16], name: width}}
- {kind: uib, filters: 8, start_dw: {one_of: [0, 3], name: kernel}}
- {kind: pool}
- {kind: classifier, classes: 3}
''', search_spaces.ArchSpec, "tiny")
space = search_spaces.SearchSpace(spec)
supernet, images = build_supernet(space, rngs=nnx.Rngs(0)), jnp.ones((2, 6, 6, 3))
graph, params, stats = split(supernet)
run = jax.jit(lambda p, s, v: nnx.merge(graph, p, s)(images, v, mode="batch"))
shared = run(params, stats, jnp.array([0, 1]))
alone = extract(supernet, space, (0, 1))
assert jnp.abs(alone(images, mode="batch") - shared).max() < 1e-5
graph, params, stats = split(alone)
def train(params, stats):
    model = nnx.merge(graph, params, stats)
    return model(images, mode="train"), split(model)[2]
_, moved = jax.jit(train)(params, stats)
before, after = jax.tree.leaves(stats), jax.tree.leaves(moved)
assert all((a != b).any() for a, b in zip(before, after, strict=True))
print("tree mode", nnx.set_graph_mode.current_value(), nnx.set_graph_updates.current_value())
"""


@pytest.mark.slow
def test_works_in_the_tree_mode_of_nnx() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _TREE_MODE],
        env=os.environ
        | {"NNX_GRAPH_MODE": "false", "NNX_GRAPH_UPDATES": "false", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "tree mode False False\n"), done.stderr
