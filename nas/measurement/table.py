"""Latency tables measured here or on a cluster.

Each row is written at once, so that nothing is measured twice after an interruption.
"""

from __future__ import annotations

import datetime
import functools
import os
import pathlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from latency_tables import measurement, table
from latency_tables.measurement import Measurement, Measurements
from latency_tables.table import Row, Table
from nas.host import parallel
from nas.host.progress import SILENT, Progress
from nas.measurement.journal import Journal
from nas.measurement.models import network_model, operation_model
from nas.measurement.runtime import Runtime, Timing
from search_spaces import ArchSpec, OpCall, lower

K = TypeVar("K")
R = TypeVar("R")

ROWS_JOURNAL = "rows.journal"
"""File of measured rows while a table is unfinished."""
NETWORKS_JOURNAL = "measurements.journal"
"""File of measured networks while their measurement is unfinished."""


def measure_table(
    ops: Sequence[OpCall],
    folder: str | os.PathLike[str],
    runtime: Runtime,
    *,
    progress: Progress = SILENT,
    workers: parallel.WorkerPool = parallel.ALONE,
    **manifest: object,
) -> Table:
    """Measure every distinct operation and write a table, for `latency_tables.table.load_table`.

    ms = latency of a model of the operation - time of a call (`Runtime.call_ms`), at least 1 ns

    Each row goes to a journal in the folder as soon as it is measured. Rows of an existing journal
    or table are not measured again.

    Args:
      ops: Operations; norms and biases are folded, duplicates are measured once.
      folder: Folder of the table.
      runtime: Runtime that measures or predicts latencies, e.g. `local.LocalRuntime` or
        `vela.Vela`.
      progress: Receives an update before each operation, and at the end.
      workers: On a cluster, each of its machines measures one operation at a time.
      **manifest: Fields of the table's manifest that replace those of the runtime, e.g. `name` or
        `device`.

    Returns:
      The table.

    Raises:
      ValueError: An operation cannot be measured, machines differ, or the rows in the folder have
        other settings.
    """
    folder = pathlib.Path(folder)
    distinct = tuple(dict.fromkeys(op.folded for op in ops))
    if not distinct:
        raise ValueError("measure_table: got no operations; expected at least one")
    finished = table.load_table(folder) if (folder / table.MANIFEST).exists() else None
    bench = _Bench(runtime, workers)
    settings = _settings(bench, manifest)
    journal = Journal(folder / ROWS_JOURNAL, settings, table.format_rows, table.parse_rows)
    if finished is not None:
        journal.adopt(finished.manifest, finished.rows)
    call_ms = journal.call_ms(bench.call_ms)
    measured = {row.op for row in journal.records}
    todo = [op for op in distinct if op not in measured]
    names = [str(op) for op in todo]
    for op, timing in bench.time(_time_operation, todo, names, len(distinct), progress):
        journal.append(Row(op, max(timing.ms - call_ms, 1e-6), timing.std_ms, timing.count))
    order = {op: index for index, op in enumerate(todo)}
    rows = sorted(journal.records, key=lambda row: order.get(row.op, -1))
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
    progress: Progress = SILENT,
    workers: parallel.WorkerPool = parallel.ALONE,
    **manifest: object,
) -> Measurements:
    """Measure whole networks with random weights and write their latencies.

    `latency_tables.measurement.load_measurements` reads them. The time of a call stays part of each
    latency; otherwise this works as `measure_table`.

    Args:
      specs: Networks without holes, of different names.
      folder: Folder of the measurements.
      runtime: See `measure_table`.
      progress: Receives an update before each network, and at the end.
      workers: See `measure_table`.
      **manifest: See `measure_table`.

    Returns:
      The measurements.

    Raises:
      ValueError: As `measure_table`; also if two networks have the same name.
    """
    folder = pathlib.Path(folder)
    names = [spec.name for spec in specs]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"measure_networks: got the networks {', '.join(names) or 'none'}; "
            "expected at least one, each once"
        )
    bench = _Bench(runtime, workers)
    settings = _settings(bench, manifest)
    journal = Journal(
        folder / NETWORKS_JOURNAL,
        settings,
        measurement.format_measurements,
        measurement.parse_measurements,
    )
    if (folder / measurement.MANIFEST).exists():
        finished = measurement.load_measurements(folder)
        journal.adopt(finished.manifest, finished.measurements)
    journal.call_ms(lambda: 0.0)
    measured = {record.name: record.ops for record in journal.records}
    ops = {spec.name: tuple(op.folded for op in lower(spec)) for spec in specs}
    for name, measured_ops in measured.items():
        if ops.get(name, measured_ops) != measured_ops:
            raise ValueError(
                f"{folder}: has times of another network called {name}; "
                "rename it, or use a new folder"
            )
    todo = [spec for spec in specs if spec.name not in measured]
    todo_names = [spec.name for spec in todo]
    for spec, timing in bench.time(_time_network, todo, todo_names, len(specs), progress):
        journal.append(
            Measurement(spec.name, ops[spec.name], timing.ms, timing.std_ms, timing.count)
        )
    order = {name: index for index, name in enumerate(todo_names)}
    records = sorted(journal.records, key=lambda record: order.get(record.name, -1))
    fields = {**_fields(bench, settings), **manifest}
    saved = measurement.save_measurements(folder, records, **fields)
    journal.remove()
    return saved


