"""The loop: a search stopped at any moment and started again ends as one that was never stopped."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

import latency_tables
from latency_tables import CostModel
from nas.run.checkpoint import Checkpoints
from nas.run.config import RunConfig
from nas.run.log import LiveLine
from nas.search import loop, planning, stages
from nas.search.steps import Batch, Search, SearchState, StepSettings
from rewards import REWARDS
from search_spaces import ArchSpec, SearchSpace, yaml_io

STEPS, EVERY = 20, 6
SPEC = """
name: loop
resolution: 4
blocks:
- {kind: conv, filters: {one_of: [8, 16], name: width}, kernel: 1}
- {kind: pool}
- {kind: classifier, classes: 2}
"""


@pytest.fixture(scope="module")
def search() -> Search:
    """Two networks of one convolution; its step is compiled once for all tests of this file."""
    space = SearchSpace(yaml_io.parse_model(SPEC, ArchSpec, "loop"))
    costs = CostModel.build(space, [latency_tables.device("macs")])
    settings = StepSettings(
        steps=STEPS,
        replicas=1,
        warmup=0.25,
        delay=0.25,
        policy_learning_rate=0.1,
        reward=REWARDS["absolute"],
        exponent=-0.1,
        label_smoothing=0.0,
        flip=True,
        mean=0.5,
        std=0.25,
    )
    return Search(space, settings, optax.adam(0.01), costs, (costs.range()[0],))


def read(step: int) -> Batch:
    rng = np.random.default_rng(step)
    images = rng.integers(0, 256, (2, 1, 4, 4, 4, 3), np.uint8)
    return Batch(images[0], np.eye(2, dtype=np.float32)[[[0, 1, 0, 1]]], images[1], np.array([[0, 1, 1, 0]], np.int32))


def stopping(step: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[int], Batch]:
    """`read`, but someone presses Ctrl-C when `step` is read."""

    def reader(number: int) -> Batch:
        if number == step:
            raise error
        return read(number)

    return reader


def run(search: Search, folder: pathlib.Path, reader: Callable[[int], Batch] = read) -> tuple[SearchState, float]:
    line = LiveLine("loop", STEPS, Console(file=io.StringIO()))
    return loop.run(search, reader, folder, line, seed=0, checkpoint_every=EVERY)


@pytest.fixture(scope="module")
def undisturbed(search: Search, tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, SearchState]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run(search, folder)[0]


def assert_same_bits(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def saved_in(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_an_undisturbed_run(undisturbed: tuple[pathlib.Path, SearchState]) -> None:
    folder, state = undisturbed
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert {"loss", "reward", "cost/macs"} < set(rows[0])
    assert saved_in(folder) == [18, 20] and int(state.step) == STEPS


@pytest.mark.parametrize("stops", [(1,), (6,), (7, 8), (3, 13, 19)], ids=str)
def test_ctrl_c_saves_and_the_next_run_goes_on(
    search: Search, undisturbed: tuple[pathlib.Path, SearchState], tmp_path: pathlib.Path, stops: tuple[int, ...]
) -> None:
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(search, tmp_path, stopping(stop))
        assert saved_in(tmp_path)[-1] == stop
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == stop
    seen: list[int] = []
    state, _ = run(search, tmp_path, lambda step: (seen.append(step), read(step))[1])
    assert seen == [0, *range(stops[-1], STEPS)]  # 0 for the shape; no step is done twice
    assert_same_bits(state, undisturbed[1])
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed[0] / "metrics.jsonl").read_text()


def test_a_second_ctrl_c_in_the_middle_of_a_step(
    search: Search,
    undisturbed: tuple[pathlib.Path, SearchState],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The state is taken apart then: the last checkpoint stays, and the next run goes on from there."""
    real = search.scorer
    count = iter(range(STEPS))

    def scorer(*arguments: Any) -> jax.Array:
        if next(count) == 8:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setitem(search.__dict__, "scorer", scorer)
    with pytest.raises(KeyboardInterrupt):
        run(search, tmp_path)
    monkeypatch.setitem(search.__dict__, "scorer", real)
    assert saved_in(tmp_path) == [6]
    state, _ = run(search, tmp_path)
    assert_same_bits(state, undisturbed[1])
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed[0] / "metrics.jsonl").read_text()


@pytest.mark.parametrize("stop", [3, 6, 15])
def test_an_error_loses_no_more_than_since_the_last_checkpoint(
    search: Search, undisturbed: tuple[pathlib.Path, SearchState], tmp_path: pathlib.Path, stop: int
) -> None:
    with pytest.raises(OSError):
        run(search, tmp_path, stopping(stop, OSError))
    assert saved_in(tmp_path) == [step for step in (6, 12) if step <= stop]
    state, _ = run(search, tmp_path)
    assert_same_bits(state, undisturbed[1])
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed[0] / "metrics.jsonl").read_text()


