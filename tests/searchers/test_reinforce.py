"""The REINFORCE controller: closed forms first, then whether it finds what it should."""

from __future__ import annotations

import functools
import itertools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.searchers import reinforce
from nas.searchers.reinforce import Controller, PolicyState
from search_spaces import ArchSpec, SearchSpace, yaml_io

NAS_BENCH = (
    pathlib.Path(__file__).parents[3] / "shared" / "nas_bench" / "nas-bench-macro_cifar10.json"
)

GATED = """
name: gated
resolution: 8
blocks:
- {kind: conv, filters: 8}
- {kind: uib, filters: 8, start_dw: {one_of: [0, 3], name: first},
   present: {one_of: [true, false], name: which}}
- {kind: uib, filters: 8, middle_dw: {one_of: [0, 3, 5], name: second},
   present: {one_of: [false, true], name: which}}
- {kind: uib, filters: 8, expansion: {one_of: [1.0, 2.0, 3.0, 4.0], name: ratio},
   present: {one_of: [true, true, false], name: depth}}
- {kind: uib, filters: 8, present: {one_of: [true, false, false], name: depth}}
- {kind: pool}
- {kind: classifier, classes: 2}
"""


@pytest.fixture(scope="module")
def gated() -> SearchSpace:
    """Two alternative blocks, each with a decision, and two optional ones, the first with one."""
    return SearchSpace(yaml_io.parse_model(GATED, ArchSpec, "gated"))


@pytest.fixture(scope="module")
def policy(gated: SearchSpace) -> Controller:
    return Controller.build(gated)


def always_active(*counts: int) -> Controller:
    """A controller over decisions that each belong to one block that is always there."""
    blocks = len(counts)
    presence = np.ones((blocks, max(counts) + 1), bool)
    return Controller(
        np.array(counts, np.int32),
        np.zeros(blocks, bool),
        np.eye(blocks, dtype=bool),
        presence,
        np.zeros(blocks, int),
    )


def with_logits(policy: Controller, logits: jax.Array | np.ndarray) -> PolicyState:
    return policy.init()._replace(logits=jnp.asarray(logits))


def vector(space: SearchSpace, **chosen: int) -> jax.Array:
    return jnp.array(space.vector(chosen), jnp.int32)


