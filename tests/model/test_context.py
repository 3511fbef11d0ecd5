"""Stochastic depth, and the rate of each block."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.model.context import BlockContext
from nas.model.network import build_network, drop_rates
from search_spaces import ArchSpec
from search_spaces.blocks import MQA, UIB, Classifier, Conv, Pool


def test_branches_are_dropped_by_the_image_and_scaled() -> None:
    ctx = BlockContext(key=jax.random.key(0), drop_rate=0.25)
    dropped = np.asarray(ctx.drop_branch(jnp.ones((4000, 2, 3, 5))))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (dropped == dropped[:, :1, :1, :1]).all()
    assert dropped.mean() == pytest.approx(1, abs=4 * np.sqrt(0.25 / 0.75 / 4000))


@pytest.mark.parametrize(
    "ctx",
    [BlockContext(), BlockContext(drop_rate=0.5), BlockContext(key=jax.random.key(0))],
    ids=["", "rate", "key"],
)
def test_nothing_is_dropped_without_a_rate_and_a_key(ctx: BlockContext) -> None:
    x = jnp.ones((3, 1, 1, 2))
    assert ctx.drop_branch(x) is x


def spec_of(*blocks) -> ArchSpec:
    return ArchSpec.model_validate({"name": "net", "resolution": 8, "blocks": blocks})


def test_rates_grow_with_depth_and_attention_has_the_peak() -> None:
    spec = spec_of(
        Conv(filters=8),
        UIB(filters=8),
        MQA(heads=1, key_dim=8),
        UIB(filters=8),
        Pool(),
        Classifier(classes=3),
    )
    np.testing.assert_allclose(drop_rates(spec, 0.5), [0.1, 0.2, 0.5, 0.4, 0.5, 0.5])


def test_rates_of_hybrid_m() -> None:
    """Peak 0.075 (table 9) over its 38 blocks before the classifier; the first has peak / 38."""
    spec = search_spaces.zoo("mnv4-hybrid-m")
    rates = drop_rates(spec, 0.075)
    assert rates[0] == pytest.approx(0.075 / (len(spec.blocks) - 1))
    assert [r for r, b in zip(rates, spec.blocks, strict=True) if isinstance(b, MQA)] == [0.075] * 8


def test_a_network_drops_whole_blocks(filled: Any) -> None:
    """Every image keeps or loses the branch of the attention, the only residual of the network."""
    spec = spec_of(MQA(heads=1, key_dim=8), Pool(), Classifier(classes=3))
    module = filled(lambda: build_network(spec, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(module)

    @functools.partial(jax.jit, static_argnames=("mode", "stochastic_depth"))
    def network(images: jax.Array, **options: Any) -> jax.Array:
        return nnx.merge(graph, state)(images, **options)

    images = jnp.asarray(np.random.default_rng(0).normal(size=(64, 8, 8, 3)), jnp.float32)
    whole = np.asarray(network(images, mode="batch"))
    none = np.asarray(network(images, mode="batch", key=jax.random.key(1)))
    np.testing.assert_array_equal(whole, none)
    without = np.asarray(module.blocks[2](images.mean((1, 2), keepdims=True), BlockContext()))
    dropped = np.asarray(network(images, mode="batch", key=jax.random.key(1), stochastic_depth=0.5))
    lost = np.isclose(dropped, without, atol=1e-6).all(-1)
    assert 16 < lost.sum() < 48
    # the branch enters the logits linearly, scaled by 1 / (1 - 0.5)
    doubled = np.asarray(2 * whole - without)
    np.testing.assert_allclose(dropped[~lost], doubled[~lost], atol=1e-5)
