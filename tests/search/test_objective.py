"""The objective: ratios, misses and rewards in closed form, and what it refuses."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
import pytest

from nas.engine import repair
from nas.engine.objective import Objective, retarget_exponent
from nas.engine.spaces import space_of
from nas.run import config_files
from nas.run.config import RunConfig
from rewards import REWARDS
from search_spaces import SearchSpace

from ..searches import objective_of


@pytest.fixture(scope="module")
def every(tiny_space: SearchSpace) -> np.ndarray:
    """All 216 vectors."""
    return np.array(list(itertools.product(*(range(d.options) for d in tiny_space.decisions))))


@pytest.fixture(scope="module")
def two(tiny_space: SearchSpace) -> Objective:
    """MACs and parameters, each with an exponent of its own."""
    return objective_of(tiny_space, (0.02, 0.004), ("macs", "params"), exponent=(-0.1, -0.3))


@pytest.mark.parametrize("stage", ["coarse", "one-stage"])
@pytest.mark.parametrize("name", config_files.recipes())
def test_targets_of_every_shipped_configuration_can_be_met(
    name: str, stage: str, tmp_path: pathlib.Path
) -> None:
    """Without its data, which are not here: space, targets, an architecture within 1 % of them."""
    config = config_files.load(name, RunConfig)
    space = space_of(stage, config, tmp_path)
    objective = Objective.build(config, space).with_tolerance(0.01)
    nearest = repair.FeasibilityRepair(objective)
    vector = nearest(tuple(decision.options // 2 for decision in space.decisions))
    assert np.abs(objective.ratios(np.array(vector)) - 1).max() <= 0.01


def test_ratios_are_costs_by_effective_targets(two: Objective, every: np.ndarray) -> None:
    np.testing.assert_array_equal(two.ratios(every), two.costs(every) / [0.02, 0.004])


def test_a_confidence_lowers_the_cost_to_aim_at(tmp_path: pathlib.Path) -> None:
    config = config_files.load(
        "quickstart", RunConfig, settings={"targets": ["x86-64-cpu:0.4ms@0.9"]}
    )
    objective = Objective.build(config, space_of("coarse", config, tmp_path))
    (target,) = objective.targets
    assert objective.effective_values == (target.effective_value,)
    assert target.effective_value < target.value == 0.4
    vector = np.zeros(len(objective.space.decisions), int)
    cost = objective.costs(vector)
    np.testing.assert_array_equal(objective.ratios(vector), cost / target.effective_value)


def test_value_and_miss_are_those_of_the_formula(two: Objective, every: np.ndarray) -> None:
    quality = np.linspace(0, 1, len(every))
    macs, params = (two.costs(every) / [0.02, 0.004]).T
    np.testing.assert_allclose(two.miss(every), np.maximum(abs(macs - 1), abs(params - 1)))
    expected = quality - 0.1 * abs(macs - 1) - 0.3 * abs(params - 1)
    np.testing.assert_allclose(two.value(quality, every), expected)


def test_each_separate_objective_has_its_target_costs_and_exponent(
    two: Objective, every: np.ndarray
) -> None:
    assert len(two.separate) == 2
    for index, one in enumerate(two.separate):
        assert one.targets == (two.targets[index],)
        assert one.exponent == (-0.1, -0.3)[index]
        np.testing.assert_array_equal(one.costs(every)[:, 0], two.costs(every)[:, index])
        assert (one.reward, one.tolerance) == (two.reward, two.tolerance)


def test_one_exponent_is_that_of_every_target(tiny_space: SearchSpace) -> None:
    objective = objective_of(tiny_space, (0.02, 0.004), ("macs", "params"), exponent=-0.2)
    assert [one.exponent for one in objective.separate] == [-0.2, -0.2]


def test_another_tolerance_changes_nothing_else(two: Objective) -> None:
    other = two.with_tolerance(0.2)
    assert other.tolerance == 0.2 and two.tolerance == 0.005
    assert (other.costs, other.targets, other.exponent) == (two.costs, two.targets, two.exponent)


def test_upper_limits_are_met_below_them(tiny_space: SearchSpace, every: np.ndarray) -> None:
    limits = objective_of(tiny_space, (0.02,), reward="mnasnet-hard")
    ratios = limits.ratios(every)[:, 0]
    np.testing.assert_allclose(limits.miss(every), np.maximum(ratios - 1, 0))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an exponent too few": (
        {"targets": ["macs:0.01M", "params:0.001M"], "reward": {"exponent": [-0.1]}},
        r"reward.exponent: got \[-0.1\] for 2 targets; give one number, or one a target",
    ),
    "exponents of a joint reward": (
        {"targets": ["macs:0.01M"], "reward": {"kind": "ridge-sweep-mean", "exponent": [-0.1]}},
        r"reward.exponent: ridge-sweep-mean takes one number, got \[-0.1\]",
    ),
    "one separate target": (
        {"targets": ["macs:0.01M"], "separate": True},
        "`separate` finds a network for each target: give two targets or more",
    ),
    "a joint reward of separate targets": (
        {
            "targets": ["macs:0.01M", "params:0.001M"],
            "separate": True,
            "reward": {"kind": "ridge-sweep-mean"},
        },
        "`separate`: ridge-sweep-mean joins all targets into one; choose another reward.kind",
    ),
    "replicas that separate targets cannot share": (
        {"targets": ["macs:0.01M", "params:0.001M"], "separate": True, "search": {"replicas": 3}},
        "`separate`: 2 targets share the replicas evenly, got search.replicas 3; use 4",
    ),
    "two targets on one device": (
        {"targets": ["macs:0.01M", "macs:0.02M"]},
        "`targets`: got macs:0.01M, macs:0.02M; give one target for each device",
    ),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(settings: dict[str, Any], message: str, tiny_space: SearchSpace) -> None:
    config = RunConfig.model_validate({"name": "refused", **settings})
    with pytest.raises(ValueError, match=message):
        Objective.build(config, tiny_space)


def test_other_targets_take_the_exponents_of_their_devices(two: Objective) -> None:
    macs, params = two.targets
    assert retarget_exponent((-0.1, -0.3), two.targets, (params,)) == (-0.3,)
    assert retarget_exponent((-0.1, -0.3), two.targets, (params, macs)) == (-0.3, -0.1)
    assert retarget_exponent(-0.1, two.targets, (params,)) == -0.1


def test_the_reward_is_the_one_that_the_configuration_names(tiny_space: SearchSpace) -> None:
    for kind in ("absolute", "mnasnet-soft", "mnasnet-hard"):
        config = RunConfig.model_validate(
            {"name": "a", "targets": ["params:0.004M"], "reward": {"kind": kind}}
        )
        objective = Objective.build(config, tiny_space)
        assert objective.reward is REWARDS[kind]
        assert objective.tolerance == config.derive.tolerance
