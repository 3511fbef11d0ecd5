"""Built networks of the zoo: the same counts as their specs, and the MobileNetV4s run."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.model.network import build_network, split
from search_spaces import ArchSpec


def _abstract(spec: ArchSpec) -> tuple[Any, Any, Any]:
    """(graph, shapes of parameters, shapes of statistics), without computing a weight."""
    network = nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0)))
    return split(network)


# One network with each kind of block; the others are marked slow.
QUICK = {
    *(
        "mnv4-conv-s",
        "mnv4-hybrid-m",
        "mobilenet-v1",
        "mobilenet-v3-large",
        "multi-hardware-max",
        "mobileone-s4",
    ),
    *("convnext-t", "fastvit-t8", "efficientvit-b1", "nextvit-s"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in search_spaces.zoo_names()
    ],
)
def test_the_built_network_counts_what_its_spec_counts(name: str, count_macs: Any) -> None:
    spec = search_spaces.zoo(name)
    graph, params, stats = _abstract(spec)
    assert sum(math.prod(a.shape) for a in jax.tree.leaves(params)) == search_spaces.params(spec)
    batch = 2  # a batch of 1 would be no batch dimension to a matrix product
    images = jax.ShapeDtypeStruct(
        (batch, spec.resolution, spec.resolution, spec.input_channels), jnp.float32
    )

    def forward(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, stats)(images)

    dense, products, shape = count_macs(forward, params, stats, images)
    assert shape == (batch, spec.classes)
    assert (dense, products) == (
        batch * search_spaces.macs(spec),
        batch * search_spaces.attention_macs(spec),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in search_spaces.zoo_names() if name.startswith("mnv4")]
)
def test_forward_and_backward_at_full_resolution(name: str) -> None:
    """A small step lowers the loss as the gradient predicts; every parameter has a gradient."""
    spec = search_spaces.zoo(name)
    graph, params, stats = split(build_network(spec, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(4, spec.resolution, spec.resolution, 3)), jnp.float32)
    labels = jnp.array([1, 7, 50, 900])

    @jax.jit
    def loss(params: Any) -> jax.Array:
        logits = nnx.merge(graph, params, stats)(images, mode="batch")
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    before, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert math.isfinite(float(before)) and abs(float(before) - math.log(1000)) < 1
    square = sum(float((g * g).sum()) for g in jax.tree.leaves(gradient))
    assert math.isfinite(square)
    zero = [
        path
        for path, g in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.any(np.asarray(g))
    ]
    assert not zero, zero
    moved = jax.tree.map(lambda p, g: p - 1e-4 / square * g, params, gradient)
    # predicted for the step after rounding: many parameters are too large for so small a step
    steps = zip(*map(jax.tree.leaves, (params, moved, gradient)), strict=True)
    expected = sum(
        float(np.vdot(np.asarray(p, np.float64) - np.asarray(q, np.float64), g))
        for p, q, g in steps
    )
    assert 0.5e-4 < expected < 1.5e-4
    assert float(before) - float(loss(moved)) == pytest.approx(expected, rel=0.1)
