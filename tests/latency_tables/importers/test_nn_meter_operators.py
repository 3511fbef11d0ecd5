"""nn-Meter's measured convolutions."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable

import pytest

from latency_tables.importers import Imported, import_table, read
from latency_tables.measurement import single_rows
from latency_tables.table import load_table

Refused = Callable[[Callable[[], object], str], None]
Write = Callable[..., pathlib.Path]
Check = Callable[..., None]
Published = Callable[[str, str], Imported]

MS = "expected a positive number of milliseconds"
FILE = "perop.csv"
TEXT = """\
op,hw,cin,cout,k,s,mflops,mparams,ms
conv,8,3,16,3,2,0.007168,0.000448,0.5
dwconv,8,16,16,5,1,0.026624,0.000416,0.25
dwconv,8,16,16,5,1,0.026624,0.000416,0.75
"""
EXPECTED = {
    "line 2": ["conv2d 3x3 s2 [8, 8, 3] to 16"],
    "line 3": ["depthwise_conv2d 5x5 [8, 8, 16] to 16"],
    "line 4": ["depthwise_conv2d 5x5 [8, 8, 16] to 16"],
}
TIMES = [0.5, 0.25, 0.75]


def test_operations_and_times(write: Write, check: Check) -> None:
    """The operations are written by hand."""
    check(read("nn_meter_operators", write(FILE, TEXT)), EXPECTED, TIMES)


def test_a_file_that_is_not_there(tmp_path: pathlib.Path, refused: Refused) -> None:
    path = tmp_path / "none.file"
    refused(
        lambda: read("nn_meter_operators", path),
        f"{path}: cannot be read: No such file or directory",
    )


def test_what_is_left_out_is_counted(write: Write) -> None:
    skipped = read("nn_meter_operators", write(FILE, TEXT)).skipped_counts
    assert list(skipped.values()) == [] and all(len(reason) > 20 for reason in skipped)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "mflops",
            "gflops",
            "1: got columns op, hw, cin, cout, k, s, gflops, mparams, ms; expected op, hw, cin, "
            "cout, k, s, "
            "mflops, mparams, ms",
        ),
        (
            "mparams,ms",
            "mparams,us",
            "1: got columns op, hw, cin, cout, k, s, mflops, mparams, us; expected op, hw, cin, "
            "cout, k, s, mflops, "
            "mparams, ms; times must be in ms, got a column 'us'",
        ),
        ("dwconv", "pool", "3: op: got 'pool', expected one of conv, dwconv"),
        ("8,3,16", "8,-3,16", "2: cin: got '-3', expected an integer of at least 1"),
        (
            "8,16,16",
            "8,16,24",
            "3: cout: got 24, expected the 16 channels of the input of a dwconv",
        ),
        ("0.007168", "0.007169", None),
        (
            "conv,8,",
            "conv,4,",
            "2: mflops: got '0.007168', but this operation has 0.001792 with its bias; is hw the "
            "side of the input?",
        ),
        (
            "0.000448",
            "nan",
            "2: mparams: got 'nan', but this operation has 0.000448 with its bias; is hw the side "
            "of the input?",
        ),
        (",0.5\n", ",nan\n", f"2: ms: got 'nan', {MS}"),
        (",0.25\n", ",-0.25\n", f"3: ms: got '-0.25', {MS}"),
        (",0.5\n", "\n", "2: expected 9 values, got 8"),
    ],
)
def test_a_damaged_file(
    old: str, new: str, message: str | None, write: Write, refused: Refused
) -> None:
    path = write(FILE, TEXT, old, new)
    if message is None:
        assert read("nn_meter_operators", path)
    else:
        refused(lambda: read("nn_meter_operators", path), f"{path}:{message}")


def test_a_table_of_operations(tmp_path: pathlib.Path, write: Write, refused: Refused) -> None:
    path = write(FILE, TEXT)
    out = tmp_path / "out"
    message = f"{out}: the source does not state dtype, threads; give each, e.g. dtype=..."
    refused(lambda: import_table("nn_meter_operators", path, out), message)
    assert not out.exists()
    table = import_table("nn_meter_operators", path, out, threads=1, dtype="int8", name="mine")
    assert table == load_table(out) and not (out / "measurements.csv").exists()
    m = load_table(out).manifest
    assert (m.name, m.threads, m.dtype, m.origin, m.rows) == ("mine", 1, "int8", "unknown", 2)
    assert "one operation" in m.protocol
    assert [(row.ms, row.std_ms, row.count) for row in load_table(out).rows] == [
        (0.5, 0, 1),
        (0.5, 0.25, 2),
    ]


PUBLISHED = ("nn_meter_operators", "nn_meter/perop_measured_cpu_tflite.csv")


def test_every_line_is_imported(published: Published) -> None:
    imported = published(*PUBLISHED)
    assert len(imported.measurements) == 1497 and not imported.skipped_counts
    assert {len(one.ops) for one in imported.measurements} == {1}


def test_counts_are_those_of_the_source(published: Published, shared_latency: pathlib.Path) -> None:
    """Every line: MACs and one addition of a bias for each output are the source's operations, "
    "also of parameters."""
    path = shared_latency / PUBLISHED[1]
    with path.open() as file:
        lines = list(csv.DictReader(file))
    for line, measurement in zip(lines, published(*PUBLISHED).measurements, strict=True):
        (op,) = measurement.ops
        assert op.macs + op.output.elements == round(float(line["mflops"]) * 1e6)
        assert op.weights + op.out_channels == round(float(line["mparams"]) * 1e6)
    assert len(single_rows(published(*PUBLISHED).measurements)) == 131
