"""Tables: what is written is read back, and what is wrong is refused with file and line."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import search_spaces
from latency_tables.table import COLUMNS, Row, format_rows, load_table, parse_rows, save_table
from search_spaces import OpCall, Shape


def every_kind_of_operation() -> list[OpCall]:
    """All distinct operations of some networks, as devices run them."""
    specs = (
        search_spaces.base(name)
        for name in ("small-32", "mnv4-hybrid-m", "efficientvit-b1", "mobileone-s4")
    )
    return list(dict.fromkeys(op.folded for spec in specs for op in search_spaces.lower(spec)))


def rows_of(ops: list[OpCall]) -> list[Row]:
    return [Row(op, 0.5 + i, 0.25, 7 + i) for i, op in enumerate(ops)]


def test_saved_and_loaded(tmp_path: pathlib.Path, manifest: dict[str, Any]) -> None:
    ops = every_kind_of_operation()
    assert {op.kind for op in ops} >= {
        "conv2d",
        "depthwise_conv2d",
        "matmul",
        "mul",
        "add",
        "softmax",
        "concat",
    }
    rows = rows_of(ops)
    saved = save_table(tmp_path / "bench", rows, **manifest)
    loaded = load_table(tmp_path / "bench")
    assert loaded == saved and list(loaded.rows) == rows
    np.testing.assert_array_equal(loaded.lookup(ops), [row.ms for row in rows])


def test_norm_and_bias_do_not_change_the_key() -> None:
    at = Shape(8, 8, 16)
    rows = parse_rows(
        format_rows([Row(OpCall("conv2d", at, 24, 3, 2, "relu", norm=True, scale=True), 1.5)]), "t"
    )
    assert rows[0].op == OpCall("conv2d", at, 24, 3, 2, "relu")
    from latency_tables.table import Manifest, Table

    table = Table(Manifest.model_construct(), rows)
    assert (
        table.find(OpCall("conv2d", at, 24, 3, 2, "relu", bias=True, block=3, role="x")) == rows[0]
    )
    assert table.find(OpCall("conv2d", at, 24, 3, 2, "gelu")) is None
    assert np.isnan(table.lookup([OpCall("conv2d", at, 32, 3, 2, "relu")])).all()


GOOD = "conv2d,8,8,16,24,3,2,1,relu,,,,0,1.5,0.1,10"


def with_cell(column: str, value: str) -> str:
    cells: list[str] = [*GOOD.split(",")]
    cells[COLUMNS.index(column)] = value
    return ",".join(cells)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD, GOOD], "t:3: the same operation as in line 2; leave one out"),
        ([with_cell("ms", "-1")], "t:2: ms: got '-1', expected a positive number of milliseconds"),
        (
            [GOOD, with_cell("ms", "nan")],
            "t:3: ms: got 'nan', expected a positive number of milliseconds",
        ),
        ([with_cell("ms", "0")], "t:2: ms: got '0', expected a positive number"),
        ([with_cell("ms", "inf")], "t:2: ms: got 'inf', expected a positive number"),
        ([with_cell("std_ms", "x")], "t:2: std_ms: got 'x'"),
        ([with_cell("height", "0")], "t:2: height: got '0', expected an integer of at least 1"),
        ([with_cell("stride", "1.5")], "t:2: stride: got '1.5', expected an integer of at least 1"),
        ([with_cell("kind", "conv3d")], "t:2: kind: got 'conv3d', expected one of conv2d, "),
        ([with_cell("activation", "selu")], "t:2: activation: got 'selu', expected one of relu, "),
        ([with_cell("other_height", "4")], "t:2: other_width: got '', expected an integer"),
        ([GOOD + ",1"], "t:2: expected 16 values"),
        (["conv2d,8"], "t:2: expected 16 values"),
        ([], "t: has no rows"),
    ],
)
def test_bad_rows(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_rows("\n".join([",".join(COLUMNS), *lines]), "t")
    assert str(caught.value).startswith(message)


def test_a_wrong_unit() -> None:
    header = ",".join(COLUMNS).replace(",ms,", ",us,")
    with pytest.raises(ValueError, match="t:1: .*; times must be in ms, got a column 'us'"):
        parse_rows(f"{header}\n{GOOD}\n", "t")


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: pathlib.Path, manifest: dict[str, Any]) -> pathlib.Path:
        save_table(tmp_path / "bench", rows_of(every_kind_of_operation()[:5]), **manifest)
        return tmp_path / "bench"

    def test_other_rows_than_the_manifest_describes(self, folder: pathlib.Path) -> None:
        path = folder / "rows.csv"
        path.write_text(path.read_text().replace(",0.5,", ",0.6,"))
        with pytest.raises(
            ValueError, match=r"rows.csv: these are not the rows that .*manifest.yaml describes"
        ):
            load_table(folder)

    def test_rows_are_gone(self, folder: pathlib.Path) -> None:
        (folder / "rows.csv").unlink()
        with pytest.raises(ValueError, match="rows.csv: cannot be read: No such file"):
            load_table(folder)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("rows: 5", "rows: 6", "has 5 rows, but .* says 6"),
            (
                "dtype: int8",
                "dtype: int7",
                "manifest.yaml:7: dtype: got 'int7', expected one of int8, ",
            ),
            ("threads: 1", "threads: 0", "manifest.yaml:6: threads: got 0"),
            ("threads: 1", "threads: 1\nunit: s", "unit: got 's', expected one of ms"),
        ],
    )
    def test_a_manifest_that_does_not_fit(
        self, folder: pathlib.Path, old: str, new: str, message: str
    ) -> None:
        path = folder / "manifest.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(ValueError, match=message):
            load_table(folder)

    def test_unknown_name(self) -> None:
        with pytest.raises(
            ValueError, match="no table called 'absent', nor such a folder; known: "
        ):
            load_table("absent")
