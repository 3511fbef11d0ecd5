"""Models timed in turn on this machine, and their times in a table of whole networks."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import io
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from latency_tables import csv_files, measurement
from latency_tables.measurement import Measurement, Measurements
from latency_tables.table import Manifest
from nas.exporters import litert
from nas.host.progress import SILENT, Progress
from nas.measurement import local
from nas.measurement.journal import Journal
from nas.measurement.local import LocalRuntime
from nas.measurement.model_files import Model
from nas.measurement.runtime import Timing
from search_spaces import OpCall, lower

JOURNAL = "models.journal"
"""File of measured rounds while a measurement is unfinished."""
_COLUMNS = ("sha256", "ms", "std_ms", "count")


@dataclasses.dataclass(frozen=True)
class Round:
    """One repeat of the protocol for one model.

    Attributes:
      sha256: Hash of the model.
      timing: Mean and standard deviation of its runs, and their number.
    """

    sha256: str
    timing: Timing


def time_in_turn(
    models: Sequence[Model],
    runtime: LocalRuntime,
    folder: pathlib.Path | None = None,
    progress: Progress = SILENT,
) -> tuple[list[tuple[Timing, ...]], float]:
    """Time models in rounds, each of them once a round, so that all see the same machine.

    A run before each repeat, which does not count, brings the model back into the caches.

    Args:
      models: The models.
      runtime: Protocol, threads and core; its `dtype` makes no difference.
      folder: Gets a journal, from which the same call resumes, until `finish`; None: none.
      progress: Receives an update before each repeat, and at the end.

    Returns:
      The repeats of each model, of which `local.summary` makes one latency; and the share of the
      time during which the thread ran, which is below 1 on a busy machine.

    Raises:
      ValueError: A model fails, or the journal has other settings.
    """
    journal = _journal(folder, runtime) if folder else None
    done: dict[str, list[Timing]] = {model.sha256: [] for model in models}
    for one in journal.records if journal else ():
        done.setdefault(one.sha256, []).append(one.timing)
    repeats = runtime.protocol.repeats
    total = sum(min(len(done[model.sha256]), repeats) for model in models)
    wall = ran = 1e-9
    with local.pinned(runtime.threads, runtime.core):
        interpreters: dict[str, Any] = {}
        for number in range(repeats):
            for model in models:
                if len(done[model.sha256]) > number:
                    continue
                progress.update(total, model.label)
                with _named(model.label):
                    if model.sha256 not in interpreters:
                        interpreters[model.sha256] = _ready(model, runtime)
                    interpreters[model.sha256].invoke()
                    begun = time.perf_counter(), time.thread_time()
                    timing = local.repeat(interpreters[model.sha256], runtime.protocol)
                    wall += time.perf_counter() - begun[0]
                    ran += time.thread_time() - begun[1]
                done[model.sha256].append(timing)
                if journal:
                    journal.append(Round(model.sha256, timing))
                total += 1
    progress.update(len(models) * repeats, "done")
    return [tuple(done[model.sha256][:repeats]) for model in models], ran / wall


def finish(folder: pathlib.Path) -> None:
    """Delete the journal of a measurement, and the folder if nothing else is in it.

    Args:
      folder: Folder of the journal.
    """
    (folder / JOURNAL).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def check_table(folder: pathlib.Path, joining: Sequence[Model], runtime: LocalRuntime) -> None:
    """Refuse models that cannot be rows of one table, or not of the one in a folder.

    Args:
      folder: Folder of the table, which need not exist.
      joining: The models.
      runtime: Protocol, threads and core.

    Raises:
      ValueError: Two models of one network or of several types, or a table of other settings or of
        another network of that name.
    """
    names: dict[str, Model] = {}
    for model in joining:
        first = joining[0]
        if model.contents.dtype != first.contents.dtype:
            raise ValueError(
                f"`out`: {first.label} is {first.contents.dtype}, {model.label} "
                f"{model.contents.dtype}; a table has one type, so give each its folder"
            )
        name = _name(model)
        if name in names:
            raise ValueError(
                f"`out`: {names[name].label} and {model.label} are both {name}; a table has one "
                "row for each network, so leave one out"
            )
        names[name] = model
    if not joining or not (folder / measurement.MANIFEST).exists():
        return
    table = measurement.load_measurements(folder)
    for key, value in _of_dtype(joining, runtime).settings.items():
        old = getattr(table.manifest, key)
        old = old.partition(";")[0] if key == "protocol" else old
        if old != value:
            raise ValueError(
                f"{folder}: was measured with {key} {old!r}, not {value!r}; use the same, or a new "
                "folder"
            )
    for row in table.measurements:
        if row.name in names and row.ops != _ops(names[row.name]):
            raise ValueError(
                f"{folder}: has times of another network called {row.name}; rename it, or use a "
                "new folder"
            )


def join_table(
    folder: pathlib.Path, rows: Sequence[tuple[Model, Timing]], runtime: LocalRuntime
) -> Measurements:
    """Write times of whole networks, for `nas-latency fit`; a row of the same network is replaced.

    Args:
      folder: Folder of the table; see `check_table`.
      rows: At least one model, and its latency.
      runtime: Protocol, threads and core.

    Returns:
      The table.
    """
    new = {
        _name(model): Measurement(_name(model), _ops(model), t.ms, t.std_ms, t.count)
        for model, t in rows
    }
    old: tuple[Measurement, ...] = ()
    if (folder / measurement.MANIFEST).exists():
        table = measurement.load_measurements(folder)
        old, fields = table.measurements, _fields(table.manifest)
    else:
        here = _of_dtype([model for model, _ in rows], runtime)
        fields = {**here.settings, **here.manifest_fields}
        fields["protocol"] = fields["protocol"].replace("random weights and", "in turn, random")
    fields["date"] = datetime.date.today().isoformat()
    merged = {**{row.name: row for row in old}, **new}
    return measurement.save_measurements(folder, merged.values(), **fields)


def _fields(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(by_alias=True, exclude={"rows", "sha256"})


def _of_dtype(models: Sequence[Model], runtime: LocalRuntime) -> LocalRuntime:
    return dataclasses.replace(runtime, dtype=models[0].contents.dtype)


def _name(model: Model) -> str:
    assert model.spec is not None
    return model.spec.name


def _ops(model: Model) -> tuple[OpCall, ...]:
    assert model.spec is not None
    return tuple(op.folded for op in lower(model.spec))


def _journal(folder: pathlib.Path, runtime: LocalRuntime) -> Journal[Round]:
    settings = {key: value for key, value in runtime.settings.items() if key != "dtype"}
    journal = Journal(folder / JOURNAL, settings, _format, _parse)
    journal.call_ms(lambda: 0.0)
    return journal


def _ready(model: Model, runtime: LocalRuntime) -> Any:
    interpreter = litert.interpreter(model.tflite, runtime.threads)
    local.fill(interpreter)
    local.warm_up(interpreter, runtime.protocol)
    return interpreter


@contextlib.contextmanager
def _named(label: str) -> Iterator[None]:
    """Context in which errors of a model become one line with its name."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{label}: cannot be run: {' '.join(str(error).split())}") from None


def _format(rounds: Iterable[Round]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in rounds:
        t = one.timing
        writer.writerow((one.sha256, f"{t.ms:.6g}", f"{t.std_ms:.3g}", t.count))
    return file.getvalue()


def _parse(text: str, where: str) -> tuple[Round, ...]:
    return tuple(
        Round(
            row["sha256"],
            Timing(row.positive("ms"), row.nonnegative("std_ms"), row.integer("count")),
        )
        for row in csv_files.parse(text, where, _COLUMNS)
    )
