"""One step of the search against its parts."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nas.engine import warmup
from nas.engine.state import Batch, SearchState
from nas.engine.step import Search
from nas.searchers import reinforce
from nas.tasks import inputs
from rewards import REWARDS

from ..searches import command_on_two_devices
from .steps import (
    DELAY,
    RATE,
    REPLICAS,
    STEPS,
    WARM,
    Run,
    batch_of,
    build_search,
    programs,
    run_all,
)


@pytest.fixture(scope="module")
def search() -> Search:
    return build_search()


@pytest.fixture(scope="module")
def run(search: Search) -> Run:
    return run_all(search, search.init(0), jax.random.key(0))


@pytest.fixture(scope="module")
def quality_of(search: Search) -> Any:
    return jax.jit(
        lambda params, images, labels, vector: (
            search.logits(params, images, vector).argmax(-1) == labels
        ).mean()
    )


def drawn(search: Search, state: SearchState, step: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(sampled vectors, trained vectors, flip keys) of a step."""
    step_key = jax.random.fold_in(jax.random.key(0), step)
    sample_key, warm_key, flip_key = jax.random.split(step_key, 3)
    policy = jax.tree.map(lambda leaf: leaf[0], state.policy)
    vectors = search.policy.sample(policy, jax.random.split(sample_key, 1)[0], REPLICAS)
    p = warmup.probability(jnp.asarray(step), STEPS, WARM)
    trained = warmup.warm(search.space, vectors, warm_key, p)
    return vectors, trained, jax.random.split(flip_key, REPLICAS)


def qualities(quality_of: Any, params: Any, batch: Batch, vectors: jax.Array) -> np.ndarray:
    scored = zip(batch.validation_images, batch.validation_reference, vectors, strict=True)
    return np.array([float(quality_of(params, *arrays)) for arrays in scored])


def test_metrics(search: Search, run: Run) -> None:
    scalars = (
        "loss quality reward baseline advantage entropy log_probability policy_learning_rate "
        "warmup gradient_norm"
    )
    for row in run.metrics:
        assert set(row) == {*scalars.split(), "cost/macs", "cost/pixel6-cpu"}
        assert np.isfinite(list(row.values())).all()
    assert run.metrics[0]["entropy"] == pytest.approx(np.log(2), rel=1e-6)
    assert [row["warmup"] for row in run.metrics] == [1.0, 0.5, *[0.0] * 6]


def test_steps_and_results_share_three_programs(run: Run, search: Search) -> None:
    assert programs(search, run.states[-1]) == [1, 1, 1]


def test_state_counts_steps(run: Run) -> None:
    assert [int(state.step) for state in run.states] == list(range(STEPS + 1))


def test_weights_move_at_every_step(run: Run) -> None:
    def moved(old: SearchState, new: SearchState) -> list[bool]:
        pairs = zip(*map(jax.tree.leaves, (old.params, new.params)), strict=True)
        return [(a != b).any() for a, b in pairs]

    for old, new in zip(run.states, run.states[1:], strict=False):
        assert any(moved(old, new))
    assert all(moved(run.states[0], run.states[-1]))


def test_policy_is_frozen_during_the_delay_and_learns_behind_it(run: Run) -> None:
    logits = [state.policy.logits for state in run.states]
    for step in range(4):
        np.testing.assert_array_equal(logits[step + 1], 0)
        assert run.metrics[step]["policy_learning_rate"] == 0
    assert (logits[5] != 0).any()
    assert run.metrics[4]["policy_learning_rate"] == pytest.approx(0.1)
    sums = [float(state.policy.baseline_sum[0]) for state in run.states]
    assert len(set(sums)) == STEPS + 1  # the baseline moves from the start


@pytest.mark.parametrize("step", [0, 1, 5], ids=["warm-up", "half-warm", "behind it"])
def test_gradient_is_the_mean_of_the_replicas(search: Search, run: Run, step: int) -> None:
    state, batch = run.states[step], batch_of(step)
    _, trained, keys = drawn(search, state, step)
    each = [
        gradient_of(
            search,
            state.params,
            inputs.flip(jnp.asarray(batch.images[r]), keys[r]),
            batch.targets[r],
            trained[r],
        )
        for r in range(REPLICAS)
    ]
    row, after = run.metrics[step], run.states[step + 1]
    assert row["loss"] == pytest.approx(np.mean([loss for loss, _ in each]), rel=1e-5)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *(gradient for _, gradient in each))
    got = jax.tree.map(lambda old, new: (old - new) / RATE, state.params, after.params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), got, mean)
    assert row["gradient_norm"] == pytest.approx(float(optax.tree.norm(mean)), rel=1e-4)


@functools.cache
def _value_and_grad(search: Search) -> Any:
    def loss(params: Any, images: jax.Array, targets: jax.Array, vector: jax.Array) -> jax.Array:
        smooth = 0.9 * targets + 0.1 / 3
        return -(smooth * jax.nn.log_softmax(search.logits(params, images, vector))).sum(-1).mean()

    return jax.jit(jax.value_and_grad(loss))


def gradient_of(search: Search, *arguments: Any) -> tuple[float, Any]:
    loss, gradient = _value_and_grad(search)(*arguments)
    return float(loss), gradient