def random_case(
    policy: Controller, seed: int, replicas: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits with garbage in the padding, vectors, rewards."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=policy.mask.shape, scale=2).astype(np.float32)
    vectors = rng.integers(0, policy.counts, (replicas, len(policy.counts)))
    return (
        jnp.asarray(logits),
        jnp.asarray(vectors, jnp.int32),
        jnp.asarray(rng.uniform(size=replicas), jnp.float32),
    )


class TestSampling:
    def test_entropy_of_the_uniform_policy(self, policy: Controller) -> None:
        got = policy.entropy(policy.init())
        np.testing.assert_allclose(got, np.log([2, 2, 3, 3, 4]), rtol=1e-6)
        assert float(got.sum()) == pytest.approx(math.log(2 * 2 * 3 * 3 * 4))

    def test_entropy_of_a_decided_policy_is_0(self, policy: Controller) -> None:
        logits = jnp.zeros(policy.mask.shape).at[:, 0].set(200.0)
        np.testing.assert_allclose(policy.entropy(with_logits(policy, logits)), 0, atol=1e-6)

    def test_frequencies(self) -> None:
        policy, n = always_active(2, 3), 20_000
        logits = jnp.array(
            [[math.log(0.8), math.log(0.2), 9.0], [math.log(0.5), math.log(0.3), math.log(0.2)]]
        )
        drawn = np.asarray(policy.sample(with_logits(policy, logits), jax.random.key(0), n))
        assert drawn.shape == (n, 2) and drawn.dtype == np.int32
        for column, expected in zip(drawn.T, ([0.8, 0.2, 0.0], [0.5, 0.3, 0.2]), strict=True):
            np.testing.assert_allclose(
                np.bincount(column, minlength=3) / n, expected, atol=4 * 0.5 / math.sqrt(n)
            )
        assert abs(np.corrcoef(drawn.T)[0, 1]) < 4 / math.sqrt(n)  # decisions are independent

    def test_padding_is_never_sampled(self, policy: Controller) -> None:
        state = with_logits(policy, jnp.where(policy.mask, 0.0, 50.0))
        assert (np.asarray(policy.sample(state, jax.random.key(1), 2000)) < policy.counts).all()
        np.testing.assert_array_equal(
            policy.probabilities(state), policy.probabilities(policy.init())
        )

    def test_the_key_decides(self, policy: Controller) -> None:
        draws = [
            np.asarray(policy.sample(policy.init(), jax.random.key(seed), 50)) for seed in (0, 0, 1)
        ]
        np.testing.assert_array_equal(draws[0], draws[1])
        assert (draws[0] != draws[2]).any()

    def test_probabilities_on_the_host_are_those_of_the_device(self, policy: Controller) -> None:
        logits, _, _ = random_case(policy, 4, 1)
        state = with_logits(policy, logits)
        on_host = policy.host_probabilities(jax.device_get(state))
        np.testing.assert_allclose(on_host, policy.probabilities(state), atol=1e-6)
        np.testing.assert_allclose(on_host.sum(-1), 1)
        assert on_host.dtype == np.float64 and (on_host[~policy.mask] == 0).all()

    def test_most_likely_is_the_first_of_equals(self, policy: Controller) -> None:
        assert policy.most_likely(policy.init()) == (0, 0, 0, 0, 0)
        logits = np.zeros(policy.mask.shape, np.float32)
        logits[2, [1, 2]], logits[4, 3], logits[0, 3] = 1.0, 2.0, 99.0  # the last one is padding
        assert policy.most_likely(with_logits(policy, logits)) == (0, 0, 1, 0, 3)


class TestActive:
    def test_by_hand(self, gated: SearchSpace, policy: Controller) -> None:
        """`which` 0 keeps the block of `first`, 1 that of `second`; `depth` 2 drops `ratio`."""
        names = [decision.name for decision in gated.decisions]
        assert names == ["which", "first", "second", "depth", "ratio"]
        table = {
            (0, 0): "which first depth ratio",
            (1, 1): "which second depth ratio",
            (1, 2): "which second depth",
        }
        for (which, depth), expected in table.items():
            on = policy.active(vector(gated, which=which, first=1, second=2, depth=depth, ratio=3))
            assert [
                name for name, is_on in zip(names, np.asarray(on), strict=True) if is_on
            ] == expected.split()

    def test_agrees_with_the_space_everywhere(
        self, gated: SearchSpace, tiny_space: SearchSpace
    ) -> None:
        for space in (gated, tiny_space):
            every = list(
                itertools.product(*(range(decision.options) for decision in space.decisions))
            )
            got = Controller.build(space).active(jnp.array(every, jnp.int32))
            np.testing.assert_array_equal(got, [space.active(v) for v in every])

    def test_log_probability_counts_active_decisions_only(
        self, gated: SearchSpace, policy: Controller
    ) -> None:
        uniform = policy.init()
        table = {(0, 0): 2 * 2 * 3 * 4, (1, 0): 2 * 3 * 3 * 4, (0, 2): 2 * 2 * 3, (1, 2): 2 * 3 * 3}
        for (which, depth), count in table.items():
            got = policy.log_probability(
                uniform, vector(gated, which=which, first=1, second=2, depth=depth, ratio=3)
            )
            assert float(got) == pytest.approx(-math.log(count), rel=1e-6)

    def test_log_probability_of_any_batch_shape(self, policy: Controller) -> None:
        logits, vectors, _ = random_case(policy, 0, 6)
        state = with_logits(policy, logits)
        flat = policy.log_probability(state, vectors)
        np.testing.assert_array_equal(
            policy.log_probability(state, vectors.reshape(2, 3, -1)), flat.reshape(2, 3)
        )


class TestUpdate:
    def test_is_the_gradient_of_the_reinforce_loss(self, policy: Controller) -> None:
        """Two steps against jax.grad of -stop_grad(advantage) log p of each replica, and Adam."""
        update = jax.jit(policy.update)
        gradient = jax.grad(functools.partial(reinforce_loss, policy))
        gradients_of = jax.jit(jax.vmap(gradient, (None, 0, 0)))

        @given(seed=st.integers(0, 10**6))
        def check_all_seeds(seed: int) -> None:
            self.check_two_steps(policy, seed, update, gradients_of)

        check_all_seeds()

    def check_two_steps(
        self, policy: Controller, seed: int, update: Any, gradients_of: Any
    ) -> None:
        logits, vectors, rewards = random_case(policy, seed, 4)
        state = with_logits(policy, logits)
        second, wanted = np.zeros(policy.mask.shape), np.asarray(logits, np.float64)
        baseline: float | None = None
        rate = 0.1
        for number, scale in ((1, 1.0), (2, 0.5)):
            mean = float((rewards * scale).mean())
            # zero-debiased: weights .05 * .95^age, normalised
            baseline = mean if baseline is None else (0.95 * baseline + mean) / 1.95
            gradients = np.asarray(
                gradients_of(state.logits, vectors, rewards * scale - baseline), np.float64
            )
            second = 0.999 * second + 0.001 * (gradients**2).mean(0)
            wanted = wanted - rate * gradients.mean(0) / (
                np.sqrt(second / (1 - 0.999**number)) + 1e-8
            )
            state, report = update(state, vectors, rewards * scale, rate)
            np.testing.assert_allclose(report["baseline"], baseline, rtol=1e-5)
            np.testing.assert_allclose(report["advantage"], rewards * scale - baseline, atol=1e-6)
            np.testing.assert_allclose(state.second_moment, second, rtol=1e-3, atol=1e-9)
            np.testing.assert_allclose(state.logits, wanted, atol=2e-3)
        np.testing.assert_array_equal(
            np.asarray(state.logits)[~policy.mask], np.asarray(logits)[~policy.mask]
        )

    def test_first_step_by_hand(self) -> None:
        """Rewards 1 and 0, baseline 1/2: gradients (-1/4, 1/4), and a step of exactly the rate."""
        policy = always_active(2)
        state, _ = policy.update(policy.init(), jnp.array([[0], [1]]), jnp.array([1.0, 0.0]), 0.3)
        np.testing.assert_allclose(state.second_moment, [[0.001 / 16] * 2], rtol=1e-5)
        np.testing.assert_allclose(state.logits, [[0.3, -0.3]], rtol=1e-5)
        assert int(state.updates) == 1

    def test_second_moment_is_the_mean_of_squares(self) -> None:
        """Equal choices: advantages +-1/2 cancel in the mean gradient, not in the second moment."""
        policy = always_active(2)
        state, _ = policy.update(policy.init(), jnp.array([[0], [0]]), jnp.array([1.0, 0.0]), 0.3)
        np.testing.assert_allclose(state.logits, 0, atol=1e-7)
        np.testing.assert_allclose(state.second_moment, [[0.001 / 16] * 2], rtol=1e-5)

    def test_no_momentum(self) -> None:
        """With equal rewards the second step has no gradient, and nothing moves on."""
        policy = always_active(2)
        state, _ = policy.update(policy.init(), jnp.array([[0], [1]]), jnp.array([1.0, 0.0]), 0.3)
        again, report = policy.update(state, jnp.array([[0], [1]]), jnp.array([0.5, 0.5]), 0.3)
        np.testing.assert_allclose(report["advantage"], 0, atol=1e-7)
        np.testing.assert_allclose(again.logits, state.logits, atol=1e-4)

    def test_inactive_decisions_stay(self, gated: SearchSpace, policy: Controller) -> None:
        v = vector(gated, which=0, first=1, second=2, depth=2, ratio=3)
        state, _ = policy.update(policy.init(), jnp.stack([v, v]), jnp.array([1.0, 0.5]), 0.1)
        state, _ = policy.update(state, jnp.stack([v, v]), jnp.array([1.0, 0.9]), 0.1)
        moved = np.abs(np.asarray(state.logits)).max(-1) > 0
        assert moved.tolist() == [True, True, False, True, False]

    def test_baseline_is_a_zero_debiased_moving_average_and_moves_while_the_policy_is_frozen(
        self, policy: Controller
    ) -> None:
        _, vectors, _ = random_case(policy, 3, 4)
        start = state = policy.init()
        for number, mean in enumerate((0.7, 0.1, 0.4)):
            state, report = policy.update(
                state, vectors, mean + jnp.array([-0.1, 0.1, 0.0, 0.0]), 0.0
            )
            expected = ([0.7], [0.7 * 0.95, 0.1], [0.7 * 0.95**2, 0.1 * 0.95, 0.4])[number]
            weights = sum(0.95**age for age in range(number + 1))
            assert float(report["baseline"]) == pytest.approx(sum(expected) / weights, rel=1e-5)
        for name in ("logits", "second_moment", "updates"):
            np.testing.assert_array_equal(getattr(state, name), getattr(start, name))


def reinforce_loss(
    policy: Controller, logits: jax.Array, chosen: jax.Array, advantage: jax.Array
) -> jax.Array:
    """-stop_grad(advantage) * log p, independent of the controller's own log-probability."""
    total = jnp.zeros(())
    on = policy.active(chosen)
    for decision, count in enumerate(policy.counts):
        logp = jax.nn.log_softmax(logits[decision, : int(count)])[chosen[decision]]
        total += jnp.where(on[decision], logp, 0.0)
    return -jax.lax.stop_gradient(advantage) * total


class TestLearningRate:
    @pytest.mark.parametrize(
        ("step", "expected"),
        [(0, 0.0), (24, 0.0), (25, 0.02), (100, 0.2), (62.5, 0.02 * math.sqrt(10))],
    )
    def test_schedule(self, step: float, expected: float) -> None:
        got = reinforce.learning_rate(jnp.asarray(step), 100, delay=0.25, initial=0.02)
        assert float(got) == pytest.approx(expected, rel=1e-5)

    def test_without_delay_it_begins_at_once(self) -> None:
        assert float(
            reinforce.learning_rate(jnp.asarray(0), 10, delay=0.0, initial=0.5)
        ) == pytest.approx(0.5)

    def test_rescaled_is_tunas_at_its_own_size(self) -> None:
        """27,052 steps of 32 x 512 images: 20,289 of them learn, at the published rate."""
        got = reinforce.initial_rate_for_length(27_052, 27_052 * 32 * 512, delay=0.25)
        assert got == pytest.approx(0.0048, rel=1e-6)

    def test_rescaled_keeps_the_travel_of_the_logits(self) -> None:
        """At equal evidence the sum of rates is that of any length; less evidence moves less."""

        def travel(steps: int, images: int) -> float:
            initial = reinforce.initial_rate_for_length(steps, images, delay=0.25)
            return sum(
                float(reinforce.learning_rate(jnp.asarray(t), steps, delay=0.25, initial=initial))
                for t in range(steps)
            )

        assert travel(400, 10**9) == pytest.approx(travel(200, 10**9), rel=0.02)
        assert travel(200, 10**9) == pytest.approx(381, rel=0.02)
        assert travel(200, 10**4) < travel(200, 10**5) < travel(200, 10**9)


def search_with(
    policy: Controller,
    reward: Callable[[jax.Array, jax.Array], jax.Array],
    steps: int,
    initial: float,
    searches: int,
) -> jax.Array:
    """Logits [searches, d, k] after searches with 32 samples a step.

    `reward` is a function of a key and vectors.
    """

    def step(state: PolicyState, number: jax.Array, key: jax.Array) -> tuple[PolicyState, None]:
        sample_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        vectors = policy.sample(state, sample_key, 32)
        rate = reinforce.learning_rate(number, steps, delay=0.25, initial=initial)
        return policy.update(state, vectors, reward(noise_key, vectors), rate)[0], None

    def search(key: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda s, n: step(s, n, key), policy.init(), jnp.arange(steps))[
            0
        ].logits

    return jax.jit(jax.vmap(search))(jax.random.split(jax.random.key(0), searches))


def test_two_armed_bandit() -> None:
    policy = always_active(2)

    def reward(key: jax.Array, vectors: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, 0.45 + 0.1 * vectors[:, 0]).astype(jnp.float32)

    logits = search_with(policy, reward, 400, 0.05, 8)
    assert (np.asarray(policy.probabilities(with_logits(policy, logits)))[:, 0, 1] > 0.95).all()


@pytest.mark.slow
@pytest.mark.skipif(
    not NAS_BENCH.exists(), reason=f"no {NAS_BENCH}: the table is not part of the repository"
)
def test_nas_bench_macro() -> None:
    """2,000 steps at first rate .024: the accuracy of the pick, mean of 16 searches.

    Source: measured with this controller, 93.003 +- .010 (mean and its error, 48 searches). The
    figure that the data's read-me gives is 93.086 +- .046, which this does not reach;
    experiments/RESULTS.md keeps both. A policy that ignores how decisions interact picks 22222222
    at 92.953.
    """
    accuracy = np.zeros((3,) * 8 + (3,))
    for name, row in json.loads(NAS_BENCH.read_text()).items():
        accuracy[tuple(map(int, name))] = row["test_acc"]
    policy, images = always_active(*[3] * 8), 512
    mean = jnp.asarray(accuracy[..., 0] / 100, jnp.float32)

    def reward(key: jax.Array, vectors: jax.Array) -> jax.Array:
        return jax.random.binomial(key, images, mean[tuple(vectors.T)]) / images

    logits = search_with(policy, reward, 2000, 0.024, 16)
    picks = [accuracy[policy.most_likely(with_logits(policy, row))].mean() for row in logits]
    assert 92.965 <= np.mean(picks) <= 93.12
