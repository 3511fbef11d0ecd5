"""Configuration: what is refused at the door, and what the hash sees."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from nas.run import config_files
from nas.run.config import RunConfig, config_hash
from nas.run.train_config import TrainConfig
from search_spaces import yaml_io

MINIMAL: dict[str, Any] = {"name": "a", "targets": ["macs:1M"]}

# Another valid value for every setting; a new setting needs a row.
OTHERS: dict[str, Any] = {
    "name": "b",
    "seed": 1,
    "targets": ["macs:2M"],
    "separate": True,
    "data.source": "npz:x",
    "data.labels": "hard",
    "data.label_smoothing": 0.1,
    "data.flip": False,
    "space.base": "mnv4-conv-s",
    "space.classes": 7,
    "space.coarse.multipliers": [1.0],
    "space.coarse.filters_by": "block",
    "space.coarse.expansions": [2.0],
    "space.coarse.expansion_by": "stage",
    "space.coarse.min_depth": None,
    "space.fine.start_dw": [0, 3],
    "space.fine.middle_dw": [3],
    "space.hybrid.stages": 1,
    "space.hybrid.heads": [2],
    "space.hybrid.key_dims": [16],
    "space.hybrid.kv_strides": [1],
    "space.hybrid.layer_scale": None,
    "reward.kind": "mnasnet-soft",
    "reward.exponent": -0.07,
    "weights.optimizer": "sgd",
    "weights.learning_rate": 0.2,
    "weights.warmup": 0.1,
    "weights.precision": "bfloat16",
    "weights.l2": 4e-5,
    "weights.clip_norm": 1.0,
    "weights.noise": 0.1,
    "weights.fgsm": 0.01,
    "policy.learning_rate": 0.1,
    "policy.delay": 0.5,
    "policy.warmup": 0.1,
    "search.steps.coarse": 7,
    "search.steps.fine": 7,
    "search.steps.hybrid": 7,
    "search.steps.one_stage": 7,
    "search.steps.custom": {"coarse": 7},
    "search.replicas": 3,
    "search.batch": 7,
    "search.validation_batch": 7,
    "search.checkpoint_every": 7,
    "derive.by": "evolution",
    "derive.evaluations": 7,
    "derive.tolerance": 0.02,
    "derive.survivors": 3,
    "derive.images": 7,
}


def put(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `data` with `path` set."""
    out = at = copy.deepcopy(data)
    *parents, last = path.split(".")
    for key in parents:
        at = at.setdefault(key, {})
    at[last] = value
    return out


