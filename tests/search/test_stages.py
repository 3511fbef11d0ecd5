"""Stages: what a plan checks and leaves alone, and what a finished run says."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest

import latency_tables
import search_spaces
from nas.cli import config_files
from nas.policy import controller, repair
from nas.run.config import RunConfig, Stage, config_hash
from nas.run.targets import parse_targets
from nas.search import describe, planning, stages
from rewards import REWARDS
from search_spaces import freeze, yaml_io


@pytest.fixture(scope="module")
def config(tiny_recipe: pathlib.Path) -> RunConfig:
    return yaml_io.load_model(tiny_recipe, RunConfig)


def changed(config: RunConfig, **settings: Any) -> RunConfig:
    return RunConfig.model_validate({**config.model_dump(by_alias=True), **settings})


@pytest.fixture(scope="module")
def plan(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> planning.Plan:
    return planning.plan("coarse", config, tmp_path_factory.mktemp("plan") / "new")


@pytest.mark.parametrize("stage", ["coarse", "one-stage"])
@pytest.mark.parametrize("name", config_files.recipes())
def test_targets_of_every_shipped_configuration_can_be_met(name: str, stage: Stage, tmp_path: pathlib.Path) -> None:
    """Without its data, which are not here: the space, the targets, and an architecture within 1 % of them."""
    config = config_files.load(name, RunConfig)
    space = planning.space_of(stage, config, tmp_path)
    costs, aims = planning.targets_of(config, space)[1], [t.aim for text in config.targets for t in parse_targets(text)]
    near = repair.Near(costs, tuple(aims), REWARDS[config.reward.kind].miss, 0.01)
    vector = near(tuple(decision.options // 2 for decision in space.decisions))
    assert np.abs(costs(np.array(vector)) / aims - 1).max() <= 0.01


def test_other_targets_keep_the_exponents_of_their_devices(config: RunConfig, tmp_path: pathlib.Path) -> None:
    reward = {"exponent": [-0.1, -0.2]}
    two = planning.plan(
        "one-stage",
        changed(config, targets=["params:0.001M", "macs:0.012M"], reward=reward, separate=True),
        tmp_path / "new",
    )
    assert planning.retargeted(two, ("macs:0.011M",)).config.reward.exponent == (-0.2,)
    with pytest.raises(ValueError, match=r"reward.exponent has a number for each of params, macs, none for x86-64-cpu"):
        planning.retargeted(two, ("x86-64-cpu:0.01ms",))
    for texts, number in ((("params:0.001M",), 0), (("macs:0.012M",), 1)):
        found, goal = stages._goal(two, texts, True)
        assert found == number and goal.config.reward.exponent == (-0.1, -0.2)[number]
    with pytest.raises(ValueError, match="knows only the targets that it was trained for"):
        stages._goal(two, ("macs:0.011M",), True)


class TestPlan:
    def test_writes_nothing(self, plan: planning.Plan) -> None:
        assert not plan.folder.parent.exists()
        assert plan.result == plan.folder / "architecture.yaml"

    def test_the_closest_architecture_is_that_of_brute_force(self, plan: planning.Plan) -> None:
        every = np.array(list(itertools.product(*(range(d.options) for d in plan.space.decisions))))
        costs = plan.costs(every)[:, 0]
        missed, nearest = planning.closest(plan)
        assert missed == pytest.approx(np.abs(costs / plan.targets[0].aim - 1).min())
        assert nearest[0] in costs

    def test_classes_can_be_set(self, config: RunConfig, tmp_path: pathlib.Path) -> None:
        other = changed(config, space={**config.space.model_dump(), "classes": 7})
        assert planning.space_of("coarse", other, tmp_path).spec.classes == 7
        with pytest.raises(ValueError, match="has 7 classes, but .* has 3; give --set space.classes=3"):
            planning.plan("coarse", other, tmp_path)

    def test_upper_limits_may_lie_above_the_space(self, config: RunConfig, tmp_path: pathlib.Path) -> None:
        limits = changed(config, reward={"kind": "mnasnet-hard"}, targets=["macs:0.01M", "params:1M"])
        assert planning.closest(planning.plan("coarse", limits, tmp_path))[0] == 0

    def test_auto_rate_is_rescaled(self, plan: planning.Plan) -> None:
        settings = stages.make_search(plan).settings
        assert settings.steps == 60
        assert settings.policy_learning_rate == controller.rescaled(60, 60 * 2 * 8, delay=0.25)
        fixed = dataclasses.replace(plan, config=changed(plan.config, policy={"learning_rate": 0.3}))
        assert stages.make_search(fixed).settings.policy_learning_rate == 0.3

    def test_reader_gives_each_replica_its_own_images_and_repeats_itself(self, plan: planning.Plan) -> None:
        batch, again, later = (stages.reader(plan)(step) for step in (0, 0, 1))
        assert batch.images.shape == (2, 4, 8, 8, 3) and batch.images.dtype == np.uint8
        assert batch.targets.shape == (2, 4, 3) and batch.validation_images.shape == (2, 8, 8, 8, 3)
        for a, b, c in zip(batch, again, later, strict=True):
            np.testing.assert_array_equal(a, b)
            assert (a != c).any()
        assert (batch.images[0] != batch.images[1]).any()

    def test_reader_never_mixes_splits(self, plan: planning.Plan) -> None:
        """One epoch of training images is 6 steps, one of validation images 2; the test split is never read."""
        read, data = stages.reader(plan), plan.dataset
        for field, split, count in (("images", data.train, 6), ("validation_images", data.validation, 2)):
            seen = np.concatenate([getattr(read(step), field).reshape(-1, 192) for step in range(count)])
            own = split.read(np.arange(len(split))).images.reshape(-1, 192)
            assert sorted(row.tobytes() for row in seen) == sorted(row.tobytes() for row in own)

    def test_stages_and_seeds_read_in_another_order(self, plan: planning.Plan, config: RunConfig) -> None:
        others = [dataclasses.replace(plan, stage="fine"), dataclasses.replace(plan, config=changed(config, seed=1))]
        seeds = [p.seed for p in (plan, *others)]
        assert len(set(seeds)) == 3

    def test_description(self, plan: planning.Plan) -> None:
        text = describe.plan(plan)
        low, high = plan.costs.range()
        assert f"target macs:0.01M: reachable, the space goes from {low:.4g} to {high:.4g} M" in text
        assert "2 decisions, 4.000e+00 vectors" in text and "train 48, validation 32, test 8 images" in text
        resolved = text.split("\n\n")[0]
        assert yaml_io.parse_model(resolved, RunConfig, "printed") == plan.config


class TestFinishedRun:
    @pytest.mark.parametrize("stage", ["coarse", "fine"])
    def test_found_section(self, finished_run: pathlib.Path, config: RunConfig, stage: Stage) -> None:
        spec = search_spaces.load(finished_run / stage / "architecture.yaml")
        found = spec.found
        assert found is not None and spec.is_frozen and spec.name == f"tiny-{stage}"
        plan = planning.plan(stage, config, finished_run)  # the folder holds this very run
        assert (found.stage, found.seed, found.config_hash) == (stage, 0, config_hash(config))
        assert (found.dataset_hash, found.space) == (plan.dataset.fingerprint, config_hash(plan.space.spec))
        assert found.versions.keys() == {"python", "mnv4-nas", "jax", "flax", "optax", "numpy", "depthwise"}
        assert found.quality.keys() == {"supernet_validation_accuracy", "reward", "images", "candidates"}
        assert 0 <= found.quality["supernet_validation_accuracy"] <= 1 and found.seconds > 0
        assert freeze(plan.space, found.decisions, name=spec.name) == spec.model_copy(update={"found": None})
        cost = found.cost["macs"]
        assert cost.value == pytest.approx(latency_tables.estimate(spec, "macs").value, rel=1e-5)
        assert (cost.target, cost.unit) == (0.01, "M")
        assert found.quality["reward"] == pytest.approx(
            found.quality["supernet_validation_accuracy"] - 0.1 * abs(cost.value / 0.01 - 1), abs=2e-4
        )

    def test_the_target_is_met(self, finished_run: pathlib.Path) -> None:
        """An architecture of the coarse space costs 0.00988 M MACs, within the tolerance of 5 %."""
        spec = search_spaces.load(finished_run / "coarse" / "architecture.yaml")
        assert abs(latency_tables.estimate(spec, "macs").value / 0.01 - 1) <= 0.05

    def test_the_fine_stage_keeps_what_the_coarse_one_found(self, finished_run: pathlib.Path) -> None:
        coarse, fine = (search_spaces.load(finished_run / s / "architecture.yaml") for s in ("coarse", "fine"))
        assert [getattr(b, "filters", None) for b in coarse.blocks] == [
            getattr(b, "filters", None) for b in fine.blocks
        ]
        assert [type(b) for b in coarse.blocks] == [type(b) for b in fine.blocks]

    @pytest.mark.parametrize(("stage", "steps"), [("coarse", 60), ("fine", 12)])
    def test_folder(self, finished_run: pathlib.Path, config: RunConfig, stage: Stage, steps: int) -> None:
        folder = finished_run / stage
        assert {path.name for path in folder.iterdir()} == {
            "architecture.yaml",
            "candidates.csv",
            "checkpoints",
            "config.yaml",
            "metrics.jsonl",
            "policy.jsonl",
            "report.html",
        }
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(steps))
        record = yaml_io.load_model(folder / "config.yaml", planning.RunRecord)
        assert record.config == config and record.config_hash == config_hash(config)

    def test_what_it_said(self, finished_run: pathlib.Path) -> None:
        """Results on standard output, progress on standard error."""
        out, err = ((finished_run / f"std{name}.txt").read_text() for name in ("out", "err"))
        assert re.findall(r"^found (\S+):", out, re.MULTILINE) == ["tiny-coarse", "tiny-fine"]
        assert "coarse stage: tiny-coarse of 4.00e+00 decision vectors, target macs:0.01M" in err
        assert "coarse 60/60" in err and "fine 12/12" in err and "found" not in err

    def test_another_config_is_refused_with_what_differs(self, finished_run: pathlib.Path, config: RunConfig) -> None:
        with pytest.raises(ValueError, match=r"another configuration \(.*- seed: 0; \+ seed: 3.*choose another"):
            planning.plan("coarse", changed(config, seed=3), finished_run)

    def test_other_versions_are_not_another_config(
        self, finished_run: pathlib.Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(planning, "_versions", lambda: {"jax": "99"})
        assert planning.plan("coarse", config, finished_run).record.versions == {"jax": "99"}
