"""Options of a step: separate policies, l2, perturbed images; and how much memory it takes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nas.engine.step import Search
from nas.model.network import build_network, inherit, split
from search_spaces import freeze

from ..searches import space_of
from .steps import RATE, batch_of, build_search


def test_memory_grows_with_the_largest_network_not_with_the_options() -> None:
    """Temporaries of a training step: spaces of 8 and of 108 vectors, the same largest network."""
    text = """
name: memory
resolution: 8
blocks:
- {{kind: conv, filters: {{one_of: {widths}, name: width}}, stride: 2}}
- {{kind: uib, filters: {{one_of: {widths}, name: width}},
   middle_dw: {{one_of: {kernels}, name: middle}},
   expansion: {{one_of: {expansions}, name: expansion}}}}
- {{kind: pool}}
- {{kind: classifier, classes: 3}}
"""
    temporaries = []
    for widths, kernels, expansions in (
        ([24, 48], [3, 5], [2.0, 4.0]),
        ([8, 16, 24, 32, 40, 48], [0, 3, 5], [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]),
    ):
        spec = text.format(widths=widths, kernels=kernels, expansions=expansions)
        search = build_search(space_of(spec))
        train: Any = search.jitted_train
        step = train.lower(search.init(0), batch_of(0), jax.random.key(0))
        temporaries.append(step.compile().memory_analysis().temp_size_in_bytes)
    assert temporaries[1] < 1.05 * temporaries[0]


@pytest.fixture(scope="module")
def plain() -> Search:
    """Without any of the options."""
    return build_search(warmup=0.0)


@pytest.fixture(scope="module")
def separate() -> Search:
    """Two policies, each with one of two replicas and one of two targets."""
    return build_search(policies=2, delay=0.0, warmup=0.0)


class TestSeparatePolicies:
    def test_each_learns_from_its_own_replica_and_target(self, separate: Search) -> None:
        vectors = jnp.array([[0, 1, 0], [1, 0, 0]], jnp.int32)
        quality = jnp.array([0.5, 0.25])
        new, _, metrics = separate.jitted_learn(
            separate.init(0).policy, jnp.asarray(0), vectors, quality
        )
        costs = separate.objective.costs(np.asarray(vectors))
        ratios = separate.objective.ratios(np.asarray(vectors))
        for own, name in enumerate(("macs", "pixel6-cpu")):
            reward = float(quality[own]) - 0.1 * abs(ratios[own, own] - 1)
            alone, _ = separate.policy.update(
                separate.policy.init(),
                vectors[own : own + 1],
                jnp.array([reward], jnp.float32),
                0.1,
            )
            np.testing.assert_allclose(new.logits[own], alone.logits, atol=1e-5)
            assert float(metrics[f"reward/{name}"]) == pytest.approx(reward, abs=1e-5)
            assert float(metrics[f"cost/{name}"]) == pytest.approx(costs[own, own], rel=1e-5)

    def test_each_samples_by_its_own_logits(self, separate: Search) -> None:
        state = separate.init(0)
        sure = state.policy.logits.at[0, :, 1].set(50.0).at[1, :, 0].set(50.0)
        sure_state = state._replace(policy=state.policy._replace(logits=sure))
        trained = separate.jitted_train(sure_state, batch_of(0), jax.random.key(0))
        assert trained.sampled.tolist() == [[1, 1, 1], [0, 0, 0]]


def weights_after(search: Search, vector: tuple[int, ...]) -> tuple[Any, Any]:
    """The first weights, and those after a step that trains `vector` in both replicas."""
    state = search.init(0)
    logits = 50.0 * jax.nn.one_hot(jnp.array(vector), state.policy.logits.shape[-1])[None]
    before = jax.tree.map(np.array, state.params)
    sure_state = state._replace(policy=state.policy._replace(logits=logits))
    after = search.jitted_train(sure_state, batch_of(0), jax.random.key(0))
    return before, jax.tree.map(np.array, after.state.params)


@pytest.mark.parametrize(
    "vector",
    [(0, 1, 0), *(pytest.param(v, marks=pytest.mark.slow) for v in [(1, 1, 0), (0, 0, 1)])],
)
def test_l2_shrinks_the_kernels_that_are_used_and_no_other_weight(
    plain: Search, vector: tuple[int, ...]
) -> None:
    """new(l2) - new(0) = -rate * l2 * w for the kernels of the trained network, 0 elsewhere."""
    decayed = build_search(l2=0.5, warmup=0.0)
    before, without = weights_after(plain, vector)
    _, with_l2 = weights_after(decayed, vector)
    network = split(build_network(freeze(plain.space, vector), rngs=nnx.Rngs(0)))[1]
    used = inherit(jax.tree.map(lambda w: np.ones(w.shape), before), plain.space, vector, network)
    count = sum(int(leaf.size) for leaf in jax.tree.leaves(used) if leaf.ndim > 1)
    differing = 0
    for w, a, b in zip(*map(jax.tree.leaves, (before, without, with_l2)), strict=True):
        changed = a != b
        differing += changed.sum()
        np.testing.assert_allclose((b - a)[changed], (-RATE * 0.5 * w)[changed], atol=2e-6)
        assert w.ndim > 1 or not changed.any()
    # some weights have no gradient, or move too little to be seen
    assert differing == pytest.approx(count, rel=0.02)


@pytest.mark.parametrize("setting", [pytest.param("noise", marks=pytest.mark.slow), "fgsm"])
def test_perturbed_images_train_other_weights_and_adversarial_ones_are_harder(
    plain: Search, setting: str
) -> None:
    settings: dict[str, Any] = {setting: 0.1}
    perturbed = build_search(warmup=0.0, **settings)
    root, batch = jax.random.key(0), batch_of(0)
    a, b = (
        float(search.jitted_train(search.init(0), batch, root).metrics["loss"])
        for search in (plain, perturbed)
    )
    assert b > a if setting == "fgsm" else b != a