class _Bench:
    """Machines that measure: this one, or those of a cluster, one model at a time on each."""

    def __init__(self, runtime: Runtime, workers: parallel.WorkerPool):
        self._runtime = runtime
        self._workers = workers
        self.settings, self.manifest_fields = self._on_one_machine(_descriptions)

    def call_ms(self) -> float:
        """Time of a call in milliseconds, measured on one machine."""
        return self._on_one_machine(_call_ms)

    def time(
        self,
        function: Callable[[Runtime, K], Timing],
        items: Sequence[K],
        names: Sequence[str],
        total: int,
        progress: Progress,
    ) -> Iterator[tuple[K, Timing]]:
        """Latencies as soon as they are measured, on a cluster in any order.

        Args:
          function: Function that measures one item with a runtime.
          items: Operations or networks that are left to measure.
          names: Their names; `progress` receives them in this order.
          total: Number of all items, including those that were measured before.
          progress: Receives an update before each item, and at the end.

        Yields:
          An item and its latency.

        Raises:
          ValueError: An item cannot be measured, or machines differ.
        """
        results = self._workers.map_unordered(
            functools.partial(_timed, self._runtime, function), items, exclusive_machine=True
        )
        for step, name in enumerate(names, total - len(items)):
            progress.update(step, name)
            item, settings, host, timing = next(results)
            for key, value in settings.items():
                if value != self.settings[key]:
                    raise ValueError(
                        f"{host}: its {key} is {value!r}, another machine's "
                        f"{self.settings[key]!r}; measure on machines of one kind: start Ray there "
                        "with a resource, and require it with `worker_resource`"
                    )
            yield item, timing
        progress.update(total, "done")

    def _on_one_machine(self, function: Callable[[Runtime], R]) -> R:
        results = self._workers.map_unordered(function, [self._runtime], exclusive_machine=True)
        return next(results)


def _descriptions(runtime: Runtime) -> tuple[dict[str, Any], dict[str, Any]]:
    return dict(runtime.settings), dict(runtime.manifest_fields)


def _call_ms(runtime: Runtime) -> float:
    return runtime.call_ms()


def _timed(
    runtime: Runtime, function: Callable[[Runtime, K], Timing], item: K
) -> tuple[K, dict[str, Any], str, Timing]:
    """(item, settings of the runtime on this machine, name of the machine, latency)."""
    return item, dict(runtime.settings), socket.gethostname(), function(runtime, item)


def _time_operation(runtime: Runtime, op: OpCall) -> Timing:
    return _time(runtime, operation_model(op, runtime.dtype), str(op))


def _time_network(runtime: Runtime, spec: ArchSpec) -> Timing:
    return _time(runtime, network_model(spec, runtime.dtype), spec.name)


def _time(runtime: Runtime, tflite: bytes, name: str) -> Timing:
    try:
        return runtime.time(tflite)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _settings(bench: _Bench, manifest: dict[str, object]) -> dict[str, Any]:
    """Fields of the manifest that must be the same for all rows of a table."""
    settings = bench.settings
    return settings | {key: manifest[key] for key in settings if key in manifest}


def _fields(bench: _Bench, settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, **bench.manifest_fields, "date": datetime.date.today().isoformat()}
