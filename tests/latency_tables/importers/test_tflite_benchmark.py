"""Operator profiles of TFLite's benchmark_model."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence

import pytest

import search_spaces
from latency_tables.importers import read
from search_spaces import ArchSpec, OpCall, Shape

Refused = Callable[[Callable[[], object], str], None]
NodesOf = Callable[[Sequence[OpCall], Mapping[str, str]], list[tuple[str, float]]]
ExpectedMs = Callable[[Sequence[OpCall]], list[float]]
NodeTypes = Mapping[str, Mapping[str, str]]


def printed(nodes: Sequence[tuple[str, float]], form: str) -> str:
    """As benchmark_model prints it: "text" (with start times: "old text") or "csv" ("tight "
    "csv")."""
    old = form == "old text"
    header = [
        "node type",
        *(["start"] if old else []),
        "first",
        "avg_ms",
        "%",
        "cdf%",
        "mem KB",
        "times called",
        "name",
    ]
    rows = []
    for i, (kind, ms) in enumerate(nodes):
        name = f"Delegate/{kind}:{i}" if "(" in kind else f"[layer_{i}, other]:{i}"
        times = [*(["0.5"] if old else []), "0.9", f"{ms:.6g}"]
        rows.append([kind, *times, "1.5%", f"{i:.3f}%", "0.0", "1", name])
    if form.endswith("csv"):
        comma = "," if form == "tight csv" else ", "
        table = [
            comma.join(header),
            *(comma.join([*row[:-1], row[-1].replace(",", "\t")]) for row in rows),
        ]
    else:
        table = ["".join(f"\t{f'[{column}]'.replace('_', ' '):>12}" for column in header)]
        table += ["".join(f"\t{cell:>30}" for cell in row[:-1]) + f"\t{row[-1]}" for row in rows]
    other = [
        "Number of nodes executed: 3",
        "=== Summary by node type ===",
        f"node type, count{',' * 5}",
    ]
    init = ["=== Run Order ===", table[0], table[1].replace(rows[0][0], "AllocateTensors"), ""]
    return "\n".join(
        [
            "INFO: Num threads: [2]",
            *(["Profiling Info for Benchmark Initialization:", *init] if not old else []),
            "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:",
            "============================== Run Order ==============================",
            *table,
            "",
            "============================== Top by Computation Time ==============================",
            *table[:2],
            "",
            *other,
            "",
            "Timings (microseconds): count=50 first=900 curr=850 min=800 max=990 avg=845.5 std=12",
            "Memory (bytes): count=0",
        ]
    )


@pytest.mark.parametrize("runtime", ["TFLite", "XNNPACK"])
@pytest.mark.parametrize("form", ["text", "old text", "csv", "tight csv"])
def test_a_printed_profile(
    form: str,
    runtime: str,
    small_32: ArchSpec,
    tmp_path: pathlib.Path,
    node_types: NodeTypes,
    nodes_of: NodesOf,
    expected_ms: ExpectedMs,
) -> None:
    ops = search_spaces.lower(small_32)
    path = tmp_path / "profile.txt"
    path.write_text(printed(nodes_of(ops, node_types[runtime]), form))
    imported = read("tflite_benchmark", path, ops)
    *single, whole = imported.measurements
    assert [one.ops for one in single] == [(op.folded,) for op in ops] and {
        one.count for one in single
    } == {50}
    assert [one.ms for one in single] == pytest.approx(expected_ms(ops), rel=1e-4)
    assert (whole.name, whole.ops, whole.ms, whole.std_ms, whole.count) == (
        "profile",
        tuple(op.folded for op in ops),
        pytest.approx(0.8455),
        pytest.approx(0.012),
        50,
    )
    assert list(imported.skipped_counts.values()) == [1, 1]  # QUANTIZE, RESHAPE
    fields = imported.fields
    assert (fields["threads"], fields["delegate"]) == (
        2,
        "XNNPACK" if runtime == "XNNPACK" else "none",
    )
    assert fields.get("dtype") == ("int8" if runtime == "XNNPACK" else None)


@pytest.mark.parametrize(
    ("form", "old", "new", "line", "message"),
    [
        (
            "text",
            "[avg ms]",
            "[avg us]",
            9,
            "got columns node type, first, avg us, %, cdf%, mem kb, times called, name; expected "
            "node type, "
            "first, avg ms, %, cdf%, mem kb, times called, name; times must be in ms, got a column "
            "'avg us'",
        ),
        (
            "csv",
            " 0.001,",
            " -0.001,",
            10,
            "avg ms: got '-0.001', expected a number of milliseconds, 0 or more",
        ),
        (
            "csv",
            " 0.001,",
            " nan,",
            10,
            "avg ms: got 'nan', expected a number of milliseconds, 0 or more",
        ),
        (
            "csv",
            "0.9, 0.002",
            "0.9",
            12,
            "got 'CONV_2D, 0.9, 1.5%, 2.000%, 0.0, 1, [layer_2\\t other]:2', expected a node with "
            "its times",
        ),
        (
            "csv",
            "0.0, 1, [layer_2\t",
            "0.0, 13, [layer_2\t",
            12,
            "CONV_2D ran 13 times a run, expected 1: several operations share a line, as where a "
            "delegate runs "
            "several parts of a network; profile without that delegate",
        ),
        (
            "csv",
            "layer_2\t other]:2",
            "layer_1\t other]:1",
            12,
            "node [layer_1\t other]:1 is already in line 11",
        ),
        ("csv", "count=50", "count=0", 60, "count: got '0', expected an integer of at least 1"),
    ],
)
def test_a_damaged_profile(
    form: str,
    old: str,
    new: str,
    line: int,
    message: str,
    small_32: ArchSpec,
    tmp_path: pathlib.Path,
    node_types: NodeTypes,
    nodes_of: NodesOf,
    refused: Refused,
) -> None:
    ops = search_spaces.lower(small_32)
    head, mark, text = printed(nodes_of(ops, node_types["TFLite"]), form).partition(
        "INFO: Operator-wise"
    )
    assert old in text
    path = tmp_path / "profile.csv"
    path.write_text(head + mark + text.replace(old, new, 1))
    refused(lambda: read("tflite_benchmark", path, ops), f"{path}:{line}: {message}")


def test_a_printout_without_profile(tmp_path: pathlib.Path, refused: Refused) -> None:
    path = tmp_path / "log.txt"
    path.write_text("INFO: Inference timings in us: Init: 2, First inference: 3\n")
    refused(
        lambda: read("tflite_benchmark", path, [OpCall("conv2d", Shape(8, 8, 16), 24)]),
        f"{path}: has no table of nodes in run order; run benchmark_model with "
        "--enable_op_profiling=true",
    )
