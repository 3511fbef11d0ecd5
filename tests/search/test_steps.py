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
from flax import nnx

import latency_tables
from latency_tables import CostModel
from nas.model.network import build_network, inherit, split
from nas.policy import controller, warmup
from nas.search.steps import Batch, Search, SearchState, StepSettings
from nas.train import loss as losses
from rewards import REWARDS
from search_spaces import ArchSpec, SearchSpace, freeze, yaml_io

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


def make_search(**settings: Any) -> Search:
    return search_of(SearchSpace(yaml_io.parse_model(SPEC, ArchSpec, "steps")), **settings)


def search_of(space: SearchSpace, **settings: Any) -> Search:
    costs = CostModel.build(space, [latency_tables.device("macs"), latency_tables.device("pixel6-cpu")])
    usual: dict[str, Any] = {
        "steps": STEPS,
        "replicas": REPLICAS,
        "warmup": WARM,
        "delay": DELAY,
        "policy_learning_rate": 0.1,
        "reward": REWARDS["absolute"],
        "exponent": -0.1,
        "label_smoothing": 0.1,
        "flip": True,
        "mean": 0.4,
        "std": 0.2,
    }
    targets = tuple(costs.table.sum(1) / 4)
    return Search(
        space, StepSettings(**{**usual, **settings}), optax.sgd(RATE), costs, targets
    )  # new = old - RATE * gradient


def test_memory_grows_with_the_largest_network_not_with_the_options() -> None:
    """Temporaries of a training step, of two spaces with the same largest network: 16 and 324 vectors."""
    space = """
name: memory
resolution: 8
blocks:
- {{kind: conv, filters: {{one_of: {widths}, name: width}}, stride: 2}}
- {{kind: uib, filters: {{one_of: {widths}, name: width}}, start_dw: {{one_of: {kernels}, name: start}},
   middle_dw: {{one_of: {kernels}, name: middle}}, expansion: {{one_of: {expansions}, name: expansion}}}}
- {{kind: pool}}
- {{kind: classifier, classes: 3}}
"""
    temporaries = []
    for widths, kernels, expansions in (
        ([24, 48], [3, 5], [2.0, 4.0]),
        ([8, 16, 24, 32, 40, 48], [0, 3, 5], [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]),
    ):
        text = space.format(widths=widths, kernels=kernels, expansions=expansions)
        search = search_of(SearchSpace(yaml_io.parse_model(text, ArchSpec, "memory")))
        trainer: Any = search.trainer
        step = trainer.lower(search.init(0), batch_of(0), jax.random.key(0))
        temporaries.append(step.compile().memory_analysis().temp_size_in_bytes)
    assert temporaries[1] < 1.05 * temporaries[0]


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
    policy = jax.tree.map(lambda leaf: leaf[0], state.policy)
    vectors = search.controller.sample(policy, jax.random.split(sample_key, 1)[0], REPLICAS)
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
    sums = [float(state.policy.baseline_sum[0]) for state in run.states]
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
        jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), run.states[step].policy),
        vectors,
        jnp.asarray(reward, jnp.float32),
        controller.learning_rate(jnp.asarray(step), STEPS, delay=DELAY, first=0.1),
    )
    np.testing.assert_allclose(new.logits, run.states[step + 1].policy.logits[0], atol=1e-4)
    assert run.metrics[step]["advantage"] == pytest.approx(np.abs(report["advantage"]).mean(), abs=1e-5)
    expected = search.controller.log_probability(jnp.asarray(run.states[step].policy.logits[0]), vectors).mean()
    assert run.metrics[step]["log_probability"] == pytest.approx(float(expected), rel=1e-4)


