"""Objects of one's own, all in one search: stage, reward, optimiser, device, data and searcher."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import shutil
from typing import Any

import numpy as np
import optax
import pytest

import nas
import search_spaces
from latency_tables import Target
from latency_tables.kinds import CountingDevice
from nas.api.result import SearchResult
from nas.data import load
from nas.data.dataset import Dataset
from nas.engine.matrix import Matrix
from nas.host.progress import SILENT
from nas.run import config_files
from nas.run.config import RunConfig
from nas.searchers.base import Repair, Vector
from search_spaces import ArchSpec, FineOptions, SearchSpace, fine_space, stages
from search_spaces.stages import STAGES, Stage

pytestmark = pytest.mark.usefixtures("in_this_process", "unregistered")

STEPS = 6
SHIPPED = ("coarse", "fine", "hybrid", "one-stage")


def my_space(spec: ArchSpec, options: FineOptions) -> SearchSpace:
    """The fine space, of its first option of each depthwise layer and one of ours."""
    return fine_space(spec, options.model_copy(update={"start_dw": (0, 5)}))


MINE = Stage("mine", "coarse", my_space, ("fine",), 7)


class TestStage:
    """A fifth stage, after the coarse one."""

    def test_no_other_stage_gets_another_seed(self) -> None:
        """The seeds are 4 * seed + position; that of a stage of one's own depends on its name."""
        before = [stages.stage_seed(name, 3) for name in SHIPPED]
        STAGES.register("mine", MINE)
        assert [stages.stage_seed(name, 3) for name in SHIPPED] == before == [12, 13, 14, 15]
        assert stages.stage_seed("mine", 3) not in before
        assert stages.chain("mine") == ("coarse", "mine")

    def test_a_configuration_can_name_it(self) -> None:
        fields: dict[str, Any] = {"name": "a", "targets": ["macs:1M"]}
        named = {**fields, "search": {"steps": {"custom": {"mine": 3}}}}
        with pytest.raises(ValueError, match="coarse"):
            RunConfig.model_validate(named)
        STAGES.register("mine", MINE)
        assert RunConfig.model_validate(named).search.steps.of("mine") == 3
        assert RunConfig.model_validate(fields).search.steps.of("mine") == 7
        assert Matrix(name="a", stages=("coarse", "mine")).stages == ("coarse", "mine")

    def test_a_call_can_name_its_steps(
        self, tiny_recipe: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        session = nas.open_session(
            str(tiny_recipe),
            stage=MINE,
            workdir=tmp_path,
            settings={"search.steps.custom": {"mine": 3}},
        )
        assert session.stages == ("mine",) and session.config.search.steps.of("mine") == 3
        assert not session.has_result_before("mine")


def gentle(quality: Any, ratios: Any, exponent: Any) -> Any:
    """A reward of one's own: the mean miss of all targets counts."""
    return quality + exponent * abs(ratios - 1).mean(-1)


def harsh(quality: Any, ratios: Any, exponent: Any) -> Any:
    """What the reward is changed to."""
    return quality + 2 * exponent * abs(ratios - 1).mean(-1)


def plain(rate: optax.Schedule) -> optax.GradientTransformation:
    """An optimiser of one's own."""
    return optax.sgd(rate)


class Backwards:
    """A searcher of one's own: all vectors, from the last one."""

    def __init__(self, space: SearchSpace, repair: Repair, rng: random.Random):
        options = [decision.options for decision in space.decisions]
        self._left = list(np.ndindex(*options))
        self.told: list[tuple[Vector, float]] = []

    def ask(self) -> Vector:
        return self._left.pop() if len(self._left) > 1 else self._left[0]

    def tell(self, vector: Vector, reward: float) -> None:
        self.told.append((vector, reward))


MEMORY = CountingDevice(name="my-memory", counts="params", source="a test", date="2026")


def my_data(recipe: pathlib.Path) -> Dataset[Any]:
    """The data of the recipe, with another name."""
    return dataclasses.replace(load.load_dataset(f"npz:{recipe.parent / 'tiny.npz'}"), name="mine")


def search_mine(recipe: pathlib.Path, workdir: pathlib.Path, reward: Any = gentle) -> SearchResult:
    """A search of a few steps, after a finished coarse stage, of nothing that is shipped."""
    coarse = nas.open_result(workdir, "coarse").architecture
    result = nas.search(
        str(recipe),
        stage=MINE,
        workdir=workdir,
        targets=[Target(MEMORY, search_spaces.params(coarse) / 1e6), "macs:0.01M"],
        reward=reward,
        optimizer=plain,
        data=my_data(recipe),
        settings={"search.steps.custom": {"mine": STEPS}},
        progress=SILENT,
    )
    assert isinstance(result, SearchResult)
    return result


def test_all_of_them_in_one_search(
    finished_run: pathlib.Path, tiny_recipe: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = pathlib.Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = (workdir / "coarse" / "config.yaml").read_bytes()
    result = search_mine(tiny_recipe, workdir)

    assert result.stage == "mine" and result.path == workdir / "mine"
    assert len(result.metrics["reward"]) == STEPS
    assert result.record.seed == stages.stage_seed("mine", 0)
    assert (workdir / "coarse" / "config.yaml").read_bytes() == before
    config = result.record.config
    assert config.reward.kind.startswith("custom:gentle@")
    assert config.weights.optimizer.startswith("custom:plain@")
    assert config.data.source.startswith("custom:mine@")
    assert config.targets[0].startswith("my-memory:")
    found = result.architecture.found
    assert found and found.stage == "mine" and list(found.cost) == ["my-memory", "macs"]

    candidates = result.candidates
    targets = {name: cost.target for name, cost in found.cost.items()}
    missed = [abs(candidates.costs[name] / target - 1) for name, target in targets.items()]
    expected = candidates.accuracy - 0.1 * np.mean(missed, axis=0)
    np.testing.assert_allclose(candidates.reward, expected, atol=1e-4)

    again = search_mine(tiny_recipe, workdir)  # the same objects: finished, and only read
    assert again.architecture == result.architecture
    derived = result.derive(
        by=Backwards,
        out=tmp_path / "derived",
        evaluations=2,
        targets=[Target(MEMORY, 1e-3)],
        progress=SILENT,
    )
    assert derived.stage == "mine" and len(derived.candidates) <= 2
    assert derived.architecture.found
    assert list(derived.architecture.found.cost) == ["my-memory"]
    assert "SearchResult('mine'" in repr(derived)

    with pytest.raises(ValueError, match=r"another configuration .*custom:harsh@.*`workdir`"):
        search_mine(tiny_recipe, workdir, harsh)


def test_a_configuration_with_an_object_needs_it_in_another_process(
    tiny_recipe: pathlib.Path,
) -> None:
    source = load.register_dataset(my_data(tiny_recipe))
    load.DATASETS.remove(source)
    config = config_files.load(str(tiny_recipe), RunConfig, (), {"data.source": source})
    with pytest.raises(ValueError, match="was given as an object; pass it again"):
        load.load_dataset(config.data.source)
    with pytest.raises(ValueError, match="custom:gentle@"):
        config_files.load(str(tiny_recipe), RunConfig, (), {"reward.kind": "custom:gentle@0123"})
