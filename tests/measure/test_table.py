"""Measured tables: complete after any interruption, never mixed with other settings."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import pathlib
import re
from typing import Any

import pytest

from latency_tables import measurement
from latency_tables.table import Row, load_table
from nas.exporters.tflite import Dtype
from nas.host import cluster
from nas.host.parallel import WorkerPool
from nas.measurement import table
from nas.measurement.local import LocalRuntime, Protocol
from nas.measurement.runtime import Timing
from search_spaces import ArchSpec, OpCall, Shape, lower

needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
TINY = Protocol("tiny", runs=2, repeats=1, warmup_runs=1)
OPS = tuple(OpCall("conv2d", Shape(4, 4, 8), 8 * n, norm=True, role="any") for n in (1, 2, 3))
CALL_MS = 0.25


@dataclasses.dataclass
class FakeRuntime:
    """A runtime of given latencies: 1 ms per output channel of an operation, 5 ms for a network."""

    seen: list[object]
    dtype: Dtype = "int8"
    protocol: str = "tiny: twice"
    threads: int = 1
    call: float = CALL_MS
    manifest_fields = {
        "name": "known",
        "device": "?",
        "delegate": "XNNPACK",
        "how": "measured",
        "source": "?",
        "licence": "?",
    }

    @property
    def settings(self) -> dict[str, Any]:
        same = {"processor": "a processor", "runtime": "LiteRT 1.2.3"}
        return {**same, "threads": self.threads, "dtype": self.dtype, "protocol": self.protocol}

    def call_ms(self) -> float:
        return self.call

    def time(self, tflite: Any) -> Timing:
        self.seen.append(tflite)
        return Timing(float(tflite.out_channels) if isinstance(tflite, OpCall) else 5.0, 0.5, 2)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """A fake runtime; operations and names of networks replace models, so nothing is converted."""
    monkeypatch.setattr(table, "operation_model", lambda op, dtype: op)
    monkeypatch.setattr(table, "network_model", lambda spec, dtype: spec.name)
    return FakeRuntime([])


class RecordedProgress:
    """A progress that keeps its updates, and that can interrupt before a step as Ctrl-C does."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.updates: list[tuple[int, str]] = []
        self._stop_before = stop_before

    def update(self, step: int, text: str) -> None:
        if step == self._stop_before:
            raise KeyboardInterrupt
        self.updates.append((step, text))

    def message(self, text: str) -> None:
        raise AssertionError(text)

    def start_phase(self, name: str, total: int) -> None:
        raise AssertionError(name)


def test_rows_and_manifest(runtime: FakeRuntime, tmp_path: pathlib.Path) -> None:
    progress = RecordedProgress()
    made = table.measure_table(
        [*OPS, OPS[0]], tmp_path, runtime, progress=progress, name="mine", device="a box"
    )
    read = load_table(tmp_path)
    assert read.manifest == made.manifest and read.rows == made.rows
    assert read.rows == tuple(Row(op.folded, op.out_channels - CALL_MS, 0.5, 2) for op in OPS)
    assert runtime.seen == [op.folded for op in OPS]
    assert progress.updates == [*((n, str(op)) for n, op in enumerate(OPS)), (3, "done")]
    m = read.manifest
    assert (m.name, m.device, m.processor) == ("mine", "a box", "a processor")
    assert (m.runtime, m.delegate, m.threads, m.dtype) == ("LiteRT 1.2.3", "XNNPACK", 1, "int8")
    assert (m.origin, m.call_ms, m.rows) == ("measured", CALL_MS, 3)
    assert m.protocol.startswith("tiny: twice; the time of a call subtracted")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["manifest.yaml", "rows.csv"]


def test_an_operation_faster_than_a_call_takes_a_nanosecond(
    runtime: FakeRuntime, tmp_path: pathlib.Path
) -> None:
    runtime.call = 100.0
    assert table.measure_table(OPS[:1], tmp_path, runtime).rows[0].ms == 1e-6


@pytest.mark.parametrize("cut", [0, 1, 30])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_interrupted_measurement_resumes(
    runtime: FakeRuntime, tmp_path: pathlib.Path, number: int, cut: int
) -> None:
    """Killed before an operation, or while its row was written: `cut` bytes of it are missing."""
    with pytest.raises(KeyboardInterrupt):
        table.measure_table(OPS, tmp_path, runtime, progress=RecordedProgress(number))
    journal = tmp_path / table.ROWS_JOURNAL
    lines = journal.read_text().splitlines()
    assert len(lines) == 2 + number and not (tmp_path / "manifest.yaml").exists()
    if cut:
        content = journal.read_text()
        journal.write_text(content[: len(content) - min(cut, len(lines[-1]))])
    runtime.call = math.nan  # the time of a call is not measured again
    kept = number - bool(cut and number)
    if cut and not number:  # even the line of columns was cut
        assert len(runtime.seen) == 0
    rows = table.measure_table(OPS, tmp_path, runtime).rows
    assert rows == tuple(Row(op.folded, op.out_channels - CALL_MS, 0.5, 2) for op in OPS)
    assert runtime.seen == [op.folded for op in (*OPS[:number], *OPS[kept:])]
    assert not journal.exists()


