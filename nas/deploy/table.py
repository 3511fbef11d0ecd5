"""Tables that are measured here: one row after the other, each kept at once, so that nothing is measured twice."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from latency_tables import measurement, table
from latency_tables.measurement import Measurement, Measurements
from latency_tables.table import Row, Table
from nas.deploy.operation import operation_tflite, spec_tflite
from nas.deploy.runtime import Runtime, Timing
from search_spaces import ArchSpec, OpCall, lower, yaml_io

T = TypeVar("T", Row, Measurement)
Progress = Callable[[int, int, str], None]
"""Called with (how many are done, how many there are, what is measured next)."""

ROWS_JOURNAL, NETWORKS_JOURNAL = "rows.journal", "measurements.journal"


def measure_table(
    ops: Sequence[OpCall],
    folder: str | os.PathLike[str],
    runtime: Runtime,
    *,
    progress: Progress | None = None,
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
      manifest: fields of the table's manifest that replace those found out here, e.g. `name`, `device`.

    Raises:
      ValueError: for an operation that cannot be timed, or a folder whose rows were measured otherwise.
    """
    folder, distinct = pathlib.Path(folder), tuple(dict.fromkeys(op.folded for op in ops))
    if not distinct:
        raise ValueError("measure_table: got no operations")
    before = table.load_table(folder) if (folder / table.MANIFEST).exists() else None
    settings = _settings(runtime, manifest)
    journal = _Journal(folder / ROWS_JOURNAL, settings, table.format_rows, table.parse_rows)
    if before is not None:
        journal.adopt(before.manifest, before.rows)
    call_ms = journal.call_ms(runtime.call_ms)
    known = {row.op for row in journal.done}
    for index, op in enumerate(distinct):
        if progress:
            progress(index, len(distinct), op.text)
        if op not in known:
            timing = _time(runtime, operation_tflite(op, runtime.dtype), op.text)
            journal.append(Row(op, max(timing.ms - call_ms, 1e-6), timing.std_ms, timing.count))
    if progress:
        progress(len(distinct), len(distinct), "done")
    fields = _fields(runtime, settings)
    if call_ms:
        fields["protocol"] += "; the time of a call subtracted"
    fields |= {"call_ms": call_ms, **manifest}
    saved = table.save_table(folder, journal.done, **fields)
    journal.remove()
    return saved


def measure_networks(
    specs: Sequence[ArchSpec],
    folder: str | os.PathLike[str],
    runtime: Runtime,
    *,
    progress: Progress | None = None,
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
    settings = _settings(runtime, manifest)
    journal = _Journal(
        folder / NETWORKS_JOURNAL, settings, measurement.format_measurements, measurement.parse_measurements
    )
    if (folder / measurement.MANIFEST).exists():
        before = measurement.load_measurements(folder)
        journal.adopt(before.manifest, before.measurements)
    journal.call_ms(lambda: 0.0)
    known = {one.name: one.ops for one in journal.done}
    for index, spec in enumerate(specs):
        ops = tuple(op.folded for op in lower(spec))
        if progress:
            progress(index, len(specs), spec.name)
        if spec.name not in known:
            timing = _time(runtime, spec_tflite(spec, runtime.dtype), spec.name)
            journal.append(Measurement(spec.name, ops, timing.ms, timing.std_ms, timing.count))
        elif known[spec.name] != ops:
            raise ValueError(
                f"{folder}: has times of another network called {spec.name}; rename it, or use a new folder"
            )
    if progress:
        progress(len(specs), len(specs), "done")
    fields = {**_fields(runtime, settings), **manifest}
    saved = measurement.save_measurements(folder, journal.done, **fields)
    journal.remove()
    return saved


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


def _settings(runtime: Runtime, manifest: dict[str, object]) -> dict[str, Any]:
    """What must not change between the rows of one table."""
    settings = dict(runtime.settings)
    return settings | {key: manifest[key] for key in settings if key in manifest}


def _fields(runtime: Runtime, settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, **runtime.about, "date": datetime.date.today().isoformat()}
