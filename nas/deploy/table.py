"""Tables that are measured here, or on a cluster: each row is kept at once, so that nothing is measured twice."""

from __future__ import annotations

import datetime
import functools
import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from latency_tables import measurement, table
from latency_tables.measurement import Measurement, Measurements
from latency_tables.table import Row, Table
from nas.deploy.operation import operation_tflite, spec_tflite
from nas.deploy.runtime import Runtime, Timing
from nas.run import parallel
from search_spaces import ArchSpec, OpCall, lower, yaml_io

T = TypeVar("T", Row, Measurement)
K = TypeVar("K")
R = TypeVar("R")
Progress = Callable[[int, int, str], None]
"""Called with (how many are done, how many there are, what is measured next)."""

ROWS_JOURNAL, NETWORKS_JOURNAL = "rows.journal", "measurements.journal"


def measure_table(
    ops: Sequence[OpCall],
    folder: str | os.PathLike[str],
    runtime: Runtime,
    *,
    progress: Progress | None = None,
    workers: parallel.Workers = parallel.ALONE,
    **manifest: object,
) -> Table:
    """Time every distinct operation and write a table; `latency_tables.table.load_table` reads it.

    ms = time of a model of that operation - time of a call (`Runtime.call_ms`); at least 1 ns

    Each row goes to a journal in the folder as soon as it is measured. Where there is one, or a finished table, what it
    has is not measured again.

    Args:
      ops: any operations; norms and biases are folded, duplicates measured once.
      folder: of the table.
      runtime: what times a model: `measure.Here`, `vela.Vela`.
      progress: told before each operation, and at the end.
      workers: on a cluster, one operation at a time on each of its machines.
      manifest: fields of the table's manifest that replace those found out here, e.g. `name`, `device`.

    Raises:
      ValueError: for an operation that cannot be timed, machines that are not alike, or a folder whose rows were
        measured otherwise.
    """
    folder, distinct = pathlib.Path(folder), tuple(dict.fromkeys(op.folded for op in ops))
    if not distinct:
        raise ValueError("measure_table: got no operations")
    before = table.load_table(folder) if (folder / table.MANIFEST).exists() else None
    bench = _Bench(runtime, workers)
    settings = _settings(bench, manifest)
    journal = _Journal(folder / ROWS_JOURNAL, settings, table.format_rows, table.parse_rows)
    if before is not None:
        journal.adopt(before.manifest, before.rows)
    call_ms = journal.call_ms(bench.call_ms)
    known = {row.op for row in journal.done}
    todo = [op for op in distinct if op not in known]
    for op, timing in bench.time(_time_operation, todo, [op.text for op in todo], len(distinct), progress):
        journal.append(Row(op, max(timing.ms - call_ms, 1e-6), timing.std_ms, timing.count))
    order = {op: index for index, op in enumerate(todo)}
    rows = sorted(journal.done, key=lambda row: order.get(row.op, -1))
    fields = _fields(bench, settings)
    if call_ms:
        fields["protocol"] += "; the time of a call subtracted"
    fields |= {"call_ms": call_ms, **manifest}
    saved = table.save_table(folder, rows, **fields)
    journal.remove()
    return saved


def measure_networks(
    specs: Sequence[ArchSpec],
    folder: str | os.PathLike[str],
    runtime: Runtime,
    *,
    progress: Progress | None = None,
    workers: parallel.Workers = parallel.ALONE,
    **manifest: object,
) -> Measurements:
    """Measure whole networks without holes, with random weights; `load_measurements` reads what it writes.

    As `measure_table`, but the time of a call stays part of each network's.

    Raises:
      ValueError: as `measure_table`, or for two networks of one name.
    """
    folder, names = pathlib.Path(folder), [spec.name for spec in specs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"measure_networks: got the networks {', '.join(names) or 'none'}; expected some, each once")
    bench = _Bench(runtime, workers)
    settings = _settings(bench, manifest)
    journal = _Journal(
        folder / NETWORKS_JOURNAL, settings, measurement.format_measurements, measurement.parse_measurements
    )
    if (folder / measurement.MANIFEST).exists():
        before = measurement.load_measurements(folder)
        journal.adopt(before.manifest, before.measurements)
    journal.call_ms(lambda: 0.0)
    known = {one.name: one.ops for one in journal.done}
    ops = {spec.name: tuple(op.folded for op in lower(spec)) for spec in specs}
    for name, found in known.items():
        if ops.get(name, found) != found:
            raise ValueError(f"{folder}: has times of another network called {name}; rename it, or use a new folder")
    todo = [spec for spec in specs if spec.name not in known]
    for spec, timing in bench.time(_time_network, todo, [spec.name for spec in todo], len(specs), progress):
        journal.append(Measurement(spec.name, ops[spec.name], timing.ms, timing.std_ms, timing.count))
    order = {spec.name: index for index, spec in enumerate(todo)}
    done = sorted(journal.done, key=lambda one: order.get(one.name, -1))
    fields = {**_fields(bench, settings), **manifest}
    saved = measurement.save_measurements(folder, done, **fields)
    journal.remove()
    return saved


