"""One step of the search against its parts, on a network of four blocks and 8 px images."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import latency_tables
from latency_tables import CostModel
from nas.policy import controller, warmup
from nas.search.steps import Batch, Search, SearchState, StepSettings
from nas.train import loss as losses
from rewards import REWARDS
from search_spaces import ArchSpec, SearchSpace, yaml_io

STEPS, REPLICAS, RATE = 8, 2, 0.5
DELAY, WARM = 0.5, 0.25  # the policy learns from step 4, warm-up ends at step 2
SPEC = """
name: steps
resolution: 8
blocks:
- {kind: conv, filters: {one_of: [8, 16], name: width}, stride: 2}
- {kind: uib, filters: {one_of: [8, 16], name: width}, middle_dw: {one_of: [0, 3], name: kernel}, expansion: 1.0,
   present: {one_of: [true, false], name: depth}}
- {kind: pool}
- {kind: classifier, classes: 3}
"""


class Run(NamedTuple):
    """All steps of a search, on the host."""

    states: list[SearchState]
    metrics: list[dict[str, float]]


def make_search() -> Search:
    space = SearchSpace(yaml_io.parse_model(SPEC, ArchSpec, "steps"))
    costs = CostModel.build(space, [latency_tables.device("macs"), latency_tables.device("pixel6-cpu")])
    settings = StepSettings(
        steps=STEPS,
        replicas=REPLICAS,
        warmup=WARM,
        delay=DELAY,
        policy_learning_rate=0.1,
        reward=REWARDS["absolute"],
        exponent=-0.1,
        label_smoothing=0.1,
        flip=True,
        mean=0.4,
        std=0.2,
    )
    targets = tuple(costs.table.sum(1) / 4)
    return Search(space, settings, optax.sgd(RATE), costs, targets)  # new = old - RATE * gradient


def batch_of(step: int) -> Batch:
    rng = np.random.default_rng(step)
    images = lambda n: rng.integers(0, 256, (REPLICAS, n, 8, 8, 3), np.uint8)  # noqa: E731
    targets = rng.dirichlet([0.3] * 3, (REPLICAS, 4)).astype(np.float32)
    return Batch(images(4), targets, images(16), rng.integers(0, 3, (REPLICAS, 16), np.int32))


def run_all(search: Search, state: SearchState, root: jax.Array) -> Run:
    states, metrics = [jax.tree.map(np.array, state)], []
    for number in range(STEPS):
        state, report = search.step(state, batch_of(number), root)
        states.append(jax.tree.map(np.array, state))
        metrics.append({name: float(value) for name, value in report.items()})
    return Run(states, metrics)


def programs(search: Search, state: SearchState) -> list[int]:
    """How many programs each of the parts has compiled, after steps and after results were scored too."""
    batch, vectors = batch_of(0), np.zeros((REPLICAS, len(search.space.decisions)), np.int32)
    search.scorer(search.place(state.params), batch.validation_images, batch.validation_labels, search.place(vectors))
    parts: list[Any] = [search.trainer, search.scorer, search.learner]
    return [part._cache_size() for part in parts]


def main(path: str) -> None:
    """The same search in another process: its last weights and its metrics, into a file."""
    search = make_search()
    run = run_all(search, search.init(0), jax.random.key(0))
    leaves = {f"leaf{i}": leaf for i, leaf in enumerate(jax.tree.leaves(run.states[-1]))}
    rows = np.array([list(row.values()) for row in run.metrics])
    np.savez(path, devices=search.mesh.size, programs=programs(search, run.states[-1]), rows=rows, **leaves)


@pytest.fixture(scope="module")
def search() -> Search:
    return make_search()


@pytest.fixture(scope="module")
def run(search: Search) -> Run:
    return run_all(search, search.init(0), jax.random.key(0))


@pytest.fixture(scope="module")
def quality_of(search: Search) -> Any:
    return jax.jit(
        lambda params, images, labels, vector: (search.logits(params, images, vector).argmax(-1) == labels).mean()
    )


def drawn(search: Search, state: SearchState, step: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(sampled vectors, trained vectors, flip keys) of a step."""
    sample_key, warm_key, flip_key = jax.random.split(jax.random.fold_in(jax.random.key(0), step), 3)
    vectors = search.controller.sample(state.policy, sample_key, REPLICAS)
    trained = warmup.warm(search.space, vectors, warm_key, warmup.probability(jnp.asarray(step), STEPS, WARM))
    return vectors, trained, jax.random.split(flip_key, REPLICAS)


def qualities(quality_of: Any, params: Any, batch: Batch, vectors: jax.Array) -> np.ndarray:
    scored = zip(batch.validation_images, batch.validation_labels, vectors, strict=True)
    return np.array([float(quality_of(params, *one)) for one in scored])


