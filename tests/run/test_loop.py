"""The loop: a search stopped at any moment and resumed ends as one that was never stopped."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
import pytest

from nas.engine.state import Batch, SearchState
from nas.engine.step import Search
from nas.host.progress import SILENT
from nas.run import loop
from nas.run.checkpoint import Checkpoints
from nas.run.folder import LoopFolder

from ..searches import assert_same_bits, objective_of, search_of, space_of

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
    return search_of(
        objective_of(space_of(SPEC)),
        optax.adam(0.01),
        steps=STEPS,
        replicas=1,
        batch=4,
        warmup=0.25,
        delay=0.25,
        policy_learning_rate=0.1,
        flip=True,
        mean=0.5,
        std=0.25,
    )


def read(step: int) -> Batch:
    rng = np.random.default_rng(step)
    images = rng.integers(0, 256, (2, 1, 4, 4, 4, 3), np.uint8)
    targets = np.eye(2, dtype=np.float32)[[[0, 1, 0, 1]]]
    return Batch(images[0], targets, images[1], np.array([[0, 1, 1, 0]], np.int32))


def stopping(step: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[int], Batch]:
    """`read`, but someone presses Ctrl-C when `step` is read."""

    def batch_reader(number: int) -> Batch:
        if number == step:
            raise error
        return read(number)

    return batch_reader


def run(
    search: Search,
    folder: pathlib.Path,
    batch_reader: Callable[[int], Batch] = read,
    **options: Any,
) -> tuple[SearchState, float]:
    return loop.run(
        search,
        batch_reader,
        SILENT,
        seed=0,
        folder=LoopFolder(folder),
        checkpoint_every=EVERY,
        **options,
    )


@pytest.fixture(scope="module")
def undisturbed(
    search: Search, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, SearchState]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run(search, folder)[0]


def saved_in(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def assert_same_run(
    folder: pathlib.Path, state: SearchState, undisturbed: tuple[pathlib.Path, SearchState]
) -> None:
    assert_same_bits(state, undisturbed[1])
    metrics = (undisturbed[0] / "metrics.jsonl").read_text()
    assert (folder / "metrics.jsonl").read_text() == metrics


def test_an_undisturbed_run(undisturbed: tuple[pathlib.Path, SearchState]) -> None:
    folder, state = undisturbed
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert {"loss", "reward", "cost/macs"} < set(rows[0])
    assert saved_in(folder) == [18, 20] and int(state.step) == STEPS


@pytest.mark.parametrize("stops", [(1,), (6,), (7, 8), (3, 13, 19)], ids=str)
def test_ctrl_c_saves_and_the_next_run_resumes(
    search: Search,
    undisturbed: tuple[pathlib.Path, SearchState],
    tmp_path: pathlib.Path,
    stops: tuple[int, ...],
) -> None:
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(search, tmp_path, stopping(stop))
        assert saved_in(tmp_path)[-1] == stop
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == stop
    seen: list[int] = []

    def recording(step: int) -> Batch:
        seen.append(step)
        return read(step)

    state, _ = run(search, tmp_path, recording)
    assert seen == list(range(stops[-1], STEPS))  # no step is done twice
    assert_same_run(tmp_path, state, undisturbed)


def test_a_second_ctrl_c_in_the_middle_of_a_step(
    search: Search,
    undisturbed: tuple[pathlib.Path, SearchState],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The state has been donated then: the last checkpoint stays, and the next run resumes it."""
    real = search.jitted_score
    count = iter(range(STEPS))

    def interrupted(*arguments: Any) -> jax.Array:
        if next(count) == 8:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setitem(search.__dict__, "jitted_score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(search, tmp_path)
    monkeypatch.setitem(search.__dict__, "jitted_score", real)
    assert saved_in(tmp_path) == [6]
    state, _ = run(search, tmp_path)
    assert_same_run(tmp_path, state, undisturbed)


@pytest.mark.parametrize("stop", [3, 6, 15])
def test_an_error_loses_no_more_than_since_the_last_checkpoint(
    search: Search,
    undisturbed: tuple[pathlib.Path, SearchState],
    tmp_path: pathlib.Path,
    stop: int,
) -> None:
    with pytest.raises(OSError):
        run(search, tmp_path, stopping(stop, OSError))
    assert saved_in(tmp_path) == [step for step in (6, 12) if step <= stop]
    state, _ = run(search, tmp_path)
    assert_same_run(tmp_path, state, undisturbed)


def test_a_finished_run_is_only_loaded(
    search: Search, undisturbed: tuple[pathlib.Path, SearchState], tmp_path: pathlib.Path
) -> None:
    _, first = run(search, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    state, seconds = run(search, tmp_path, stopping(1))
    assert_same_bits(state, undisturbed[1])
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert 0 < seconds <= first + 1


def test_without_a_folder_nothing_is_kept_and_the_result_is_the_same(
    search: Search,
    undisturbed: tuple[pathlib.Path, SearchState],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        loop.run(search, stopping(7), SILENT, seed=0)
    state, _ = loop.run(search, read, SILENT, seed=0)
    assert_same_bits(state, undisturbed[1])
    assert list(tmp_path.iterdir()) == []


def test_the_clock_counts_earlier_sessions(search: Search, tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(search, tmp_path, stopping(2))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, _ = checkpoints.load(search.init(0))
        checkpoints.save(3, state, 1000.0)  # as if it had taken long
    assert run(search, tmp_path)[1] > 1000


def test_a_loss_that_is_no_number_stops_and_is_not_saved(
    search: Search, tmp_path: pathlib.Path
) -> None:
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
    """At a step that is saved, with a finite loss: the squares of its gradient are not."""

    def broken(step: int) -> Batch:
        batch = read(step)
        return batch._replace(targets=np.full_like(batch.targets, 1e30)) if step == 11 else batch

    with pytest.raises(loop.NotFinite, match="the gradient norm is inf at step 11"):
        run(search, tmp_path, broken)
    assert saved_in(tmp_path) == [6]


def test_metrics_for_tensorboard_are_those_of_the_record(
    search: Search, tmp_path: pathlib.Path
) -> None:
    """Stopped once: of both event files TensorBoard keeps each step once (`purge_step`)."""
    proto = pytest.importorskip(
        "tensorboardX.proto.event_pb2", reason="needs the extra tensorboard"
    )
    for batch_reader in (stopping(9), read):
        with contextlib.suppress(KeyboardInterrupt):
            run(search, tmp_path, batch_reader, tensorboard=True)
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
    """Events of a file, records of a length (8 bytes), its checksum (4), data and checksum (4)."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        yield proto.Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size


def test_a_checkpoint_of_another_seed_keeps_its_own_weights(
    search: Search, tmp_path: pathlib.Path
) -> None:
    """`planning` refuses another seed; the loop itself trusts the checkpoint over the new state."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        other = search.init(5)
        checkpoints.save(STEPS, other._replace(step=other.step + STEPS), 0.0)
        wanted = jax.tree.map(np.asarray, other.params)
    assert_same_bits(run(search, tmp_path)[0].params, wanted)


class Recorder:
    """A callback that records its calls, and the progress of a run."""

    def __init__(self, every: int):
        self.every = every
        self.calls: list[Any] = []
        self.updates: list[tuple[int, str]] = []

    def start(self, first_step: int) -> None:
        self.calls.append(("start", first_step))

    def __call__(self, step: int, state: SearchState) -> None:
        assert int(state.step) == step
        self.calls.append(step)

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")

    def update(self, step: int, text: str) -> None:
        self.updates.append((step, text))

    def message(self, text: str) -> None:
        raise AssertionError(text)

    def start_phase(self, name: str, total: int) -> None:
        raise AssertionError(name)


def test_callbacks_see_every_nth_state_and_are_flushed_before_each_checkpoint(
    search: Search, tmp_path: pathlib.Path
) -> None:
    first, second = Recorder(5), Recorder(5)
    saved: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(search, tmp_path, stopping(8), callbacks=[first])
    assert first.calls == [("start", 0), 5, "flush", "flush", "close"]
    run(search, tmp_path, callbacks=[second], saved=lambda: saved.append(saved_in(tmp_path)[-1]))
    assert second.calls == [("start", 8), 10, "flush", 15, "flush", 20, "flush", "close"]
    assert saved == [12, 18, 20]


def test_progress_shows_the_mean_of_the_latest_metrics(
    search: Search, tmp_path: pathlib.Path
) -> None:
    """Every tenth step, at each checkpoint and at the end; images per second from the second on."""
    shown = Recorder(1)
    loop.run(search, read, shown, seed=0, folder=LoopFolder(tmp_path), checkpoint_every=EVERY)
    assert [step for step, _ in shown.updates] == [6, 10, 12, 18, 20]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for (step, text), (first, last) in zip(
        shown.updates, [(0, 6), (6, 10), (10, 12), (12, 18), (18, 20)], strict=True
    ):
        reward = np.mean([row["reward"] for row in rows[first:last]])
        assert text.endswith(search.summary({**rows[0], **means_of(rows[first:last])}))
        assert f"reward {reward:.3f}  accuracy " in text
        assert (" img/s  " in text) == (step > 6)


def means_of(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