def test_a_finished_table_grows(runtime: FakeRuntime, tmp_path: pathlib.Path) -> None:
    table.measure_table(OPS[:2], tmp_path, runtime)
    with pytest.raises(KeyboardInterrupt):
        table.measure_table(OPS, tmp_path, runtime, progress=RecordedProgress(2))
    assert len(load_table(tmp_path).rows) == 2  # still complete
    table.measure_table(OPS, tmp_path, runtime)
    assert len(load_table(tmp_path).rows) == 3 and runtime.seen == [op.folded for op in OPS]


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused(
    runtime: FakeRuntime, tmp_path: pathlib.Path, finished: bool
) -> None:
    if finished:
        table.measure_table(OPS, tmp_path, runtime)
    else:
        with pytest.raises(KeyboardInterrupt):
            table.measure_table(OPS, tmp_path, runtime, progress=RecordedProgress(1))
    for key, changes in [
        ("dtype 'int8', not 'float32'", {"dtype": "float32"}),
        ("protocol 'tiny: twice', not 'other'", {"protocol": "other"}),
        ("threads 1, not 2", {"threads": 2}),
    ]:
        with pytest.raises(
            ValueError, match=f"{tmp_path}: was measured with {key}; use the same, or a new folder"
        ):
            table.measure_table(OPS, tmp_path, dataclasses.replace(runtime, **changes))


def test_an_operation_that_cannot_be_measured_is_named(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def refuse(self: FakeRuntime, tflite: Any) -> Timing:
        raise ValueError("too large")

    monkeypatch.setattr(FakeRuntime, "time", refuse)
    with pytest.raises(ValueError, match=re.escape(f"{OPS[0]}: too large")):
        table.measure_table(OPS, tmp_path, runtime)


def test_mistakes(runtime: FakeRuntime, small_32: ArchSpec, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="measure_table: got no operations"):
        table.measure_table([], tmp_path, runtime)
    with pytest.raises(
        ValueError, match="got the networks small-32, small-32; expected at least one, each once"
    ):
        table.measure_networks([small_32, small_32], tmp_path, runtime)
    journal = tmp_path / table.ROWS_JOURNAL
    journal.write_text("something\nelse\n")
    with pytest.raises(
        ValueError,
        match=f"{journal}:1: is no journal of a measurement; move it away, or use a new folder",
    ):
        table.measure_table(OPS, tmp_path, runtime)


def test_networks(runtime: FakeRuntime, small_32: ArchSpec, tmp_path: pathlib.Path) -> None:
    two = [small_32, small_32.model_copy(update={"name": "twin"})]
    with pytest.raises(KeyboardInterrupt):
        table.measure_networks(two, tmp_path, runtime, progress=RecordedProgress(1))
    table.measure_networks(two, tmp_path, runtime)
    assert runtime.seen == ["small-32", "twin"]
    read = measurement.load_measurements(tmp_path)
    ops = tuple(op.folded for op in lower(small_32))
    assert read.measurements == tuple(
        measurement.Measurement(spec.name, ops, 5.0, 0.5, 2) for spec in two
    )
    assert read.manifest.call_ms == 0 and read.manifest.protocol.startswith("tiny: twice")
    other = small_32.with_blocks(small_32.blocks[:3] + small_32.blocks[4:])
    with pytest.raises(
        ValueError,
        match="has times of another network called small-32; rename it, or use a new folder",
    ):
        table.measure_networks([other], tmp_path, runtime)


@needs_litert
def test_on_this_machine(tmp_path: pathlib.Path) -> None:
    made = table.measure_table(OPS, tmp_path, LocalRuntime("int8", TINY))
    assert all(row.ms > 0 and row.count == 2 for row in made.rows) and made.manifest.call_ms > 0
    assert made.manifest.runtime.startswith("LiteRT ")


def test_machines_that_differ_are_refused(
    runtime: FakeRuntime, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = table._timed

    def on_another_machine(*arguments: Any) -> Any:
        item, settings, _, timing = timed(*arguments)
        return item, {**settings, "processor": "another"}, "box2", timing

    monkeypatch.setattr(table, "_timed", on_another_machine)
    message = (
        "box2: its processor is 'another', another machine's 'a processor'; "
        "measure on machines of one kind"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        table.measure_table(OPS, tmp_path, runtime)


@pytest.mark.slow
@needs_litert
@pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning"
)  # Ray starts its processes from here, where JAX is loaded
def test_a_cluster_gives_the_same_rows_in_the_same_order(tmp_path: pathlib.Path) -> None:
    runtime = LocalRuntime("float32", TINY)
    here = table.measure_table(OPS, tmp_path / "here", runtime)
    there = table.measure_table(
        OPS,
        tmp_path / "there",
        runtime,
        workers=WorkerPool(cluster=cluster.ClusterSpec(cluster.LOCAL)),
    )
    assert [row.op for row in there.rows] == [row.op for row in here.rows]
    same = ("processor", "runtime", "threads", "dtype", "name", "protocol")
    assert all(getattr(there.manifest, key) == getattr(here.manifest, key) for key in same)
    assert all(row.count == 2 for row in there.rows)
