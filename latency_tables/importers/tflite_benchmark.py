"""Importer: operator profiles of TFLite's `benchmark_model --enable_op_profiling=true`."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from latency_tables.csv_files import integer, nonnegative, positive, read_text, real, unit_hint
from latency_tables.importers.base import NOT_STATED, Imported, folded, table_name
from latency_tables.importers.profile import DECOMPOSITION_NOTE, Node, join
from latency_tables.measurement import Measurement
from search_spaces import OpCall

_SECTION = "Operator-wise Profiling Info for Regular Benchmark Runs"
_TABLE = re.compile(r"=+ Run Order =+")
_LEFT, _RIGHT = ("node type",), ("%", "cdf%", "mem kb", "times called", "name")
# columns between those; old versions have [start]
_TIMES = (("first", "avg ms"), ("start", "first", "avg ms"))
_TOTAL = re.compile(
    r"Timings \(microseconds\): count=([0-9]+)(?:.* avg=(\S+) std=(\S+)| curr=([^\s(]+))"
)
_XNNPACK = re.compile(r".*\((?:NHWC|NC|ND), (\w+)")
_DTYPES = {"F32": "float32", "F16": "float16"} | dict.fromkeys(
    ("QC8", "QS8", "QU8", "S8", "U8"), "int8"
)

# Prefixes of Android's log: "05-30 13:04:39.021 25935 25935 I tflite  : ", "I/tflite  (25935): ".
_LOGCAT = re.compile(
    r"(?:(?:[0-9]{4}-)?[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3,6} +)?"
    r"(?:(?:[0-9]+ +)?[0-9]+ +[0-9]+ +[VDIWEF] +(?P<a>\S.*?) *|[VDIWEF]/(?P<b>.+?) *\( *[0-9]+\))"
    r": ?"
)


def read(path: str | os.PathLike[str], ops: Sequence[OpCall]) -> Imported:
    """Read the output of `benchmark_model`, printed or in its `--profiling_output_csv_file`.

    The table of the nodes in run order gives types and times without shapes. Shapes come from the
    operations of the network that ran, joined by kind and order (`profile.join`). The total of all
    nodes, if it is printed, becomes a measurement of the whole network.

    Args:
      path: Text or CSV file.
      ops: `lower(spec)` of the network that was profiled.

    Returns:
      Measurements of operations and of the whole network.

    Raises:
      ValueError: One line with file, line and cause.

    Source: the format is that of TensorFlow's stats_calculator.cc, with and without its column of
    start times.
    """
    lines = _printed(read_text(path).splitlines())
    nodes, end = _nodes(path, lines)
    totals = ((number, _TOTAL.search(lines[number])) for number in range(end, len(lines)))
    number, total = next(((number, match) for number, match in totals if match), (0, None))
    where = f"{path}:{number + 1}"
    count = integer(total[1], where, "count") if total else 1
    measurements, skipped = join(nodes, ops, count, str(path))
    if total:
        ms = positive(total[2] or total[4], where, "avg", "microseconds") * 1e-3
        std_ms = real(total[3] or "0") * 1e-3
        std_ms = std_ms if std_ms > 0 else 0.0
        whole = Measurement(pathlib.Path(path).stem, folded(ops), ms, std_ms, count)
        measurements = (*measurements, whole)
    fields = _fields(pathlib.Path(path), lines, nodes, count)
    return Imported(measurements, fields, DECOMPOSITION_NOTE, skipped)


def _printed(lines: list[str]) -> list[str]:
    """The lines of the tool, without what Android's log puts before and between them."""
    matches = [_LOGCAT.match(line) for line in lines]
    title = next((n for n, line in enumerate(lines) if _SECTION in line or _TABLE.search(line)), 0)
    first = matches[title] if matches else None
    if first is None:
        return lines
    tag = first["a"] or first["b"]
    return [
        line[match.end() :]
        for line, match in zip(lines, matches, strict=True)
        if match and (match["a"] or match["b"]) == tag
    ]


def _nodes(path: str | os.PathLike[str], lines: Sequence[str]) -> tuple[list[Node], int]:
    """Nodes of the table in run order, and the number of lines up to its end."""
    sections = [number for number, line in enumerate(lines) if _SECTION in line]
    start = sections[-1] if sections else 0
    first = next((n for n in range(start, len(lines)) if _TABLE.search(lines[n])), None)
    if first is None or first + 1 >= len(lines):
        raise ValueError(
            f"{path}: has no table of nodes in run order; "
            "run benchmark_model with --enable_op_profiling=true"
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
    return list(nodes.values()), end


def _line_pattern(header: str, where: str) -> tuple[re.Pattern[str], int]:
    """Pattern of a line of the table with this header, and the group of the mean time."""
    is_csv = "[" not in header
    names = header.split(",") if is_csv else re.findall(r"\[([^\]]*)\]", header)
    columns = [name.strip().replace("_", " ").lower() for name in names]
    expected = [[*_LEFT, *times, *_RIGHT] for times in _TIMES]
    if columns not in expected:
        raise ValueError(
            f"{where}: got columns {', '.join(columns)}; "
            f"expected {', '.join(expected[0])}{unit_hint(columns, expected[0])}"
        )
    separator, number = r"\s*,\s*" if is_csv else r"\s+", r"([-+.0-9a-z]+)"
    times = [number] * (len(columns) - len(_LEFT) - len(_RIGHT))
    parts = ["(.+?)", *times, f"{number}%", f"{number}%", number, "([0-9]+)", "(.*)"]
    return re.compile(r"\s*" + separator.join(parts)), columns.index("avg ms") + 1


def _node(line: str, pattern: tuple[re.Pattern[str], int], where: str) -> Node:
    match = pattern[0].fullmatch(line)
    if match is None:
        raise ValueError(f"{where}: got {line.strip()[:80]!r}, expected a node with its times")
    ms = nonnegative(match[pattern[1]], where, "avg ms")
    runs, name = match.groups()[-2:]
    return Node(name.strip(), match[1], ms, where, int(runs))


def _fields(
    path: pathlib.Path, lines: Sequence[str], nodes: Sequence[Node], count: int
) -> dict[str, Any]:
    """Fields of a manifest that the output states."""
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
    matches = (re.search(r"threads[^:\[]*: \[([1-9][0-9]*)\]", line) for line in lines)
    if threads := [match[1] for match in matches if match]:
        fields["threads"] = int(threads[0])
    dtypes = {_DTYPES.get(letters, "") for letters in inside}
    if len(dtypes) == 1 and "" not in dtypes:
        fields["dtype"] = dtypes.pop()
    return fields
