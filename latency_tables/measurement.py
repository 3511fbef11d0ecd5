"""Measurement: the common form of everybody's latency data, whether of an operation, a block or a whole network."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from latency_tables.table import (
    COLUMNS,
    Manifest,
    Row,
    check_count,
    format_rows,
    parse_row,
    read_described,
    write_described,
)
from search_spaces import OpCall

MEASUREMENTS, MANIFEST = "measurements.csv", "measurements.yaml"
_OWN = ("name", "ms", "std_ms", "count")
_OPERATION = COLUMNS[: COLUMNS.index("ms")]
MEASUREMENT_COLUMNS = (*_OWN, *_OPERATION)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """How long some operations took together on a device.

    Attributes:
      name: of what was measured, as its source calls it.
      ops: the operations that ran, in order; one for an operation, more for a block or a network.
      ms: mean time of one run.
      std_ms: its standard deviation over runs, 0 where the source does not say.
      count: number of runs, 1 where the source does not say.
    """

    name: str
    ops: tuple[OpCall, ...]
    ms: float
    std_ms: float = 0.0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Measurements and where they come from; `manifest.rows` counts the operations of all of them."""

    manifest: Manifest
    measurements: tuple[Measurement, ...]

    @property
    def names(self) -> list[str]:
        """What was measured."""
        return [one.name for one in self.measurements]

    @property
    def ms(self) -> np.ndarray:
        """[measurements] float64."""
        return np.array([one.ms for one in self.measurements])


def single_rows(measurements: Iterable[Measurement]) -> tuple[Row, ...]:
    """The measurements of single operations as table rows; the same operation several times is pooled.

    mean = sum(n_i m_i) / sum(n_i);  std^2 = sum(n_i (s_i^2 + (m_i - mean)^2)) / sum(n_i)
    """
    found: dict[OpCall, list[Measurement]] = {}
    for one in measurements:
        if len(one.ops) == 1:
            found.setdefault(one.ops[0].folded, []).append(one)
    return tuple(_pooled(op, same) for op, same in found.items())


def save_measurements(
    folder: str | os.PathLike[str], measurements: Iterable[Measurement], **manifest: object
) -> Measurements:
    """Write measurements and manifest (`rows` and `sha256` are filled in) to a folder, beside a table or alone.

    The CSV has one line for each operation, with the columns of table rows; the first line of a measurement has its
    name and times, and those columns are empty in the other lines.

    Raises:
      ValueError: for a manifest field or a measurement that is wrong, or a name that is there twice.
    """
    folder = pathlib.Path(folder)
    text = format_measurements(measurements)
    checked = parse_measurements(text, str(folder / MEASUREMENTS))
    rows = sum(len(one.ops) for one in checked)
    described = write_described(folder / MEASUREMENTS, folder / MANIFEST, text, rows, **manifest)
    return Measurements(described, checked)


def load_measurements(folder: str | os.PathLike[str]) -> Measurements:
    """What `save_measurements` wrote.

    Raises:
      ValueError: one line with file, line and cause.
    """
    folder = pathlib.Path(folder)
    path = folder / MEASUREMENTS
    manifest, text = read_described(path, folder / MANIFEST)
    measurements = parse_measurements(text, str(path))
    check_count(sum(len(one.ops) for one in measurements), manifest, path, folder / MANIFEST)
    return Measurements(manifest, measurements)


def format_measurements(measurements: Iterable[Measurement]) -> str:
    """Measurements as CSV text with `MEASUREMENT_COLUMNS`; see `save_measurements`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(MEASUREMENT_COLUMNS)
    for one in measurements:
        own: tuple[object, ...] = (one.name, f"{one.ms:.6g}", f"{one.std_ms:.3g}", one.count)
        for row in csv.reader(format_rows(Row(op, 1.0) for op in one.ops).splitlines()[1:]):
            writer.writerow((*own, *row[: len(_OPERATION)]))
            own = ("",) * len(_OWN)
    return file.getvalue()


def parse_measurements(text: str, where: str) -> tuple[Measurement, ...]:
    """CSV text as measurements. Raises ValueError with `where`, the line and the cause."""
    reader = csv.DictReader(io.StringIO(text))
    header = tuple(reader.fieldnames or ())
    if header != MEASUREMENT_COLUMNS:
        raise ValueError(f"{where}:1: got columns {', '.join(header)}, expected {', '.join(MEASUREMENT_COLUMNS)}")
    seen: dict[str, int] = {}
    known: dict[tuple[str, ...], OpCall] = {}  # most operations are there many times; each is checked once
    found: list[tuple[str, Row, list[OpCall]]] = []
    for line, cells in enumerate(reader, start=2):
        if None in cells or None in cells.values():
            raise ValueError(f"{where}:{line}: expected {len(MEASUREMENT_COLUMNS)} values")
        own, operation = tuple(cells[c] for c in _OWN), tuple(cells[c] for c in _OPERATION)
        if any(own):
            name = cells["name"]
            if not name:
                raise ValueError(f"{where}:{line}: name: got '', expected what was measured, as there is a time")
            if name in seen:
                raise ValueError(f"{where}:{line}: name: {name!r} is already in line {seen[name]}; leave one out")
            seen[name] = line
            row = parse_row(cells, f"{where}:{line}")
            known.setdefault(operation, row.op)
            found.append((name, row, [row.op]))
            continue
        if not found:
            raise ValueError(f"{where}:{line}: name: got '', expected the name and times of the first measurement")
        if operation not in known:
            known[operation] = parse_row({**cells, "ms": "1", "std_ms": "0", "count": "1"}, f"{where}:{line}").op
        found[-1][2].append(known[operation])
    if not found:
        raise ValueError(f"{where}: has no measurements")
    return tuple(Measurement(name, tuple(ops), row.ms, row.std_ms, row.count) for name, row, ops in found)


def _pooled(op: OpCall, same: list[Measurement]) -> Row:
    count = sum(one.count for one in same)
    mean = sum(one.ms * one.count for one in same) / count
    variance = sum(one.count * (one.std_ms**2 + (one.ms - mean) ** 2) for one in same) / count
    return Row(op, mean, math.sqrt(variance), count)
