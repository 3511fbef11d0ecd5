"""Measurements: the common form of latency data of operations, blocks and whole networks."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from latency_tables import csv_files
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
_TIMING = ("name", "ms", "std_ms", "count")
_OPERATION = COLUMNS[: COLUMNS.index("ms")]
MEASUREMENT_COLUMNS = (*_TIMING, *_OPERATION)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Time of some operations together on a device.

    Attributes:
      name: Name that the source gives to the operation, block or network.
      ops: Operations in the order in which they ran: one for an operation, more for a block or a
        network.
      ms: Mean time of one run.
      std_ms: Standard deviation over runs, 0 where the source does not state it.
      count: Number of runs, 1 where the source does not state it.
    """

    name: str
    ops: tuple[OpCall, ...]
    ms: float
    std_ms: float = 0.0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Measurements, and where they come from.

    Attributes:
      manifest: Origin of the measurements; its `rows` counts the operations of all of them.
      measurements: The measurements.
    """

    manifest: Manifest
    measurements: tuple[Measurement, ...]

    @property
    def names(self) -> list[str]:
        """Names of the measurements."""
        return [measurement.name for measurement in self.measurements]

    @property
    def ms(self) -> np.ndarray:
        """Mean times, [measurements] float64."""
        return np.array([measurement.ms for measurement in self.measurements])


def single_rows(measurements: Iterable[Measurement]) -> tuple[Row, ...]:
    """Make table rows of the measurements of single operations.

    Several measurements of one operation are pooled:

    mean = sum(n_i m_i) / sum(n_i);  std^2 = sum(n_i (s_i^2 + (m_i - mean)^2)) / sum(n_i)

    Args:
      measurements: Any measurements; those of more than one operation are left out.

    Returns:
      One row for each operation, in the order of their first measurements.
    """
    by_op: dict[OpCall, list[Measurement]] = {}
    for measurement in measurements:
        if len(measurement.ops) == 1:
            by_op.setdefault(measurement.ops[0].folded, []).append(measurement)
    return tuple(_pooled(op, same) for op, same in by_op.items())


def save_measurements(
    folder: str | os.PathLike[str], measurements: Iterable[Measurement], **manifest: object
) -> Measurements:
    """Write measurements to a folder, beside a table or alone.

    The CSV file has one line for each operation, with the columns of table rows. The first line of
    a measurement has its name and times; those columns are empty in its other lines.

    Args:
      folder: Folder of the files, made if it does not exist.
      measurements: The measurements.
      **manifest: Fields of the manifest, without `rows` and `sha256`.

    Returns:
      The measurements as `load_measurements` reads them.

    Raises:
      ValueError: A manifest field or a measurement that is wrong, or a name that is there twice.
    """
    folder = pathlib.Path(folder)
    text = format_measurements(measurements)
    checked = parse_measurements(text, str(folder / MEASUREMENTS))
    rows = sum(len(measurement.ops) for measurement in checked)
    described = write_described(folder / MEASUREMENTS, folder / MANIFEST, text, rows, **manifest)
    return Measurements(described, checked)


def load_measurements(folder: str | os.PathLike[str]) -> Measurements:
    """Load the measurements that `save_measurements` wrote.

    Args:
      folder: Folder of the files.

    Returns:
      The measurements.

    Raises:
      ValueError: One line with file, line and cause.
    """
    folder = pathlib.Path(folder)
    path = folder / MEASUREMENTS
    manifest, text = read_described(path, folder / MANIFEST)
    measurements = parse_measurements(text, str(path))
    rows = sum(len(measurement.ops) for measurement in measurements)
    check_count(rows, manifest, path, folder / MANIFEST)
    return Measurements(manifest, measurements)


def format_measurements(measurements: Iterable[Measurement]) -> str:
    """Write measurements as CSV text with `MEASUREMENT_COLUMNS`; see `save_measurements`.

    Args:
      measurements: The measurements.

    Returns:
      Text that `parse_measurements` reads.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(MEASUREMENT_COLUMNS)
    for each in measurements:
        timing: tuple[object, ...] = (
            csv_files.quoted(each.name),
            f"{each.ms:.6g}",
            f"{each.std_ms:.3g}",
            each.count,
        )
        for row in csv.reader(format_rows(Row(op, 1.0) for op in each.ops).splitlines()[1:]):
            writer.writerow((*timing, *row[: len(_OPERATION)]))
            timing = ("",) * len(_TIMING)
    return file.getvalue()


def parse_measurements(text: str, where: str) -> tuple[Measurement, ...]:
    """Read measurements from CSV text.

    Args:
      text: Text with `MEASUREMENT_COLUMNS`.
      where: Name of the file, for errors.

    Returns:
      The measurements.

    Raises:
      ValueError: One line with `where`, the line and the cause.
    """
    lines: dict[str, int] = {}
    # most operations are there many times; each is checked once
    known: dict[tuple[str, ...], OpCall] = {}
    groups: list[tuple[str, Row, list[OpCall]]] = []
    for cells in csv_files.parse(text, where, MEASUREMENT_COLUMNS):
        operation = tuple(cells[column] for column in _OPERATION)
        if any(cells[column] for column in _TIMING):
            name = cells["name"]
            if not name:
                raise ValueError(
                    f"{cells.where}: name: got '', expected a name, as the line has a time"
                )
            if name in lines:
                raise ValueError(
                    f"{cells.where}: name: {name!r} is already in line {lines[name]}; leave one out"
                )
            lines[name] = cells.line
            row = parse_row(cells)
            known.setdefault(operation, row.op)
            groups.append((name, row, [row.op]))
            continue
        if not groups:
            raise ValueError(
                f"{cells.where}: name: got '', expected the name and times of the first measurement"
            )
        if operation not in known:
            timed = {**cells.cells, "ms": "1", "std_ms": "0", "count": "1"}
            known[operation] = parse_row(dataclasses.replace(cells, cells=timed)).op
        groups[-1][2].append(known[operation])
    return tuple(
        Measurement(name, tuple(ops), row.ms, row.std_ms, row.count) for name, row, ops in groups
    )


def _pooled(op: OpCall, same: list[Measurement]) -> Row:
    count = sum(each.count for each in same)
    mean = sum(each.ms * each.count for each in same) / count
    variance = sum(each.count * (each.std_ms**2 + (each.ms - mean) ** 2) for each in same) / count
    return Row(op, mean, math.sqrt(variance), count)
