"""Importer: one measured convolution a line, as collected from nn-Meter."""

from __future__ import annotations

import os
import pathlib

from latency_tables.importers.base import NOT_STATED, Imported, csv_lines, folded, integer, positive, real, table_name
from latency_tables.measurement import Measurement
from search_spaces import OpCall, Shape
from search_spaces.ops import OpKind

COLUMNS = ("op", "hw", "cin", "cout", "k", "s", "mflops", "mparams", "ms")
_KINDS: dict[str, OpKind] = {"conv": "conv2d", "dwconv": "depthwise_conv2d"}


def read(path: str | os.PathLike[str]) -> Imported:
    """Read a CSV of convolutions and depthwise convolutions; the same one may be there many times.

    `hw` is the side of the input in pixels. The source counts one operation a multiply-accumulate and one for adding
    the bias; every line's `mflops` and `mparams` must be those of the operation that the line describes.

    Raises:
      ValueError: one line with file, line and cause.

    Source: microsoft/nn-Meter (MIT).
    """
    measurements = []
    for where, cells in csv_lines(path, COLUMNS):
        if cells["op"] not in _KINDS:
            raise ValueError(f"{where}: op: got {cells['op']!r}, expected one of {', '.join(_KINDS)}")
        size, channels, out, kernel, stride = (integer(cells[c], where, c) for c in ("hw", "cin", "cout", "k", "s"))
        op = OpCall(_KINDS[cells["op"]], Shape(size, size, channels), out, kernel, stride)
        if op.kind == "depthwise_conv2d" and out != channels:
            raise ValueError(f"{where}: cout: got {out}, expected the {channels} channels of the input of a dwconv")
        _check(cells, "mflops", op.macs + op.output.elements, where)
        _check(cells, "mparams", op.weights + out, where)
        ms = positive(cells["ms"], where, "ms")
        measurements.append(Measurement(f"line {where.rsplit(':', 1)[1]}", folded([op]), ms))
    fields = {
        "name": table_name("nn-meter", pathlib.Path(path).stem),
        "device": f"{NOT_STATED} (a neighbouring script of the source names Pixel 4)",
        "processor": "CPU",
        "runtime": f"TensorFlow Lite, version {NOT_STATED}",
        "dtype": "int8",
        "how": "measured",
        "protocol": NOT_STATED,
        "date": NOT_STATED,
        "source": "github.com/microsoft/nn-Meter",
        "licence": "MIT",
    }
    decomposed = "nothing to decompose: each line is one operation; its activation is not stated and taken as none"
    return Imported(tuple(measurements), fields, decomposed, {})


def _check(cells: dict[str, str], column: str, count: int, where: str) -> None:
    """The source's own count, in millions, must be ours; it is rounded to single operations."""
    if not abs(real(cells[column]) * 1e6 - count) <= 1:
        raise ValueError(
            f"{where}: {column}: got {cells[column]!r}, but this operation has {count / 1e6:.6f} with its bias; "
            "is hw the side of the input?"
        )
