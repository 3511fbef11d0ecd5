"""Plans: everything is loaded and checked, nothing is written, and other runs are refused."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
import pytest

from nas.engine import planning
from nas.engine.planning import Plan
from nas.engine.repair import nearest_feasible
from nas.engine.spaces import space_of
from nas.report import describe
from nas.run.config import RunConfig, config_hash
from nas.run.folder import RunRecord
from search_spaces import files, stages, yaml_io


def changed(config: RunConfig, **settings: Any) -> RunConfig:
    return RunConfig.model_validate({**config.model_dump(by_alias=True), **settings})


def test_writes_nothing(plan: Plan) -> None:
    assert not plan.folder.path.parent.exists()
    assert plan.folder.architecture == plan.folder.path / "architecture.yaml"
    assert not plan.is_finished


def test_the_closest_architecture_is_that_of_brute_force(plan: Plan) -> None:
    every = np.array(list(itertools.product(*(range(d.options) for d in plan.space.decisions))))
    costs = plan.objective.costs(every)[:, 0]
    missed, nearest = nearest_feasible(plan.objective, plan.seed)
    target = plan.objective.targets[0].effective_value
    assert missed == pytest.approx(np.abs(costs / target - 1).min())
    assert nearest[0] in costs


def test_classes_can_be_set(config: RunConfig, tmp_path: pathlib.Path) -> None:
    other = changed(config, space={**config.space.model_dump(), "classes": 7})
    assert space_of("coarse", other, tmp_path).spec.classes == 7
    with pytest.raises(
        ValueError, match="has 7 classes, but .* has 3; give `settings` space.classes=3"
    ):
        planning.plan("coarse", other, tmp_path)


def test_upper_limits_may_lie_above_the_space(config: RunConfig, tmp_path: pathlib.Path) -> None:
    limits = changed(config, reward={"kind": "mnasnet-hard"}, targets=["macs:0.01M", "params:1M"])
    plan = planning.plan("coarse", limits, tmp_path)
    assert nearest_feasible(plan.objective, plan.seed)[0] == 0


def test_stages_and_seeds_have_seeds_of_their_own(
    config: RunConfig, tmp_path: pathlib.Path
) -> None:
    """Four times the run's, and the position of the stage: they read images in another order."""
    seeds = {
        (stage, seed): planning.plan(stage, changed(config, seed=seed), tmp_path).seed
        for stage in ("coarse", "one-stage")
        for seed in (0, 1)
    }
    assert seeds == {
        ("coarse", 0): 0,
        ("one-stage", 0): 3,
        ("coarse", 1): 4,
        ("one-stage", 1): 7,
    }
    assert stages.stage_seed("fine", 1) == 5


def test_the_seed_is_written_and_of_an_old_record_derived(finished_run: pathlib.Path) -> None:
    record = yaml_io.load_model(finished_run / "fine" / "config.yaml", RunRecord)
    assert record.seed == 1
    old = record.model_copy(update={"seed": None})
    assert old.resolved("fine") == record and record.resolved("fine") is record


def test_a_folder_of_an_older_version_is_the_same_run(
    finished_run: pathlib.Path, config: RunConfig, tmp_path: pathlib.Path
) -> None:
    """Its record has no seed."""
    record = yaml_io.load_model(finished_run / "coarse" / "config.yaml", RunRecord)
    old = yaml_io.to_yaml(record.model_copy(update={"seed": None}), defaults=True)
    files.write_atomically(tmp_path / "coarse" / "config.yaml", old)
    assert planning.plan("coarse", config, tmp_path).seed == 0
    with pytest.raises(ValueError, match=r"- seed: 0; \+ seed: 3"):
        planning.plan("coarse", changed(config, seed=3), tmp_path)


def test_a_plan_for_each_of_separate_targets(separate_plan: Plan) -> None:
    run = separate_plan.folder.path.parent
    names = ("params", "macs")
    assert [sub_plan.folder.path for sub_plan in separate_plan.sub_plans] == [
        run / name / "one-stage" for name in names
    ]
    for sub_plan, exponent in zip(separate_plan.sub_plans, (-0.1, -0.2), strict=True):
        assert sub_plan.config.targets == (str(sub_plan.objective.targets[0]),)
        assert sub_plan.config.reward.exponent == sub_plan.objective.exponent == exponent
        assert not sub_plan.config.separate and sub_plan.sub_plans == (sub_plan,)
        assert sub_plan.seed == separate_plan.seed


def test_other_targets_keep_the_exponents_of_their_devices(separate_plan: Plan) -> None:
    other = planning.retargeted(separate_plan, ("macs:0.011M",))
    assert other.config.reward.exponent == other.objective.exponent == (-0.2,)
    with pytest.raises(
        ValueError,
        match=r"reward.exponent has a number for each of params, macs, none for x86-64-cpu",
    ):
        planning.retargeted(separate_plan, ("x86-64-cpu:0.01ms",))


def test_description(plan: Plan) -> None:
    text = describe.plan(plan)
    low, high = plan.objective.costs.range()
    feasible = f"target macs:0.01M is feasible: costs range from {low:.4g} to {high:.4g} M"
    assert feasible in text
    assert "2 decisions, 4.000e+00 vectors" in text
    assert "train 48, validation 32, test 8 images" in text
    resolved = text.split("\n\n")[0]
    assert yaml_io.parse_model(resolved, RunConfig, "printed") == plan.config


def test_another_config_is_refused_with_what_differs(
    finished_run: pathlib.Path, config: RunConfig
) -> None:
    with pytest.raises(
        ValueError,
        match=r"another configuration \(.*- seed: 0; \+ seed: 3.*choose another `workdir`",
    ):
        planning.plan("coarse", changed(config, seed=3), finished_run)


def test_other_versions_are_not_another_config(
    finished_run: pathlib.Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "versions", lambda: {"jax": "99"})
    assert planning.plan("coarse", config, finished_run).record.versions == {"jax": "99"}


def test_a_finished_stage_is_reopened_from_its_record(
    finished_run: pathlib.Path, config: RunConfig, tmp_path: pathlib.Path
) -> None:
    plan = planning.reopen("fine", finished_run)
    assert plan.is_finished and plan.record.config_hash == config_hash(config)
    with pytest.raises(ValueError, match="holds no hybrid stage; give `stage` coarse or fine"):
        planning.reopen("hybrid", finished_run)
    with pytest.raises(ValueError, match="holds no coarse stage; run `nas-search --stage coarse"):
        planning.reopen("coarse", tmp_path)
    record = (finished_run / "coarse" / "config.yaml").read_text(encoding="utf-8")
    files.write_atomically(tmp_path / "coarse" / "config.yaml", record)
    with pytest.raises(ValueError, match="is not finished; rerun the command that started it"):
        planning.reopen("coarse", tmp_path)


def test_soft_labels_that_are_not_there_are_refused(plan: Plan, tmp_path: pathlib.Path) -> None:
    data = {**plan.config.data.model_dump(), "labels": "soft"}
    with pytest.raises(ValueError, match="no teacher probabilities; use hard labels"):
        planning.plan("coarse", changed(plan.config, data=data), tmp_path)
    assert not plan.task.soft