class _Bench:
    """Where models are timed: here, one after the other, or on the machines of a cluster, one at a time on each."""

    def __init__(self, runtime: Runtime, workers: parallel.Workers):
        self._runtime, self._workers = runtime, workers
        self.settings, self.about = self._first(_facts)

    def call_ms(self) -> float:
        """Of one machine: they are alike."""
        return self._first(_call_ms)

    def time(
        self,
        function: Callable[[Runtime, K], Timing],
        todo: Sequence[K],
        texts: Sequence[str],
        total: int,
        progress: Progress | None,
    ) -> Iterator[tuple[K, Timing]]:
        """(item, time) as they are found, on a cluster in any order; `progress` hears the texts in theirs."""
        each = self._workers.each(functools.partial(_timed, self._runtime, function), todo, own_machine=True)
        for done, text in enumerate(texts, total - len(todo)):
            if progress:
                progress(done, total, text)
            item, settings, host, timing = next(each)
            for key, value in settings.items():
                if value != self.settings[key]:
                    raise ValueError(
                        f"{host}: its {key} is {value!r}, another machine's {self.settings[key]!r}; measure on "
                        "machines of one kind: start Ray there with a resource and ask for it by --worker-resource"
                    )
            yield item, timing
        if progress:
            progress(total, total, "done")

    def _first(self, function: Callable[[Runtime], R]) -> R:
        return next(self._workers.each(function, [self._runtime], own_machine=True))


def _facts(runtime: Runtime) -> tuple[dict[str, Any], dict[str, Any]]:
    return dict(runtime.settings), dict(runtime.about)


def _call_ms(runtime: Runtime) -> float:
    return runtime.call_ms()


def _timed(
    runtime: Runtime, function: Callable[[Runtime, K], Timing], item: K
) -> tuple[K, dict[str, Any], str, Timing]:
    """(item, settings of the runtime on this machine, its name, time)."""
    return item, dict(runtime.settings), socket.gethostname(), function(runtime, item)


def _time_operation(runtime: Runtime, op: OpCall) -> Timing:
    return _time(runtime, operation_tflite(op, runtime.dtype), op.text)


def _time_network(runtime: Runtime, spec: ArchSpec) -> Timing:
    return _time(runtime, spec_tflite(spec, runtime.dtype), spec.name)


class _Journal(Generic[T]):
    """What has been measured so far: a line of settings, then a CSV that grows by one record at a time.

    A process may die at any moment: a last line without an end does not count.
    """

    def __init__(
        self,
        path: pathlib.Path,
        settings: dict[str, Any],
        format_: Callable[[Sequence[T]], str],
        parse: Callable[[str, str], tuple[T, ...]],
    ):
        self._path, self._settings, self._format = path, settings, format_
        self.done: list[T] = []
        self._call_ms: float | None = None
        if path.exists():
            content = path.read_text(encoding="utf-8")
            first, *lines = content[: content.rfind("\n") + 1].splitlines(keepends=True) or [""]
            try:
                found = json.loads(first)
                self._call_ms = found.pop("call_ms")
            except (json.JSONDecodeError, KeyError, AttributeError):
                if lines:
                    raise ValueError(
                        f"{path}:1: is no journal of a measurement; remove it or use a new folder"
                    ) from None
                return  # it ended before anything was measured
            self._check(found)
            if len(lines) > 1:
                self.done = list(parse("".join(lines), f"{path} (below its first line)"))

    def adopt(self, manifest: table.Manifest, done: Sequence[T]) -> None:
        """Count what a finished table has as measured."""
        found = {key: getattr(manifest, key) for key in self._settings}
        self._check({**found, "protocol": manifest.protocol.partition(";")[0]})
        self.done = list(dict.fromkeys([*done, *self.done]))
        self._call_ms = manifest.call_ms

    def call_ms(self, find: Callable[[], float]) -> float:
        """The time of a call that all records leave out: that of the first session, else found now."""
        if self._call_ms is None:
            self._call_ms = find()
        self._rewrite()
        return self._call_ms

    def append(self, one: T) -> None:
        """Keep a record: it is on the disk when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._format([one]).partition("\n")[2])
            file.flush()
            os.fsync(file.fileno())
        self.done.append(one)

    def remove(self) -> None:
        """Forget the journal, when the table is written."""
        self._path.unlink()

    def _rewrite(self) -> None:
        head = json.dumps({**self._settings, "call_ms": self._call_ms})
        yaml_io.write_atomically(self._path, f"{head}\n{self._format(self.done)}")

    def _check(self, found: dict[str, Any]) -> None:
        for key, value in found.items():
            if self._settings.get(key) != value:
                raise ValueError(
                    f"{self._path.parent}: was measured with {key} {value!r}, not {self._settings.get(key)!r}; "
                    "use the same, or a new folder"
                )


def _time(runtime: Runtime, tflite: bytes, what: str) -> Timing:
    try:
        return runtime.time(tflite)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _settings(bench: _Bench, manifest: dict[str, object]) -> dict[str, Any]:
    """What must not change between the rows of one table."""
    settings = bench.settings
    return settings | {key: manifest[key] for key in settings if key in manifest}


def _fields(bench: _Bench, settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, **bench.about, "date": datetime.date.today().isoformat()}
