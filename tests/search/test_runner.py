"""Running a stage: the search that is built of a plan, its batches, and what a run leaves."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest

import latency_tables
import search_spaces
from nas.engine import planning, runner
from nas.engine.planning import Plan
from nas.run.config import RunConfig, config_hash
from nas.run.folder import RunRecord
from nas.searchers import reinforce
from search_spaces import freeze, yaml_io


def test_auto_rate_is_that_of_the_length(plan: Plan) -> None:
    config = runner.build_search(plan).config
    assert config.steps == 60
    wanted = reinforce.initial_rate_for_length(60, 60 * 2 * 8, delay=0.25)
    assert config.policy_learning_rate == wanted
    policy = plan.config.policy.model_copy(update={"learning_rate": 0.3})
    fixed = dataclasses.replace(plan, config=plan.config.model_copy(update={"policy": policy}))
    assert runner.build_search(fixed).config.policy_learning_rate == 0.3


def test_reader_gives_each_replica_its_own_images_and_repeats_itself(plan: Plan) -> None:
    read = runner.batch_reader(plan)
    batch, again, later = read(0), read(0), read(1)
    assert batch.images.shape == (2, 4, 8, 8, 3) and batch.images.dtype == np.uint8
    assert batch.targets.shape == (2, 4, 3) and batch.validation_images.shape == (2, 8, 8, 8, 3)
    assert batch.validation_reference.shape == (2, 8)
    for a, b, c in zip(batch, again, later, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
    assert (batch.images[0] != batch.images[1]).any()


def test_a_process_reads_the_images_of_its_own_replicas(plan: Plan) -> None:
    whole = runner.batch_reader(plan)(3)
    for index in range(2):
        own = runner.batch_reader(plan, slice(index, index + 1))(3)
        for a, b in zip(own, whole, strict=True):
            np.testing.assert_array_equal(a, b[index : index + 1])


def test_reader_never_mixes_splits(plan: Plan) -> None:
    """An epoch is 6 steps of training images, 2 of validation images; none is of the test split."""
    read, data = runner.batch_reader(plan), plan.dataset
    for field, split, count in (
        ("images", data.train, 6),
        ("validation_images", data.validation, 2),
    ):
        batches = [getattr(read(step), field).reshape(-1, 192) for step in range(count)]
        seen = np.concatenate(batches)
        wanted = split.read(np.arange(len(split))).images.reshape(-1, 192)
        assert sorted(row.tobytes() for row in seen) == sorted(row.tobytes() for row in wanted)


class TestPlanFor:
    @pytest.mark.parametrize(("text", "index"), [("params:0.001M", 0), ("macs:0.012M", 1)])
    def test_known_targets_have_their_own_policy(
        self, separate_plan: Plan, text: str, index: int
    ) -> None:
        found, sub_plan = runner.plan_for(separate_plan, (text,), True)
        assert found == index and sub_plan is separate_plan.sub_plans[index]
        assert sub_plan.config.reward.exponent == (-0.1, -0.2)[index]

    def test_other_targets_have_the_policy_of_their_device(self, separate_plan: Plan) -> None:
        index, other = runner.plan_for(separate_plan, ("macs:0.011M",), False)
        assert index == 1 and other.config.targets == ("macs:0.011M",)

    def test_a_policy_knows_only_its_targets(self, separate_plan: Plan) -> None:
        with pytest.raises(
            ValueError,
            match="`by` policy: it was trained for params:0.001M or macs:0.012M only; "
            "derive other targets by evolution",
        ):
            runner.plan_for(separate_plan, ("macs:0.011M",), True)

    def test_separate_targets_have_to_be_named(self, separate_plan: Plan) -> None:
        with pytest.raises(
            ValueError, match="was run with `separate`; say which target by `targets`"
        ):
            runner.plan_for(separate_plan, (), False)

    def test_without_targets_it_is_the_run_itself(self, plan: Plan) -> None:
        assert runner.plan_for(plan, (), True) == (0, plan)


class TestFinishedRun:
    @pytest.mark.parametrize("stage", ["coarse", "fine"])
    def test_provenance(self, finished_run: pathlib.Path, config: RunConfig, stage: str) -> None:
        spec = search_spaces.load(finished_run / stage / "architecture.yaml")
        found = spec.found
        assert found is not None and spec.is_frozen and spec.name == f"tiny-{stage}"
        plan = planning.plan(stage, config, finished_run)  # the folder holds this very run
        assert plan.is_finished
        assert (found.stage, found.seed, found.config_hash) == (stage, 0, config_hash(config))
        assert found.dataset_hash == plan.dataset.fingerprint
        assert found.space == plan.space.spec.digest()
        packages = {"python", "mnv4-nas", "jax", "flax", "optax", "numpy", "depthwise"}
        assert found.versions.keys() == packages
        metrics = found.metrics
        names = {"supernet_validation_accuracy", "reward", "images", "candidates"}
        assert metrics.keys() == names
        assert 0 <= metrics["supernet_validation_accuracy"] <= 1 and found.seconds > 0
        frozen = freeze(plan.space, found.decisions, name=spec.name)
        assert frozen == spec.model_copy(update={"found": None})
        cost = found.cost["macs"]
        assert cost.value == pytest.approx(latency_tables.estimate(spec, "macs").value, rel=1e-5)
        assert (cost.target, cost.unit) == (0.01, "M")
        reward = metrics["supernet_validation_accuracy"] - 0.1 * abs(cost.value / 0.01 - 1)
        assert metrics["reward"] == pytest.approx(reward, abs=2e-4)

    def test_the_target_is_met(self, finished_run: pathlib.Path) -> None:
        """An architecture of the coarse space costs 0.00988 M MACs, within 5 % of the target."""
        spec = search_spaces.load(finished_run / "coarse" / "architecture.yaml")
        assert abs(latency_tables.estimate(spec, "macs").value / 0.01 - 1) <= 0.05

    def test_the_fine_stage_keeps_what_the_coarse_one_found(
        self, finished_run: pathlib.Path
    ) -> None:
        coarse, fine = (
            search_spaces.load(finished_run / stage / "architecture.yaml").blocks
            for stage in ("coarse", "fine")
        )
        sizes = [[getattr(block, "filters", None) for block in blocks] for blocks in (coarse, fine)]
        assert sizes[0] == sizes[1]
        assert [type(block) for block in coarse] == [type(block) for block in fine]

    @pytest.mark.parametrize(("stage", "steps"), [("coarse", 60), ("fine", 12)])
    def test_folder(
        self, finished_run: pathlib.Path, config: RunConfig, stage: str, steps: int
    ) -> None:
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
        policy = [json.loads(line) for line in (folder / "policy.jsonl").read_text().splitlines()]
        assert [row["step"] for row in policy] == [
            *range(9, steps, 10),
            *([11] if steps == 12 else []),
        ]
        record = yaml_io.load_model(folder / "config.yaml", RunRecord)
        assert record.config == config and record.config_hash == config_hash(config)

    def test_what_it_printed(self, finished_run: pathlib.Path) -> None:
        """Results on standard output, progress on standard error."""
        out, err = ((finished_run / f"std{name}.txt").read_text() for name in ("out", "err"))
        assert re.findall(r"^found (\S+):", out, re.MULTILINE) == ["tiny-coarse", "tiny-fine"]
        assert "coarse stage: tiny-coarse of 4.00e+00 decision vectors, target macs:0.01M" in err
        assert "coarse 60/60" in err and "fine 12/12" in err and "found" not in err