def test_a_finished_run_is_only_loaded(
    search: Search, undisturbed: tuple[pathlib.Path, SearchState], tmp_path: pathlib.Path
) -> None:
    _, first = run(search, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    state, seconds = run(search, tmp_path, stopping(1))
    assert_same_bits(state, undisturbed[1])
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert 0 < seconds <= first + 1


def test_the_clock_goes_on(search: Search, tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(search, tmp_path, stopping(2))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, _ = checkpoints.load(search.init(0))
        checkpoints.save(3, state, 1000.0)  # as if it had taken long
    assert run(search, tmp_path)[1] > 1000


def test_a_loss_that_is_no_number_stops_and_is_not_saved(search: Search, tmp_path: pathlib.Path) -> None:
    def broken(step: int) -> Batch:
        batch = read(step)
        return batch._replace(targets=batch.targets * np.float32(np.nan)) if step == 8 else batch

    with pytest.raises(loop.NotFinite, match="the loss is nan at step 8"):
        run(search, tmp_path, broken)
    assert saved_in(tmp_path) == [6]
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 8 and np.isnan(last["loss"])


def test_a_gradient_that_is_no_number_stops_before_its_weights_are_saved(
    search: Search, tmp_path: pathlib.Path
) -> None:
    """At a step that is saved, with a loss that is still finite: the squares of its gradient are not."""

    def broken(step: int) -> Batch:
        batch = read(step)
        return batch._replace(targets=np.full_like(batch.targets, 1e30)) if step == 11 else batch

    with pytest.raises(loop.NotFinite, match="the gradient norm is inf at step 11"):
        run(search, tmp_path, broken)
    assert saved_in(tmp_path) == [6]


def test_metrics_for_tensorboard_are_those_of_the_record(search: Search, tmp_path: pathlib.Path) -> None:
    """Stopped once: event files of both runs, of which TensorBoard keeps each step once (`purge_step`)."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs the extra tensorboard")
    line = LiveLine("loop", STEPS, Console(file=io.StringIO()))
    for reader in (stopping(9), read):
        with contextlib.suppress(KeyboardInterrupt):
            loop.run(search, reader, tmp_path, line, seed=0, checkpoint_every=EVERY, tensorboard=True)
    seen: dict[tuple[str, int], float] = {}
    for path in sorted((tmp_path / "tensorboard").iterdir()):
        for event in events(path, proto):
            for value in event.summary.value:
                assert (value.tag, event.step) not in seen
                seen[value.tag, event.step] = value.simple_value
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {key: pytest.approx(value) for key, value in seen.items()} == {
        (name, row["step"]): row[name] for row in rows for name in row if name != "step"
    }


def events(path: pathlib.Path, proto: Any) -> Iterator[Any]:
    """Of an event file: records of a length (8 bytes), its checksum (4), that many bytes, their checksum (4)."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        yield proto.Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size


def test_a_checkpoint_of_another_seed_goes_on_with_its_own_weights(search: Search, tmp_path: pathlib.Path) -> None:
    """`stages` refuses another seed; the loop itself trusts the checkpoint over the fresh state."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        other = search.init(5)
        checkpoints.save(STEPS, other._replace(step=other.step + STEPS), 0.0)
        wanted = jax.tree.map(np.asarray, other.params)
    assert_same_bits(run(search, tmp_path)[0].params, wanted)


FIRST = "checkpoints/10*"  # still being written, under a temporary name


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
    """`nas-search` in a process of its own, killed with SIGKILL as soon as a file of that pattern is there."""
    folder, whole = tmp_path / "coarse", finished_run / "coarse"
    command = [sys.executable, "-m", "nas.cli.search", "--stage", "coarse"]
    command += ["--config", str(tiny_recipe), "--workdir", str(tmp_path)]
    for moment in moments:
        process = subprocess.Popen(command, env=search_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while not any(folder.glob(moment)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        assert process.returncode == -9
        assert not (folder / "architecture.yaml").exists()
    done = subprocess.run(command, env=search_environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert (folder / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()
    assert without_seconds(folder) == without_seconds(whole)
    assert_same_bits(final_state(folder, tiny_recipe), final_state(whole, tiny_recipe))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_at_random_moments(
    seed: int, tiny_recipe: pathlib.Path, search_environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """SIGKILL anywhere in the loop, ten times; a checkpoint is being written for about half of that time."""
    command = [sys.executable, "-m", "nas.cli.search", "--stage", "coarse", "--config", str(tiny_recipe)]
    command += ["--set", "search.steps.coarse=400", "--set", "search.checkpoint_every=3", "--workdir"]
    whole, folder, rng, kills = tmp_path / "whole", tmp_path / "killed", random.Random(seed), 0
    done = subprocess.run([*command, str(whole)], env=search_environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    metrics = folder / "coarse" / "metrics.jsonl"
    while kills < 10:
        process = subprocess.Popen([*command, str(folder)], env=search_environment, stderr=subprocess.PIPE)
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
    done = subprocess.run([*command, str(folder)], env=search_environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert kills >= 3  # it was disturbed indeed
    for name in ("metrics.jsonl", "policy.jsonl", "config.yaml", "candidates.csv"):
        assert (folder / "coarse" / name).read_bytes() == (whole / "coarse" / name).read_bytes(), name
    assert without_seconds(folder / "coarse") == without_seconds(whole / "coarse")
    states = [last_arrays(one / "coarse" / "checkpoints") for one in (folder, whole)]
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
    """The newest checkpoint, loaded on one device, though it was written from two where there are two cores."""
    plan = planning.plan("coarse", yaml_io.load_model(recipe, RunConfig), folder.parent)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.latest == 60
        return checkpoints.load(stages.make_search(plan).init(1))[0]
