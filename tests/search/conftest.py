"""Plans of the tiny recipe."""

from __future__ import annotations

import pathlib

import pytest

from nas.engine import planning
from nas.run.config import RunConfig
from search_spaces import yaml_io


@pytest.fixture(scope="session")
def config(tiny_recipe: pathlib.Path) -> RunConfig:
    """The configuration of the tiny recipe."""
    return yaml_io.load_model(tiny_recipe, RunConfig)


@pytest.fixture(scope="session")
def plan(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> planning.Plan:
    """The coarse stage of the tiny recipe in a folder that does not exist."""
    return planning.plan("coarse", config, tmp_path_factory.mktemp("plan") / "new")


@pytest.fixture(scope="session")
def separate_plan(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> planning.Plan:
    """A one-stage search of two separate targets, each with an exponent of its own."""
    settings = {
        "targets": ["params:0.001M", "macs:0.012M"],
        "reward": {"exponent": [-0.1, -0.2]},
        "separate": True,
    }
    two = RunConfig.model_validate({**config.model_dump(by_alias=True), **settings})
    return planning.plan("one-stage", two, tmp_path_factory.mktemp("separate") / "new")