def leaves(data: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in data.items():
        inner = isinstance(value, dict) and value  # an empty one has no keys of its own
        yield from leaves(value, f"{path}{key}.") if inner else [path + key]


class TestHash:
    def test_every_setting_has_a_row(self) -> None:
        known = set(leaves(RunConfig.model_validate(MINIMAL).model_dump()))
        assert known == set(OTHERS) | {"schema_version"}

    @pytest.mark.parametrize("path", OTHERS)
    def test_changes_with_every_value(self, path: str) -> None:
        changed = RunConfig.model_validate(put(MINIMAL, path, OTHERS[path]))
        assert config_hash(changed) != config_hash(RunConfig.model_validate(MINIMAL))

    def test_does_not_change_with_order_form_or_defaults_written_out(self) -> None:
        forms = (
            "{name: a, targets: ['macs:1M'], search: {batch: 8, replicas: 4}, "
            "weights: {learning_rate: 1}}",
            "{weights: {learning_rate: 1.0}, search: {replicas: 4, batch: 8}, "
            "targets: ['macs:1M'], name: a}",
            "schema: 1\nname: a\ntargets:\n- macs:1M\nseed: 0\nsearch: {replicas: 4, batch: 8}\n"
            "weights: {learning_rate: 1.0, optimizer: rmsprop}",
        )
        assert len({config_hash(yaml_io.parse_model(text, RunConfig, "x")) for text in forms}) == 1

    def test_stages_of_ones_own_count_only_where_there_are_any(self) -> None:
        """So that the hashes of older versions, which knew none, stay the same."""
        config = RunConfig.model_validate(MINIMAL)
        empty = RunConfig.model_validate(put(MINIMAL, "search.steps.custom", {}))
        assert config_hash(config) == config_hash(empty) == "5c2a4ece860a4064"
        assert "custom" in config.model_dump()["search"]["steps"]

    def test_is_16_hex_digits(self) -> None:
        assert re.fullmatch("[0-9a-f]{16}", config_hash(RunConfig.model_validate(MINIMAL)))


BAD: dict[str, tuple[str, Any, str]] = {
    "unknown key": ("serch", {}, "serch: unknown key; allowed: .*; did you mean 'search'"),
    "unknown inner key": (
        "search.batchs",
        4,
        "search.batchs: unknown key; .*; did you mean 'batch'",
    ),
    "unknown optimizer": (
        "weights.optimizer",
        "rmspropp",
        "weights.optimizer: got 'rmspropp'.*did you mean 'rmsprop'",
    ),
    "warm-up longer than delay": (
        "policy",
        {"warmup": 0.3, "delay": 0.2},
        r"policy: warmup: got 0.3, expected at most delay \(0.2\)",
    ),
    "no steps": ("search.steps.fine", 0, "search.steps.fine: got 0"),
    "fraction of an image": ("search.batch", 1.5, "search.batch: got 1.5"),
    "fraction above 1": ("policy.delay", 1.5, "policy.delay: got 1.5"),
    "rate of 0": ("weights.learning_rate", 0, "weights.learning_rate: got 0"),
    "exponent above 0": ("reward.exponent", 0.1, "reward.exponent: got 0.1"),
    "no targets": ("targets", [], "targets: got .*at least 1"),
    "targets as text": ("targets", "macs:1M", "targets: got 'macs:1M', expected a list"),
    "negative seed": ("seed", -1, "seed: got -1"),
    "seed as bool": ("seed", True, "seed: got True"),
    "a path as name": ("name", "../up", r"name: got '\.\./up'"),
    "another schema": ("schema", 2, "schema: got 2, expected one of 1"),
}


@pytest.mark.parametrize(("path", "value", "message"), BAD.values(), ids=BAD)
def test_bad_values(path: str, value: Any, message: str) -> None:
    with pytest.raises(yaml_io.YamlError, match=message):
        yaml_io.validate(put(MINIMAL, path, value), RunConfig, "a.yaml")


def test_a_warmup_as_long_as_the_delay_is_fine() -> None:
    config = RunConfig.model_validate(put(MINIMAL, "policy", {"warmup": 0.2, "delay": 0.2}))
    assert config.policy.warmup == config.policy.delay == 0.2


def test_the_written_form_reads_back_equal() -> None:
    config = RunConfig.model_validate(put(MINIMAL, "search.steps.fine", 7))
    for defaults in (False, True):
        assert (
            yaml_io.parse_model(yaml_io.to_yaml(config, defaults=defaults), RunConfig, "x")
            == config
        )


@pytest.mark.parametrize(
    ("stage", "steps"), [("coarse", 1), ("fine", 2), ("hybrid", 3), ("one-stage", 4)]
)
def test_steps_of_each_stage(stage: str, steps: int) -> None:
    fields = {"coarse": 1, "fine": 2, "hybrid": 3, "one_stage": 4, "custom": {"coarse": 9}}
    assert (
        RunConfig.model_validate(put(MINIMAL, "search.steps", fields)).search.steps.of(stage)
        == steps
    )


def test_an_unknown_stage_has_no_steps() -> None:
    config = RunConfig.model_validate(MINIMAL)
    with pytest.raises(ValueError, match="no stage called 'coarsest'; known: coarse, .*'coarse'"):
        config.search.steps.of("coarsest")
    with pytest.raises(yaml_io.YamlError, match="custom.*coarsest.*did you mean 'coarse'"):
        yaml_io.validate(put(MINIMAL, "search.steps.custom", {"coarsest": 5}), RunConfig, "a.yaml")


def test_train_config_is_checked_too() -> None:
    with pytest.raises(yaml_io.YamlError, match="norm_momentum: got 1.0"):
        yaml_io.validate({"norm_momentum": 1.0}, TrainConfig, "a.yaml")


def test_there_is_a_quickstart() -> None:
    assert "quickstart" in config_files.recipes()


@pytest.mark.parametrize("name", config_files.recipes())
def test_recipes_load(name: str) -> None:
    assert config_files.load(name, RunConfig).name == name