def test_exponents_weigh_the_targets(search: Search, run: Run) -> None:
    """The same step with another exponent for each target: the reward, in closed form."""
    state, vectors = run.states[6], drawn(search, run.states[6], 6)[0]
    quality, ratios = jnp.array([0.5, 0.25]), search.costs(np.asarray(vectors)) / np.array(search.targets)
    weighed = make_search(exponent=(-0.1, -0.4))
    _, _, metrics = weighed.learner(jax.tree.map(jnp.asarray, state.policy), jnp.asarray(6), vectors, quality)
    expected = np.mean(np.asarray(quality) - 0.1 * abs(ratios[:, 0] - 1) - 0.4 * abs(ratios[:, 1] - 1))
    assert float(metrics["reward"]) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def separate() -> Search:
    """Two policies, each with one of two replicas and one of two targets."""
    return make_search(policies=2, delay=0.0, warmup=0.0)


class TestSeparatePolicies:
    def test_each_learns_from_its_own_replica_and_target(self, separate: Search) -> None:
        vectors = jnp.array([[0, 1, 0], [1, 0, 0]], jnp.int32)
        quality = jnp.array([0.5, 0.25])
        new, _, metrics = separate.learner(separate.init(0).policy, jnp.asarray(0), vectors, quality)
        ratios = separate.costs(np.asarray(vectors)) / np.array(separate.targets)
        for own, name in enumerate(("macs", "pixel6-cpu")):
            reward = float(quality[own]) - 0.1 * abs(ratios[own, own] - 1)
            alone, _ = separate.controller.update(
                separate.controller.init(), vectors[own : own + 1], jnp.array([reward], jnp.float32), 0.1
            )
            np.testing.assert_allclose(new.logits[own], alone.logits, atol=1e-5)
            assert float(metrics[f"reward/{name}"]) == pytest.approx(reward, abs=1e-5)
            cost = separate.costs(np.asarray(vectors))[own, own]
            assert float(metrics[f"cost/{name}"]) == pytest.approx(cost, rel=1e-5)

    def test_each_samples_by_its_own_logits(self, separate: Search) -> None:
        state = separate.init(0)
        sure = state.policy.logits.at[0, :, 1].set(50.0).at[1, :, 0].set(50.0)
        trained = separate.trainer(
            state._replace(policy=state.policy._replace(logits=sure)), batch_of(0), jax.random.key(0)
        )
        assert trained.sampled.tolist() == [[1, 1, 1], [0, 0, 0]]


def weights_after(search: Search, vector: tuple[int, ...]) -> tuple[Any, Any]:
    """The first weights, and those after a step that trains `vector` in both replicas."""
    state = search.init(0)
    logits = 50.0 * jax.nn.one_hot(jnp.array(vector), state.policy.logits.shape[-1])[None]
    before = jax.tree.map(np.array, state.params)
    after = search.trainer(state._replace(policy=state.policy._replace(logits=logits)), batch_of(0), jax.random.key(0))
    return before, jax.tree.map(np.array, after.state.params)


@pytest.mark.parametrize(
    "vector", [(0, 1, 0), *(pytest.param(v, marks=pytest.mark.slow) for v in [(1, 1, 0), (0, 0, 1)])]
)
def test_l2_shrinks_the_kernels_that_are_used_and_no_other_weight(vector: tuple[int, ...]) -> None:
    """new(l2) - new(0) = -rate * l2 * w for the kernels of the network that was trained, 0 elsewhere."""
    plain, decayed = (make_search(l2=l2, warmup=0.0) for l2 in (0.0, 0.5))
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
    assert differing == pytest.approx(count, rel=0.02)  # some weights have no gradient, or move too little to be seen


@pytest.mark.parametrize("setting", [pytest.param("noise", marks=pytest.mark.slow), "fgsm"])
def test_perturbed_images_train_other_weights_and_adversarial_ones_are_harder(setting: str) -> None:
    plain, perturbed = make_search(), make_search(**{setting: 0.1})
    root, batch = jax.random.key(0), batch_of(0)
    a, b = (float(one.trainer(one.init(0), batch, root).metrics["loss"]) for one in (plain, perturbed))
    assert b > a if setting == "fgsm" else b != a


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
