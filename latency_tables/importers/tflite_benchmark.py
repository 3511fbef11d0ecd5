"""Importer: operator profiles of TFLite's `benchmark_model --enable_op_profiling=true`, as printed or as CSV."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from latency_tables.importers.base import NOT_STATED, Imported, folded, integer, positive, read_text, real, table_name
from latency_tables.importers.profile import DECOMPOSED, Node, join
from latency_tables.measurement import Measurement
from search_spaces import OpCall

_SECTION = "Operator-wise Profiling Info for Regular Benchmark Runs"
_TABLE = re.compile(r"=+ Run Order =+")
_LEFT, _RIGHT = ("node type",), ("%", "cdf%", "mem kb", "times called", "name")
_TIMES = (("first", "avg ms"), ("start", "first", "avg ms"))  # columns between those; old versions have [start]
_TOTAL = re.compile(r"Timings \(microseconds\): count=([0-9]+)(?:.* avg=(\S+) std=(\S+)| curr=([^\s(]+))")
_XNNPACK = re.compile(r".*\((?:NHWC|NC|ND), (\w+)")
_DTYPES = {"F32": "float32", "F16": "float16"} | dict.fromkeys(("QC8", "QS8", "QU8", "S8", "U8"), "int8")


def read(path: str | os.PathLike[str], ops: Sequence[OpCall]) -> Imported:
    """Read what `benchmark_model` printed, or wrote to `--profiling_output_csv_file`.

    The table of the nodes in run order gives types and times without shapes; those come from the operations of the
    network that ran, joined by kind and order (`profile.join`). The total of all nodes, if it is printed, becomes a
    measurement of the whole network.

    Args:
      path: the text or the CSV file.
      ops: `lower(spec)` of the network that was profiled.

    Raises:
      ValueError: one line with file, line and cause.

    Source: the format is that of TensorFlow's stats_calculator.cc, with and without its column of start times.
    """
    lines = read_text(path).splitlines()
    sections = [n for n, line in enumerate(lines) if _SECTION in line]
    first = next((n for n in range(sections[-1] if sections else 0, len(lines)) if _TABLE.search(lines[n])), None)
    if first is None or first + 1 >= len(lines):
        raise ValueError(
            f"{path}: has no table of nodes in run order; run benchmark_model with --enable_op_profiling=true"
        )
    pattern = _line_pattern(lines[first + 1], f"{path}:{first + 2}")
    nodes: dict[str, Node] = {}
    end = first + 2
    while end < len(lines) and lines[end].strip():
        node = _node(lines[end], pattern, f"{path}:{end + 1}")
        if node.name in nodes:
            other = nodes[node.name].where.rsplit(":", 1)[1]
            raise ValueError(f"{node.where}: node {node.name} is already in line {other}")
        nodes[node.name] = node
        end += 1
    if not nodes:
        raise ValueError(f"{path}:{first + 2}: the table of nodes is empty")
    total = next(((n, found) for n in range(end, len(lines)) if (found := _TOTAL.search(lines[n]))), None)
    count = integer(total[1][1], f"{path}:{total[0] + 1}", "count") if total else 1
    measurements, skipped = join(list(nodes.values()), ops, count, str(path))
    if total:
        ms = positive(total[1][2] or total[1][4], f"{path}:{total[0] + 1}", "avg", "microseconds") * 1e-3
        std = real(total[1][3] or "0") * 1e-3
        whole = Measurement(pathlib.Path(path).stem, folded(ops), ms, std if std > 0 else 0.0, count)
        measurements = (*measurements, whole)
    fields = _fields(pathlib.Path(path), lines, list(nodes.values()), count)
    return Imported(measurements, fields, DECOMPOSED, skipped)


def _line_pattern(header: str, where: str) -> tuple[re.Pattern[str], int]:
    """How to read a line of the table with this header, and which group is the mean time."""
    is_csv = "[" not in header
    columns = [c.strip() for c in (header.split(",") if is_csv else re.findall(r"\[([^\]]*)\]", header))]
    columns = [c.replace("_", " ").lower() for c in columns]
    expected = [[*_LEFT, *times, *_RIGHT] for times in _TIMES]
    if columns not in expected:
        unit = next((c for c in columns if re.fullmatch(r"avg (us|ns|s)", c)), None)
        hint = f"; times must be in ms, got a column {unit!r}" if unit else ""
        raise ValueError(f"{where}: got columns {', '.join(columns)}; expected {', '.join(expected[0])}{hint}")
    separator, number = r"\s*,\s*" if is_csv else r"\s+", r"([-+.0-9a-z]+)"
    times = [number] * (len(columns) - len(_LEFT) - len(_RIGHT))
    parts = ["(.+?)", *times, f"{number}%", f"{number}%", number, "([0-9]+)", "(.*)"]
    return re.compile(r"\s*" + separator.join(parts)), columns.index("avg ms") + 1


def _node(line: str, pattern: tuple[re.Pattern[str], int], where: str) -> Node:
    match = pattern[0].fullmatch(line)
    if match is None:
        raise ValueError(f"{where}: got {line.strip()[:80]!r}, expected a node with its times")
    ms = real(match[pattern[1]])
    if not ms >= 0:
        raise ValueError(f"{where}: avg ms: got {match[pattern[1]]!r}, expected a number of milliseconds, 0 or more")
    runs, name = match.groups()[-2:]
    return Node(name.strip(), match[1], ms, where, int(runs))


def _fields(path: pathlib.Path, lines: Sequence[str], nodes: Sequence[Node], count: int) -> dict[str, Any]:
    """What the print-out says of how it was made."""
    inside = {match[1] for node in nodes if node.kinds and (match := _XNNPACK.match(node.type))}
    fields: dict[str, Any] = {
        "name": table_name("benchmark", path.stem),
        "device": NOT_STATED,
        "processor": NOT_STATED,
        "runtime": f"TensorFlow Lite, version {NOT_STATED}",
        "delegate": "XNNPACK" if inside else "none",
        "how": "measured",
        "protocol": f"benchmark_model with operator profiling, mean of {count} runs",
        "date": NOT_STATED,
        "source": f"benchmark_model, {path.name}",
        "licence": NOT_STATED,
    }
    threads = [m[1] for line in lines if (m := re.search(r"threads[^:\[]*: \[([1-9][0-9]*)\]", line))]
    if threads:
        fields["threads"] = int(threads[0])
    dtypes = {_DTYPES.get(letters, "") for letters in inside}
    if len(dtypes) == 1 and "" not in dtypes:
        fields["dtype"] = dtypes.pop()
    return fields
