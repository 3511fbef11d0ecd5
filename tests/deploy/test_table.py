"""Measured tables: whole after any interruption, never mixed with other settings."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from latency_tables import measurement
from latency_tables.table import Row, load_table
from nas.deploy import table
from nas.deploy.export import Dtype
from nas.deploy.measure import Here, Protocol
from nas.deploy.runtime import Timing
from nas.run import cluster
from nas.run.parallel import Workers
from search_spaces import ArchSpec, OpCall, Shape, lower

needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
TINY = Protocol("tiny", runs=2, repeats=1, warmup_runs=1)
OPS = tuple(OpCall("conv2d", Shape(4, 4, 8), 8 * n, norm=True, role="any") for n in (1, 2, 3))
CALL_MS = 0.25


@dataclasses.dataclass
class Known:
    """A runtime of known times: an operation takes as many ms as it has output channels, a network 5."""

    seen: list[object]
    dtype: Dtype = "int8"
    protocol: str = "tiny: twice"
    threads: int = 1
    call: float = CALL_MS
    about = {"name": "known", "device": "?", "delegate": "XNNPACK", "how": "measured", "source": "?", "licence": "?"}

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
def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    """With operations and names of networks in place of models, so that nothing has to be converted."""
    monkeypatch.setattr(table, "operation_tflite", lambda op, dtype: op)
    monkeypatch.setattr(table, "spec_tflite", lambda spec, dtype: spec.name)
    return Known([])


def _stop_before(number: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, text: str) -> None:
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_rows_and_manifest(known: Known, tmp_path: pathlib.Path) -> None:
    told: list[tuple[int, int, str]] = []
    made = table.measure_table(
        [*OPS, OPS[0]], tmp_path, known, progress=lambda *what: told.append(what), name="mine", device="a box"
    )
    read = load_table(tmp_path)
    assert read.manifest == made.manifest and read.rows == made.rows
    assert read.rows == tuple(Row(op.folded, op.out_channels - CALL_MS, 0.5, 2) for op in OPS)
    assert known.seen == [op.folded for op in OPS]
    assert told == [*((n, 3, op.text) for n, op in enumerate(OPS)), (3, 3, "done")]
    m = read.manifest
    assert (m.name, m.device, m.processor) == ("mine", "a box", "a processor")
    assert (m.runtime, m.delegate, m.threads, m.dtype) == ("LiteRT 1.2.3", "XNNPACK", 1, "int8")
    assert (m.how, m.call_ms, m.rows) == ("measured", CALL_MS, 3)
    assert m.protocol.startswith("tiny: twice; the time of a call subtracted")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["manifest.yaml", "rows.csv"]


def test_an_operation_below_the_time_of_a_call_is_a_nanosecond(known: Known, tmp_path: pathlib.Path) -> None:
    known.call = 100.0
    assert table.measure_table(OPS[:1], tmp_path, known).rows[0].ms == 1e-6


@pytest.mark.parametrize("cut", [0, 1, 30])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_it_continues_where_it_stopped(known: Known, tmp_path: pathlib.Path, number: int, cut: int) -> None:
    """Killed before any operation, or (`cut` bytes of the last line are missing) in the middle of writing its row."""
    with pytest.raises(KeyboardInterrupt):
        table.measure_table(OPS, tmp_path, known, progress=_stop_before(number))
    journal = tmp_path / table.ROWS_JOURNAL
    lines = journal.read_text().splitlines()
    assert len(lines) == 2 + number and not (tmp_path / "manifest.yaml").exists()
    if cut:
        content = journal.read_text()
        journal.write_text(content[: len(content) - min(cut, len(lines[-1]))])
    known.call = math.nan  # the time of a call is known already
    kept = number - bool(cut and number)
    if cut and not number:  # even the line of columns was cut
        assert len(known.seen) == 0
    rows = table.measure_table(OPS, tmp_path, known).rows
    assert rows == tuple(Row(op.folded, op.out_channels - CALL_MS, 0.5, 2) for op in OPS)
    assert known.seen == [op.folded for op in (*OPS[:number], *OPS[kept:])]
    assert not journal.exists()


def test_a_finished_table_grows(known: Known, tmp_path: pathlib.Path) -> None:
    table.measure_table(OPS[:2], tmp_path, known)
    with pytest.raises(KeyboardInterrupt):
        table.measure_table(OPS, tmp_path, known, progress=_stop_before(2))
    assert len(load_table(tmp_path).rows) == 2  # still whole
    table.measure_table(OPS, tmp_path, known)
    assert len(load_table(tmp_path).rows) == 3 and known.seen == [op.folded for op in OPS]


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused(known: Known, tmp_path: pathlib.Path, finished: bool) -> None:
    if finished:
        table.measure_table(OPS, tmp_path, known)
    else:
        with pytest.raises(KeyboardInterrupt):
            table.measure_table(OPS, tmp_path, known, progress=_stop_before(1))
    for key, changes in [
        ("dtype 'int8', not 'float32'", {"dtype": "float32"}),
        ("protocol 'tiny: twice', not 'other'", {"protocol": "other"}),
        ("threads 1, not 2", {"threads": 2}),
    ]:
        with pytest.raises(ValueError, match=f"{tmp_path}: was measured with {key}; use the same, or a new folder"):
            table.measure_table(OPS, tmp_path, dataclasses.replace(known, **changes))


def test_an_operation_that_cannot_be_timed_is_named(
    known: Known, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def refuse(self: Known, tflite: Any) -> Timing:
        raise ValueError("too large")

    monkeypatch.setattr(Known, "time", refuse)
    with pytest.raises(ValueError, match=re.escape(f"{OPS[0].text}: too large")):
        table.measure_table(OPS, tmp_path, known)


def test_mistakes(known: Known, small_32: ArchSpec, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="measure_table: got no operations"):
        table.measure_table([], tmp_path, known)
    with pytest.raises(ValueError, match="got the networks small-32, small-32; expected some, each once"):
        table.measure_networks([small_32, small_32], tmp_path, known)
    journal = tmp_path / table.ROWS_JOURNAL
    journal.write_text("something\nelse\n")
    with pytest.raises(ValueError, match=f"{journal}:1: is no journal of a measurement; remove it or use a new folder"):
        table.measure_table(OPS, tmp_path, known)


def test_networks(known: Known, small_32: ArchSpec, tmp_path: pathlib.Path) -> None:
    two = [small_32, small_32.model_copy(update={"name": "twin"})]
    with pytest.raises(KeyboardInterrupt):
        table.measure_networks(two, tmp_path, known, progress=_stop_before(1))
    table.measure_networks(two, tmp_path, known)
    assert known.seen == ["small-32", "twin"]
    read = measurement.load_measurements(tmp_path)
    ops = tuple(op.folded for op in lower(small_32))
    assert read.measurements == tuple(measurement.Measurement(spec.name, ops, 5.0, 0.5, 2) for spec in two)
    assert read.manifest.call_ms == 0 and read.manifest.protocol.startswith("tiny: twice")
    other = small_32.model_copy(update={"blocks": small_32.blocks[:3] + small_32.blocks[4:]})
    with pytest.raises(
        ValueError, match="has times of another network called small-32; rename it, or use a new folder"
    ):
        table.measure_networks([other], tmp_path, known)


@needs_litert
def test_on_this_machine(tmp_path: pathlib.Path) -> None:
    made = table.measure_table(OPS, tmp_path, Here("int8", TINY))
    assert all(row.ms > 0 and row.count == 2 for row in made.rows) and made.manifest.call_ms > 0
    assert made.manifest.runtime.startswith("LiteRT ")


def test_machines_that_are_not_alike(known: Known, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = table._timed

    def there(*what: Any) -> Any:
        item, settings, _, timing = here(*what)
        return item, {**settings, "processor": "another"}, "box2", timing

    monkeypatch.setattr(table, "_timed", there)
    message = "box2: its processor is 'another', another machine's 'a processor'; measure on machines of one kind"
    with pytest.raises(ValueError, match=re.escape(message)):
        table.measure_table(OPS, tmp_path, known)


@pytest.mark.slow
@needs_litert
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # Ray starts its processes from here, where JAX is loaded
def test_a_cluster_gives_the_same_rows_in_the_same_order(tmp_path: pathlib.Path) -> None:
    runtime = Here("float32", TINY)
    here = table.measure_table(OPS, tmp_path / "here", runtime)
    there = table.measure_table(OPS, tmp_path / "there", runtime, workers=Workers(place=cluster.Place(cluster.LOCAL)))
    assert [row.op for row in there.rows] == [row.op for row in here.rows]
    same = ("processor", "runtime", "threads", "dtype", "name", "protocol")
    assert all(getattr(there.manifest, key) == getattr(here.manifest, key) for key in same)
    assert all(row.count == 2 for row in there.rows)
