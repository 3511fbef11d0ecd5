from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards
from rewards import REWARDS, Reward

CASES = [  # reward, quality, cost / target of each target, exponent, expected
    ("absolute", 0.7, [1.0], -0.1, 0.7),
    ("absolute", 0.7, [1.5], -0.1, 0.7 - 0.05),
    ("absolute", 0.7, [0.5], -0.1, 0.7 - 0.05),
    ("absolute", 0.7, [0.5, 1.2], -0.1, 0.7 - 0.05 - 0.02),
    ("absolute", 0.7, [0.5, 1.2], np.array([-0.1, -0.5]), 0.7 - 0.05 - 0.1),
    ("mnasnet-soft", 0.7, [1.0], -0.07, 0.7),
    ("mnasnet-soft", 0.6, [4.0, 0.25], np.array([-0.5, -1.0]), 1.2),
    ("mnasnet-soft", 0.6, [4.0], -0.5, 0.3),
    ("mnasnet-soft", 0.6, [0.25], -0.5, 1.2),
    ("mnasnet-soft", 0.6, [4.0, 0.25], -0.5, 0.6),
    ("mnasnet-hard", 0.7, [1.0], -0.07, 0.7),
    ("mnasnet-hard", 0.6, [4.0], -0.5, 0.3),
    ("mnasnet-hard", 0.6, [0.25], -0.5, 0.6),
    ("mnasnet-hard", 0.6, [4.0, 0.25], -0.5, 0.3),
    ("mnasnet-hard", 0.6, [4.0, 4.0], np.array([-0.5, -1.0]), 0.075),
    ("ridge-sweep-worst", 0.7, [0.5, 0.8, 1.2], -0.1, 0.7 - 0.02),
    ("ridge-sweep-worst", 0.7, [0.5, 0.8, 0.9], -0.1, 0.7 - 0.01),
    ("ridge-sweep-mean", 0.7, [0.5, 0.9, 1.3], -0.1, 0.7 - 0.01),
]


@pytest.mark.parametrize(("name", "quality", "ratios", "exponent", "expected"), CASES)
def test_closed_form(
    name: str, quality: float, ratios: list[float], exponent: float, expected: float
) -> None:
    assert REWARDS[name](np.float64(quality), np.array(ratios), exponent) == pytest.approx(
        expected, rel=1e-12
    )


def test_every_reward_has_rows() -> None:
    assert {row[0] for row in CASES} == set(REWARDS)


qualities = st.floats(0.01, 1.0)
ratios_of_two = st.tuples(st.floats(0.1, 10.0), st.floats(0.1, 10.0)).map(np.array)
exponents = st.floats(-1.0, -0.01)


@pytest.mark.parametrize("name", sorted(REWARDS))
class TestEveryReward:
    @given(quality=qualities, exponent=exponents)
    def test_on_target_it_is_the_quality(self, name: str, quality: float, exponent: float) -> None:
        assert REWARDS[name](quality, np.ones(3), exponent) == pytest.approx(quality)

    @given(quality=qualities, ratios=ratios_of_two, exponent=exponents)
    def test_more_quality_is_worth_more(
        self, name: str, quality: float, ratios: np.ndarray, exponent: float
    ) -> None:
        reward = REWARDS[name]
        assert reward(quality + 0.1, ratios, exponent) > reward(quality, ratios, exponent)

    @given(quality=qualities, over=st.floats(1.0, 5.0), exponent=exponents)
    def test_above_the_target_cost_is_punished(
        self, name: str, quality: float, over: float, exponent: float
    ) -> None:
        reward = REWARDS[name]
        at, above = (
            reward(quality, np.array([ratio, 1.0]), exponent) for ratio in (over, over + 0.1)
        )
        assert above < at <= quality * (1 + 1e-12)

    @given(quality=qualities, ratios=ratios_of_two, exponent=exponents)
    def test_the_order_of_targets_does_not_matter(
        self, name: str, quality: float, ratios: np.ndarray, exponent: float
    ) -> None:
        reward = REWARDS[name]
        assert reward(quality, ratios, exponent) == pytest.approx(
            reward(quality, ratios[::-1], exponent)
        )

    def test_batches_and_jax_arrays(self, name: str) -> None:
        quality = np.linspace(0.1, 0.9, 6).reshape(2, 3)
        ratios = np.linspace(0.3, 2.5, 12).reshape(2, 3, 2)
        batch = REWARDS[name](quality, ratios, -0.2)
        assert batch.shape == (2, 3)
        for index in np.ndindex(2, 3):
            assert batch[index] == pytest.approx(REWARDS[name](quality[index], ratios[index], -0.2))
        np.testing.assert_allclose(
            REWARDS[name](jnp.asarray(quality), jnp.asarray(ratios), -0.2), batch, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "sign"), [("absolute", -1), ("mnasnet-soft", 1), ("mnasnet-hard", 0)]
)
def test_below_the_target(name: str, sign: int) -> None:
    """A low cost lowers the absolute reward, raises the soft one, and leaves the hard one."""
    gain = REWARDS[name](0.5, np.array([0.5]), -0.1) - 0.5
    assert np.sign(gain) == sign


MISSES = [  # reward, cost / target of each target, how far the targets are missed
    ("absolute", [0.9, 1.2], 0.2),
    ("mnasnet-soft", [0.7, 1.2], 0.3),
    ("mnasnet-hard", [0.7, 1.2], 0.2),
    ("mnasnet-hard", [0.7, 0.2], 0.0),
    ("ridge-sweep-worst", [0.5, 1.2], 0.2),
    ("ridge-sweep-mean", [0.5, 1.2], 0.15),
]


@pytest.mark.parametrize(("name", "ratios", "expected"), MISSES)
def test_what_counts_as_a_miss(name: str, ratios: list[float], expected: float) -> None:
    """Where targets are limits, costs below them are no miss, so that repair stops there."""
    assert REWARDS[name].miss(np.array([ratios])) == pytest.approx([expected])
    assert REWARDS[name].limits == (name == "mnasnet-hard")


def test_an_unknown_reward_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError) as caught:
        REWARDS.get("absolut")
    assert str(caught.value) == (
        "no reward called 'absolut'; known: absolute, mnasnet-soft, mnasnet-hard, "
        "ridge-sweep-worst, ridge-sweep-mean; did you mean 'absolute'?"
    )


def test_a_function_of_a_user_is_a_reward() -> None:
    def quality_alone(quality: float, ratios: np.ndarray, exponent: float) -> float:
        return quality

    name = REWARDS.name_of(quality_alone)
    try:
        assert name.startswith(f"custom:{quality_alone.__qualname__}@")
        assert REWARDS.customs() == {name: Reward(quality_alone)}
        assert REWARDS[name](0.7, np.array([2.0]), -0.1) == 0.7
    finally:
        REWARDS.remove(name)


def test_a_shipped_formula_is_the_shipped_reward() -> None:
    assert REWARDS.name_of(rewards.absolute) == "absolute"


def test_anything_else_is_no_reward() -> None:
    with pytest.raises(
        ValueError, match=r"^reward: got 3; give a name \(absolute, .*\), or a func"
    ):
        REWARDS.name_of(3)