def test_metrics(search: Search, run: Run) -> None:
    scalars = "loss quality reward baseline advantage entropy log_probability policy_learning_rate warmup gradient_norm"
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
    for old, new in zip(run.states, run.states[1:], strict=False):
        moved = [(a != b).any() for a, b in zip(*map(jax.tree.leaves, (old.params, new.params)), strict=True)]
        assert any(moved)
    moved = [(a != b).any() for a, b in zip(*(jax.tree.leaves(run.states[i].params) for i in (0, -1)), strict=True)]
    assert all(moved)


def test_policy_is_frozen_during_the_delay_and_learns_behind_it(run: Run) -> None:
    logits = [state.policy.logits for state in run.states]
    for step in range(4):
        np.testing.assert_array_equal(logits[step + 1], 0)
        assert run.metrics[step]["policy_learning_rate"] == 0
    assert (logits[5] != 0).any()
    assert run.metrics[4]["policy_learning_rate"] == pytest.approx(0.1)
    sums = [float(state.policy.baseline_sum) for state in run.states]
    assert len(set(sums)) == STEPS + 1  # the baseline moves from the start


@pytest.mark.parametrize("step", [0, 1, 5], ids=["warm-up", "half-warm", "behind it"])
def test_gradient_is_the_mean_of_the_replicas(search: Search, run: Run, step: int) -> None:
    state, batch = run.states[step], batch_of(step)
    _, trained, keys = drawn(search, state, step)
    each = [
        gradient_of(
            search, state.params, losses.flip(jnp.asarray(batch.images[r]), keys[r]), batch.targets[r], trained[r]
        )
        for r in range(REPLICAS)
    ]
    assert run.metrics[step]["loss"] == pytest.approx(np.mean([loss for loss, _ in each]), rel=1e-5)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *(gradient for _, gradient in each))
    got = jax.tree.map(lambda old, new: (old - new) / RATE, state.params, run.states[step + 1].params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), got, mean)
    assert run.metrics[step]["gradient_norm"] == pytest.approx(float(optax.tree.norm(mean)), rel=1e-4)


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
def test_quality_is_measured_with_the_new_weights(search: Search, run: Run, quality_of: Any, step: int) -> None:
    _, trained, _ = drawn(search, run.states[step], step)
    got = qualities(quality_of, run.states[step + 1].params, batch_of(step), trained)
    assert run.metrics[step]["quality"] == pytest.approx(got.mean(), abs=1e-6)


def test_old_weights_would_give_another_quality(search: Search, run: Run, quality_of: Any) -> None:
    """Or the test above could not tell."""
    old = [
        qualities(quality_of, run.states[step].params, batch_of(step), drawn(search, run.states[step], step)[1]).mean()
        for step in range(STEPS)
    ]
    assert sum(abs(a - row["quality"]) > 1e-3 for a, row in zip(old, run.metrics, strict=True)) >= 3


@pytest.mark.parametrize("step", [0, 6])
def test_cost_and_reward_are_of_the_sampled_architecture(search: Search, run: Run, quality_of: Any, step: int) -> None:
    """Also during warm-up, when another one is trained."""
    vectors, trained, _ = drawn(search, run.states[step], step)
    cost = search.costs(np.asarray(vectors))
    for place, name in enumerate(("macs", "pixel6-cpu")):
        assert run.metrics[step][f"cost/{name}"] == pytest.approx(cost[:, place].mean(), rel=1e-5)
    quality = qualities(quality_of, run.states[step + 1].params, batch_of(step), trained)
    reward = REWARDS["absolute"](quality, cost / np.array(search.targets), -0.1)
    assert run.metrics[step]["reward"] == pytest.approx(reward.mean(), abs=1e-5)
    new, report = search.controller.update(
        jax.tree.map(jnp.asarray, run.states[step].policy),
        vectors,
        jnp.asarray(reward, jnp.float32),
        controller.learning_rate(jnp.asarray(step), STEPS, delay=DELAY, first=0.1),
    )
    np.testing.assert_allclose(new.logits, run.states[step + 1].policy.logits, atol=1e-4)
    assert run.metrics[step]["advantage"] == pytest.approx(np.abs(report["advantage"]).mean(), abs=1e-5)
    expected = search.controller.log_probability(jnp.asarray(run.states[step].policy.logits), vectors).mean()
    assert run.metrics[step]["log_probability"] == pytest.approx(float(expected), rel=1e-4)


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
    assert search.mesh.size == 1
    code = f"import runpy; runpy.run_path({__file__!r})['main']({str(tmp_path / 'two.npz')!r})"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=300)
    two = np.load(tmp_path / "two.npz")
    assert two["devices"] == 2 and two["programs"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(two["rows"], [list(row.values()) for row in run.metrics], atol=1e-5, rtol=1e-5)
    for number, leaf in enumerate(jax.tree.leaves(run.states[-1])):
        np.testing.assert_allclose(two[f"leaf{number}"], leaf, atol=1e-5)
