"""Importer: measured convolutions, one in each line, as collected from nn-Meter."""

from __future__ import annotations

import os
import pathlib

from latency_tables import csv_files
from latency_tables.importers import published
from latency_tables.importers.base import NOT_STATED, Imported, folded, origin, table_name
from latency_tables.measurement import Measurement
from search_spaces import OpCall, Shape
from search_spaces.ops import OpKind

COLUMNS = ("op", "hw", "cin", "cout", "k", "s", "mflops", "mparams", "ms")
_KINDS: dict[str, OpKind] = {"conv": "conv2d", "dwconv": "depthwise_conv2d"}


def read(path: str | os.PathLike[str]) -> Imported:
    """Read a CSV file of convolutions and depthwise convolutions.

    The same operation may be there many times. `hw` is the side of the input in pixels. The source
    counts one operation a multiply-accumulate and one for adding the bias; `mflops` and `mparams`
    of every line must be those of the operation that the line describes.

    Args:
      path: CSV file with `COLUMNS`.

    Returns:
      A measurement for each line.

    Raises:
      ValueError: One line with file, line and cause.

    Source: microsoft/nn-Meter (MIT).
    """
    measurements = []
    for row in csv_files.read(path, COLUMNS):
        kind = _KINDS[row.choice("op", tuple(_KINDS))]
        size, channels, out, kernel, stride = (
            row.integer(column) for column in ("hw", "cin", "cout", "k", "s")
        )
        op = OpCall(kind, Shape(size, size, channels), out, kernel, stride)
        if op.kind == "depthwise_conv2d" and out != channels:
            raise ValueError(
                f"{row.where}: cout: got {out}, "
                f"expected the {channels} channels of the input of a dwconv"
            )
        _check(row, "mflops", op.macs + op.output.elements)
        _check(row, "mparams", op.weights + out)
        measurements.append(Measurement(f"line {row.line}", folded([op]), row.positive("ms")))
    fields = {
        "name": table_name("nn-meter", pathlib.Path(path).stem),
        **origin(
            [path],
            published.NN_METER_OPERATORS,
            device=f"{NOT_STATED} (a neighbouring script of the source names Pixel 4)",
            processor="CPU",
            runtime=f"TensorFlow Lite, version {NOT_STATED}",
            dtype="int8",
            how="measured",
            protocol=NOT_STATED,
            date=NOT_STATED,
            source="github.com/microsoft/nn-Meter",
            licence="MIT",
        ),
    }
    decomposition_note = (
        "nothing to decompose: each line is one operation; its activation is not stated and taken "
        "as none"
    )
    return Imported(tuple(measurements), fields, decomposition_note, {})


def _check(row: csv_files.CsvRow, column: str, count: int) -> None:
    """Compare the source's own count, in millions and rounded to one operation, with ours."""
    if not abs(csv_files.real(row[column]) * 1e6 - count) <= 1:
        raise ValueError(
            f"{row.where}: {column}: got {row[column]!r}, "
            f"but this operation has {count / 1e6:.6f} with its bias; is hw the side of the input?"
        )
