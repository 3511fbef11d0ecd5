"""Measurements: written, read back, pooled; and damaged files refused with file and line."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from latency_tables.measurement import (
    MEASUREMENT_COLUMNS,
    Measurement,
    format_measurements,
    load_measurements,
    parse_measurements,
    save_measurements,
    single_rows,
)
from search_spaces import OpCall, Shape

Refused = Callable[[Callable[[], object], str], None]
CONV = OpCall("conv2d", Shape(8, 8, 16), 24, 3, 2, "relu")
ADD = OpCall("add", Shape(4, 4, 24), 24)


def test_the_same_operation_several_times_is_pooled() -> None:
    """Two samples of 2 and 6 runs: the mean and deviation of all 8 runs."""
    first, second = [1.0, 3.0], [4.0, 4.0, 5.0, 5.0, 6.0, 6.0]
    given_ = [
        Measurement("a", (CONV,), statistics.fmean(first), statistics.pstdev(first), 2),
        Measurement("block", (CONV, ADD), 9.0),
        Measurement(
            "b",
            (dataclasses.replace(CONV, norm=True),),
            statistics.fmean(second),
            statistics.pstdev(second),
            6,
        ),
        Measurement("c", (ADD,), 0.5),
    ]
    conv, add = single_rows(given_)
    assert (conv.op, conv.count, add.op, add.ms, add.std_ms, add.count) == (
        CONV,
        8,
        ADD,
        0.5,
        0.0,
        1,
    )
    assert conv.ms == pytest.approx(statistics.fmean(first + second), rel=1e-12)
    assert conv.std_ms == pytest.approx(statistics.pstdev(first + second), rel=1e-12)


_OPS = [
    op.folded
    for name in ("small-32", "mnv4-hybrid-m")
    for op in search_spaces.lower(search_spaces.base(name))
]


@given(
    blocks=st.lists(
        st.lists(st.sampled_from(_OPS), min_size=1, max_size=5), min_size=1, max_size=6
    ),
    ms=st.floats(1e-3, 1e3),
    count=st.integers(1, 10**6),
)
def test_measurements_are_read_as_they_are_written(
    blocks: list[list[OpCall]], ms: float, count: int
) -> None:
    written = [
        Measurement(f"block, {i}", tuple(ops), ms * (i + 1), ms / 8, count)
        for i, ops in enumerate(blocks)
    ]
    back = parse_measurements(format_measurements(written), "t")
    assert [(one.name, one.ops, one.count) for one in back] == [
        (one.name, one.ops, one.count) for one in written
    ]
    assert [one.ms for one in back] == pytest.approx([one.ms for one in written], rel=1e-5)
    assert [one.std_ms for one in back] == pytest.approx([one.std_ms for one in written], rel=1e-2)


def test_measurements_in_a_folder(
    tmp_path: pathlib.Path, manifest: dict[str, Any], refused: Refused
) -> None:
    saved = save_measurements(
        tmp_path,
        [Measurement("a", (CONV, ADD), 1.5, 0.25, 7), Measurement("b", (ADD,), 2)],
        **manifest,
    )
    assert saved.manifest.rows == 3 and load_measurements(tmp_path) == saved
    path = tmp_path / "measurements.csv"
    assert path.read_text().splitlines() == [
        ",".join(MEASUREMENT_COLUMNS),
        "a,1.5,0.25,7,conv2d,8,8,16,24,3,2,1,relu,,,,0",
        ",,,,add,4,4,24,24,1,1,1,none,,,,0",
        "b,2,0,1,add,4,4,24,24,1,1,1,none,,,,0",
    ]
    path.write_text(path.read_text().replace("1.5", "1.6"))
    described = tmp_path / "measurements.yaml"
    refused(
        lambda: load_measurements(tmp_path),
        f"{path}: these are not the rows that {described} describes (sha256 differs); restore the "
        "file, or "
        "import or measure it again",
    )
    path.unlink()
    refused(
        lambda: load_measurements(tmp_path), f"{path}: cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (2, "a,1.5", ",1.5", "t:2: name: got '', expected a name, as the line has a time"),
        (
            2,
            "a,1.5,0.25,7",
            ",,,",
            "t:2: name: got '', expected the name and times of the first measurement",
        ),
        (4, "b,2", "a,2", "t:4: name: 'a' is already in line 2; leave one out"),
        (2, "1.5", "-1.5", "t:2: ms: got '-1.5', expected a positive number of milliseconds"),
        (2, "1.5", "nan", "t:2: ms: got 'nan', expected a positive number of milliseconds"),
        (3, "add,4", "add,0", "t:3: height: got '0', expected an integer of at least 1"),
        (
            3,
            ",0",
            "",
            f"t:3: expected {len(MEASUREMENT_COLUMNS)} values, got {len(MEASUREMENT_COLUMNS) - 1}",
        ),
        (
            1,
            "ms,",
            "us,",
            f"t:1: got columns {', '.join(MEASUREMENT_COLUMNS).replace('ms,', 'us,', 1)}; expected "
            f"{', '.join(MEASUREMENT_COLUMNS)}; times must be in ms, got a column 'us'",
        ),
    ],
)
def test_damaged_measurements(
    line: int, old: str, new: str, message: str, refused: Refused
) -> None:
    lines = format_measurements(
        [Measurement("a", (CONV, ADD), 1.5, 0.25, 7), Measurement("b", (ADD,), 2)]
    ).splitlines()
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    refused(lambda: parse_measurements("\n".join(lines), "t"), message)


def test_no_measurements(refused: Refused) -> None:
    refused(lambda: parse_measurements(format_measurements([]), "t"), "t: has no rows")
