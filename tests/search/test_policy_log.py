"""The log of a policy: which steps it writes, and the probabilities of every option."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from nas.engine.policy_log import PolicyLog
from nas.engine.state import SearchState
from nas.searchers.reinforce import Controller
from search_spaces import SearchSpace


@pytest.fixture(scope="module")
def policy(tiny_space: SearchSpace) -> Controller:
    return Controller.build(tiny_space)


def state_of(policy: Controller, *logits: dict[tuple[int, int], float]) -> SearchState:
    """A state with one policy for each of `logits`, {(decision, option): logit}; others are 0."""
    policies = []
    for given in logits:
        table = jnp.zeros(policy.mask.shape)
        for index, logit in given.items():
            table = table.at[index].set(logit)
        policies.append(policy.init()._replace(logits=table))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    return SearchState({}, (), stacked, jnp.zeros((), jnp.int32))


def rows_of(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("steps", "every"), [(1, 10), (60, 10), (1999, 10), (2000, 20), (25_000, 250)]
)
def test_a_run_is_logged_about_a_hundred_times(
    policy: Controller, tmp_path: pathlib.Path, steps: int, every: int
) -> None:
    """Never more often than the loop looks at its metrics, every tenth step."""
    assert PolicyLog(tmp_path / "policy.jsonl", policy, steps).every == every


def test_a_row_has_each_policys_probabilities_without_padding(
    policy: Controller, tmp_path: pathlib.Path
) -> None:
    """Three equal options are 1/3; of two, a logit ln 3 above the other is 3/4."""
    path = tmp_path / "policy.jsonl"
    log = PolicyLog(path, policy, 60)
    log.start(0)
    log(10, state_of(policy, {(1, 0): 1.0986123, (1, 2): 50.0}, {(0, 0): -100.0}))
    log.close()
    (row,) = rows_of(path)
    assert row["step"] == 9
    first, second = row["probabilities"]
    assert [len(options) for options in first] == policy.counts.tolist()
    assert first[0] == [0.3333] * 3 and first[1] == [0.75, 0.25]
    assert second[0] == [0.0, 0.5, 0.5] and second[1] == [0.5, 0.5]


def test_a_resumed_run_drops_the_rows_of_the_steps_that_it_repeats(
    policy: Controller, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "policy.jsonl"
    for first, steps in ((0, (10, 20, 30)), (20, (30, 40))):
        log = PolicyLog(path, policy, 60)
        log.start(first)
        for step in steps:
            log(step, state_of(policy, {}))
        log.flush()
        assert rows_of(path)[-1]["step"] == steps[-1] - 1  # another program sees them
        log.close()
    assert [row["step"] for row in rows_of(path)] == [9, 19, 29, 39]


def test_a_run_that_never_starts_writes_nothing(policy: Controller, tmp_path: pathlib.Path) -> None:
    log = PolicyLog(tmp_path / "policy.jsonl", policy, 60)
    log.flush()
    log.close()
    assert list(tmp_path.iterdir()) == []
