"""`nas-search` in a process of its own, killed at any moment and started again."""

from __future__ import annotations

import pathlib
import random
import re
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from nas.engine import planning, runner
from nas.engine.state import SearchState
from nas.run.checkpoint import Checkpoints
from nas.run.config import RunConfig
from search_spaces import yaml_io

from ..searches import assert_same_bits

FIRST = "checkpoints/10*"  # still being written, under a temporary name
SEARCH = [sys.executable, "-m", "nas.cli.search", "--stage", "coarse"]


def finish(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "moments", [(FIRST,), pytest.param((FIRST, "checkpoints/30"), marks=pytest.mark.slow)], ids=str
)
def test_killed_and_started_again(
    moments: tuple[str, ...],
    tiny_recipe: pathlib.Path,
    search_environment: dict[str, str],
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    """Killed with SIGKILL as soon as a file of that pattern is there."""
    folder, whole = tmp_path / "coarse", finished_run / "coarse"
    command = [*SEARCH, "--config", str(tiny_recipe), "--workdir", str(tmp_path)]
    for moment in moments:
        process = subprocess.Popen(
            command, env=search_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 300
        while (
            not any(folder.glob(moment)) and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.002)
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        assert process.returncode == -9
        assert not (folder / "architecture.yaml").exists()
    finish(command, search_environment)
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert (folder / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()
    assert without_seconds(folder) == without_seconds(whole)
    assert_same_bits(final_state(folder, tiny_recipe), final_state(whole, tiny_recipe))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_at_random_moments(
    seed: int, tiny_recipe: pathlib.Path, search_environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """SIGKILL anywhere in the loop, ten times, half of them while a checkpoint is being written."""
    changes = ["--set", "search.steps.coarse=400", "--set", "search.checkpoint_every=3"]
    command = [*SEARCH, "--config", str(tiny_recipe), *changes, "--workdir"]
    whole, folder, rng, kills = tmp_path / "whole", tmp_path / "killed", random.Random(seed), 0
    finish([*command, str(whole)], search_environment)
    metrics = folder / "coarse" / "metrics.jsonl"
    while kills < 10:
        process = subprocess.Popen(
            [*command, str(folder)], env=search_environment, stderr=subprocess.PIPE
        )
        begun = time.time()
        while not (metrics.exists() and metrics.stat().st_mtime > begun) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 1.5))
        ended = process.poll()
        process.kill()
        _, err = process.communicate()
        if ended is not None:
            assert ended == 0, err
            break
        kills += 1
    finish([*command, str(folder)], search_environment)
    assert kills >= 3  # it was disturbed indeed
    for name in ("metrics.jsonl", "policy.jsonl", "config.yaml", "candidates.csv"):
        undisturbed = (whole / "coarse" / name).read_bytes()
        assert (folder / "coarse" / name).read_bytes() == undisturbed, name
    assert without_seconds(folder / "coarse") == without_seconds(whole / "coarse")
    states = [last_arrays(run / "coarse" / "checkpoints") for run in (folder, whole)]
    assert_same_bits(*states)


def last_arrays(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of the newest checkpoint but the clock."""
    from orbax.checkpoint import v1 as ocp

    newest = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    arrays: Any = ocp.load(str(folder / str(newest)))
    return {name: np.asarray(value) for name, value in arrays.items() if name != "elapsed_s"}


def without_seconds(folder: pathlib.Path) -> str:
    return re.sub(r"seconds: [\d.]+", "", (folder / "architecture.yaml").read_text())


def final_state(folder: pathlib.Path, recipe: pathlib.Path) -> SearchState:
    """The newest checkpoint, loaded on one device, though with two cores two devices wrote it."""
    plan = planning.plan("coarse", yaml_io.load_model(recipe, RunConfig), folder.parent)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.latest == 60
        return checkpoints.load(runner.build_search(plan).init(1))[0]
