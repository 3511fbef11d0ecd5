"""CSV files: what is wrong is refused with file, line and column."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable

import pytest

from latency_tables import csv_files

Refused = Callable[[Callable[[], object], str], None]


def test_rows_know_their_lines(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('name,ms\na,1.5\n\n"b, c",2\n')
    first, second = csv_files.read(path, ("name", "ms"))
    assert (first.where, first.line, first["name"], first.positive("ms")) == (
        f"{path}:2",
        2,
        "a",
        1.5,
    )
    assert (second.where, second["name"]) == (f"{path}:4", "b, c")


def test_further_columns_may_be_allowed(refused: Refused) -> None:
    text = "note, ms,name\nx,1,a\ny,2,b\n"
    rows = csv_files.parse(text, "t", ("name", "ms"), others=True)
    assert [(row["name"], row["ms"]) for row in rows] == [("a", "1"), ("b", "2")]
    refused(
        lambda: csv_files.parse(text, "t", ("name", "ms")),
        "t:1: got columns note, ms, name; expected name, ms",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t:1: got columns none; expected name, ms"),
        ("name,ms\n", "t: has no rows"),
        ("name,ms\na,1\nb\n", "t:3: expected 2 values, got 1"),
        (
            "name,ms\na,1,2\n",
            "t:2: expected 2 values, got 3; a number takes a decimal point and no separators, as "
            "2.4 or 1234",
        ),
        ("ms,name\n1,a\n", "t:1: got columns ms, name; expected name, ms"),
        *(
            (
                f"name,{column}\na,1\n",
                f"t:1: got columns name, {column}; expected name, ms; "
                f"times must be in ms, got a column {column!r}",
            )
            for column in ("us", "s", "ns", "seconds", "latency_us", "avg us")
        ),
    ],
)
def test_a_damaged_file(text: str, message: str, refused: Refused) -> None:
    refused(lambda: csv_files.parse(text, "t", ("name", "ms")), message)


def test_a_file_that_cannot_be_read(tmp_path: pathlib.Path, refused: Refused) -> None:
    path = tmp_path / "a.csv"
    refused(
        lambda: csv_files.read(path, ("ms",)), f"{path}: cannot be read: No such file or directory"
    )
    path.write_bytes(b"ms\n\xff\n")
    refused(
        lambda: csv_files.read(path, ("ms",)),
        f"{path}: cannot be read: not UTF-8 text (byte 3 is wrong); save it as UTF-8",
    )


@pytest.mark.parametrize(
    ("value", "positive", "nonnegative"),
    [
        ("1.5", True, True),
        (2, True, True),
        ("1e-3", True, True),
        ("0", False, True),
        ("-1", False, False),
        ("nan", False, False),
        ("inf", False, False),
        ("", False, False),
        ("x", False, False),
        (True, False, False),
        (None, False, False),
        (10**400, False, False),
    ],
    ids=lambda value: str(value)[:5],
)
def test_numbers(value: object, positive: bool, nonnegative: bool, refused: Refused) -> None:
    got = f"f:2: ms: got {value!r}, expected"
    if positive:
        assert csv_files.positive(value, "f:2", "ms") == float(str(value))
    else:
        refused(
            lambda: csv_files.positive(value, "f:2", "ms"),
            f"{got} a positive number of milliseconds",
        )
    if nonnegative:
        assert csv_files.nonnegative(value, "f:2", "ms", "") == float(str(value))
    else:
        assert math.isnan(csv_files.real(value)) or csv_files.real(value) < 0
        refused(lambda: csv_files.nonnegative(value, "f:2", "ms", ""), f"{got} a number, 0 or more")


@pytest.mark.parametrize(
    ("text", "least", "value"),
    [("7", 1, 7), ("0", 0, 0), ("0", 1, None), ("1.5", 1, None), ("-3", 1, None), ("", 0, None)],
)
def test_integers(text: str, least: int, value: int | None, refused: Refused) -> None:
    if value is not None:
        assert csv_files.integer(text, "f:2", "count", least) == value
        return
    refused(
        lambda: csv_files.integer(text, "f:2", "count", least),
        f"f:2: count: got {text!r}, expected an integer of at least {least}",
    )


def test_words(refused: Refused) -> None:
    (row,) = csv_files.parse("kind\nadd\n", "t", ("kind",))
    assert row.choice("kind", ("mul", "add")) == "add"
    refused(
        lambda: row.choice("kind", ("mul", "mean")),
        "t:2: kind: got 'add', expected one of mul, mean",
    )
