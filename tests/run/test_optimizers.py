"""The optimisers by name: the rate's shape, first updates by hand, and that each one descends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nas.run import optimizers
from nas.run.config import WeightsConfig
from nas.run.train_config import TrainConfig

Rates = Callable[[float, int, float], list[float]]


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Rates:
    """The rate at every step of an optimiser that does nothing but scale by it."""
    monkeypatch.setitem(optimizers.OPTIMIZERS._members, "plain", optax.sgd)

    def measure(learning_rate: float, steps: int, warmup: float) -> list[float]:
        optimizer = optimizers.build("plain", learning_rate, steps, warmup)
        state, out = optimizer.init(jnp.zeros(())), []
        for _ in range(steps):
            update, state = optimizer.update(jnp.ones(()), state)
            out.append(-float(jnp.asarray(update)))
        return out

    return measure


def test_the_rate_rises_linearly_and_falls_by_a_cosine(rates: Rates) -> None:
    want = [0.5 * step / 5 for step in range(5)]
    want += [0.25 * (1 + math.cos(math.pi * step / 15)) for step in range(15)]
    np.testing.assert_allclose(rates(0.5, 20, 0.25), want, atol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_any_length_and_warmup_give_finite_rates(rates: Rates, steps: int, warmup: float) -> None:
    got = rates(0.5, steps, warmup)
    assert np.isfinite(got).all() and min(got) >= 0 and max(got) <= 0.5


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_configurations_know_the_same_names(name: str) -> None:
    assert TrainConfig(optimizer=name).optimizer == WeightsConfig(optimizer=name).optimizer == name


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no optimizer called 'sdg'; known: sgd, .*mean 'sgd'"):
        optimizers.build("sdg", 0.1, 10, 0.1)


def test_a_clipped_gradient_has_at_most_the_norm() -> None:
    """The gradient (3, 4) has norm 5: with 1 as largest norm, SGD without momentum sees .6, .8."""
    optimizer = optimizers.build("sgd", 0.1, 10, 0.0, clip_norm=1.0)
    gradient = jnp.array([3.0, 4.0])
    first, state = optimizer.update(gradient, optimizer.init(jnp.zeros(2)))
    second, _ = optimizer.update(gradient, state)
    np.testing.assert_array_equal(jnp.asarray(first), 0)  # the rate rises from 0
    momentum = (0.9 + 1) * 0.9 + 1  # Nesterov, at the second step
    wanted = -0.1 * momentum * np.array([0.6, 0.8])
    np.testing.assert_allclose(jnp.asarray(second), wanted, rtol=1e-5)


def _by_hand(name: str, x: float, gradients: list[float], rate: float) -> float:
    momentum, square, first = 0.0, 1.0, 0.0
    for step, g in enumerate(gradients, 1):
        if name == "sgd":  # Nesterov: look ahead by one more momentum
            momentum = 0.9 * momentum + g
            x -= rate * (g + 0.9 * momentum)
        # TensorFlow's: accumulator from 1, epsilon inside the root, rate inside the momentum
        elif name == "rmsprop":
            square = 0.9 * square + 0.1 * g * g
            momentum = 0.9 * momentum + rate * g / math.sqrt(square + 1)
            x -= momentum
        else:
            first = 0.9 * first + 0.1 * g
            square = 0.999 * (square if step > 1 else 0) + 0.001 * g * g
            unbiased = (first / (1 - 0.9**step), square / (1 - 0.999**step))
            x -= rate * (unbiased[0] / (math.sqrt(unbiased[1]) + 1e-8) + 0.01 * x)
    return x


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_three_updates_by_hand(name: str) -> None:
    optimizer = optimizers.OPTIMIZERS[name](optax.constant_schedule(0.5))
    x = jnp.array(2.0)
    state = optimizer.init(x)
    for g in (3.0, -1.0, 0.5):
        update, state = optimizer.update(jnp.array(g), state, x)
        x = jnp.asarray(optax.apply_updates(x, update))
    assert float(x) == pytest.approx(_by_hand(name, 2.0, [3.0, -1.0, 0.5], 0.5), rel=1e-4)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_each_one_descends_a_parabola(name: str) -> None:
    optimizer = optimizers.build(name, 0.1, 200, 0.05)
    start = jnp.array([2.0, -1.0])

    def step(carry: Any, _: None) -> tuple[Any, None]:
        x, state = carry
        update, state = optimizer.update(2 * x, state, x)
        return (optax.apply_updates(x, update), state), None

    (x, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=200)
    assert float(jnp.abs(jnp.asarray(x)).max()) < 0.01


def test_the_other_schedule_begins_its_cosine_at_step_0() -> None:
    """As TensorFlow's Model Garden: the warm-up rises to the cosine's value at its end."""
    rate = optimizers.learning_rates(0.5, 20, 0.25, 0.1, from_start=True)

    def cosine(step: int) -> float:
        return 0.5 * (0.9 * (1 + math.cos(math.pi * step / 20)) / 2 + 0.1)

    want = [cosine(5) * step / 5 for step in range(5)] + [cosine(step) for step in range(5, 21)]
    got = [float(jnp.asarray(rate(jnp.asarray(step)))) for step in range(21)]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got[-1] == pytest.approx(0.05)


def test_adamw_decays_what_its_mask_says_also_in_one_flat_vector() -> None:
    """Equal to `optax.adamw` with a tree of masks, which has no effect inside `optax.flatten`."""
    params = {"kernel": jnp.array([1.0, -2.0, 3.0]), "scale": jnp.array([1.0, 2.0])}
    options = optimizers.AdamWOptions(
        0.3, np.array([True, True, True, False, False]), 0.6, 0.99, 1e-6
    )
    ours = optimizers.build("adamw", 0.1, 10, 0.0, adamw=options)
    rate = optimizers.learning_rates(0.1, 10, 0.0)
    mask = {"kernel": True, "scale": False}
    theirs = optax.adamw(rate, b1=0.6, b2=0.99, eps=1e-6, weight_decay=0.3, mask=mask)
    trees: list[Any]
    states, trees = [ours.init(params), theirs.init(params)], [params, params]
    for step in range(4):
        gradient = jax.tree.map(lambda w, step=step: jnp.sin(w + step), params)
        for i, optimizer in enumerate((ours, theirs)):
            update, states[i] = optimizer.update(gradient, states[i], trees[i])
            trees[i] = optax.apply_updates(trees[i], update)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *trees)
    assert (jnp.asarray(trees[0]["scale"]) != params["scale"]).all()