@pytest.mark.parametrize("step", range(STEPS))
def test_quality_is_measured_with_the_new_weights(
    search: Search, run: Run, quality_of: Any, step: int
) -> None:
    _, trained, _ = drawn(search, run.states[step], step)
    got = qualities(quality_of, run.states[step + 1].params, batch_of(step), trained)
    assert run.metrics[step]["quality"] == pytest.approx(got.mean(), abs=1e-6)


def test_old_weights_would_give_another_quality(search: Search, run: Run, quality_of: Any) -> None:
    """Or the test above could not tell."""
    old = []
    for step, state in enumerate(run.states[:-1]):
        _, trained, _ = drawn(search, state, step)
        old.append(qualities(quality_of, state.params, batch_of(step), trained).mean())
    assert sum(abs(a - row["quality"]) > 1e-3 for a, row in zip(old, run.metrics, strict=True)) >= 3


@pytest.mark.parametrize("step", [0, 6])
def test_cost_and_reward_are_of_the_sampled_architecture(
    search: Search, run: Run, quality_of: Any, step: int
) -> None:
    """Also during warm-up, when another one is trained."""
    row, before, after = run.metrics[step], run.states[step], run.states[step + 1]
    vectors, trained, _ = drawn(search, before, step)
    cost = search.objective.costs(np.asarray(vectors))
    for index, name in enumerate(("macs", "pixel6-cpu")):
        assert row[f"cost/{name}"] == pytest.approx(cost[:, index].mean(), rel=1e-5)
    quality = qualities(quality_of, after.params, batch_of(step), trained)
    ratios = cost / np.array(search.objective.effective_values)
    reward = REWARDS["absolute"](quality, ratios, -0.1)
    np.testing.assert_allclose(search.objective.value(quality, np.asarray(vectors)), reward)
    assert row["reward"] == pytest.approx(reward.mean(), abs=1e-5)
    policy = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), before.policy)
    new, report = search.policy.update(
        policy,
        vectors,
        jnp.asarray(reward, jnp.float32),
        reinforce.learning_rate(jnp.asarray(step), STEPS, delay=DELAY, initial=0.1),
    )
    np.testing.assert_allclose(new.logits, after.policy.logits[0], atol=1e-4)
    assert row["advantage"] == pytest.approx(np.abs(report["advantage"]).mean(), abs=1e-5)
    expected = search.policy.log_probability(policy, vectors).mean()
    assert row["log_probability"] == pytest.approx(float(expected), rel=1e-4)


def test_exponents_weigh_the_targets(search: Search, run: Run) -> None:
    """The same step with another exponent for each target: the reward, in closed form."""
    state, vectors = run.states[6], drawn(search, run.states[6], 6)[0]
    quality = jnp.array([0.5, 0.25])
    missed = abs(search.objective.ratios(np.asarray(vectors)) - 1)
    weighed = build_search(exponent=(-0.1, -0.4))
    policy = jax.tree.map(jnp.asarray, state.policy)
    _, _, metrics = weighed.jitted_learn(policy, jnp.asarray(6), vectors, quality)
    expected = np.mean(np.asarray(quality) - 0.1 * missed[:, 0] - 0.4 * missed[:, 1])
    assert float(metrics["reward"]) == pytest.approx(expected, abs=1e-5)


def test_summary_shows_reward_accuracy_costs_and_entropy(search: Search) -> None:
    means = {"reward": 0.25, "quality": 0.5, "cost/macs": 0.01, "cost/pixel6-cpu": 0.002}
    macs, pixel = search.objective.effective_values
    assert search.summary({**means, "entropy": 0.7}) == (
        f"reward 0.250  accuracy 0.500  macs 0.01/{macs:.3g} M  "
        f"pixel6-cpu 0.002/{pixel:.3g} ms  entropy 0.70"
    )


def test_the_key_decides(search: Search, run: Run) -> None:
    again = run_all(search, search.init(0), jax.random.key(0))
    other = run_all(search, search.init(0), jax.random.key(1))
    assert again.metrics == run.metrics
    jax.tree.map(np.testing.assert_array_equal, again.states[-1], run.states[-1])
    assert other.metrics[0]["loss"] != run.metrics[0]["loss"]


def test_the_seed_decides_the_first_weights(search: Search) -> None:
    a, b, c = (jax.tree.leaves(search.init(seed).params) for seed in (0, 0, 1))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert any((x != y).any() for x, y in zip(a, c, strict=True))


def test_two_devices_agree_with_one(search: Search, run: Run, tmp_path: pathlib.Path) -> None:
    """Two replicas on one device, one after the other, and on two devices: the same search."""
    assert search.replicas.mesh.size == 1
    path = tmp_path / "two.npz"
    command = command_on_two_devices("tests.search.steps", str(path))
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    two = np.load(path)
    assert two["devices"] == 2 and two["programs"].tolist() == [1, 1, 1]
    rows = [list(row.values()) for row in run.metrics]
    np.testing.assert_allclose(two["rows"], rows, atol=1e-5, rtol=1e-5)
    for number, leaf in enumerate(jax.tree.leaves(run.states[-1])):
        np.testing.assert_allclose(two[f"leaf{number}"], leaf, atol=1e-5)
