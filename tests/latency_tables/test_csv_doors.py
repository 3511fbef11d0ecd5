"""CSV files as people and programs save them: read rightly, or refused in one line."""

from __future__ import annotations

import pathlib

import pytest

from latency_tables import csv_files
from latency_tables.audit import read_measured

RIGHT = "network,ms\na,1.5\nb,2\n"


@pytest.mark.parametrize(
    "content",
    [
        RIGHT.encode("utf-8-sig"),  # as Excel saves "CSV UTF-8"
        RIGHT.replace("\n", "\r\n").encode(),
        RIGHT.replace("\n", "\r").encode(),
        b'"network", ms\n"a",1.50\n"b", 2 \n\n',
        b"note,ms,network\nx,1.5,a\n,2,b\n",
    ],
)
def test_the_same_numbers(content: bytes, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    assert read_measured(path) == {"a": 1.5, "b": 2.0}


BAD = {
    "decimal comma": (b"network,ms\na,1,5\nb,2\n", ":2: expected 2 values, got 3; a number takes"),
    "quoted decimal comma": (b'network,ms\na,"1,5"\n', ":2: ms: got '1,5', expected"),
    "thousands": (b'network,ms\na,"1,234.5"\n', "no separators"),
    "thousands with points": (b"network,ms\na,1.234.567\n", "no separators"),
    "thousands with spaces": (b"network,ms\na,1 234\n", "no separators"),
    "thousands with apostrophes": (b"network,ms\na,1'234\n", "no separators"),
    "digits of another script": ("network,ms\na,\u0661\n".encode(), ":2: ms: got"),
    "underscores": (b"network,ms\na,1_0\n", "no separators"),
    "semicolons": (b"network;ms\na;1,5\n", ":1: got columns network;ms; expected network, ms"),
    "UTF-16": (RIGHT.encode("utf-16"), "not UTF-8 text (it looks like UTF-16); save it as UTF-8"),
    "Latin-1": (b"network,ms\n\xe9,1\n", "not UTF-8 text"),
    "infinite": (b"network,ms\na,inf\n", ":2: ms: got 'inf', expected a positive number"),
    "too large": (b"network,ms\na,1e400\n", ":2: ms: got '1e400'"),
    "a long field": (b"network,ms\n" + b"a" * 200_000 + b",1\n", "field larger than field limit"),
    "an open quote": (b'network,ms\n"a,1\n', "not valid CSV: unexpected end of data"),
    "text behind a quote": (b'network,ms\n"a"b,1\n', "not valid CSV"),
    "a column twice": (b"network,ms,ms\na,1,2\n", ":1: column 'ms' is there twice"),
    "surplus in one row": (b"network,ms\na,1\nb,2,\n", ":3: expected 2 values, got 3"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_one_line_with_the_place(content: bytes, message: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_measured(path)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_file(path: str) -> None:
    with pytest.raises(ValueError, match="is a device or pipe, expected a file"):
        read_measured(path)


@pytest.mark.parametrize(
    "name", ["a", "", "=1+1", "+a", "-a", "@a", "\tx", "'", "'a", "'=a", "''=a", "a=b", "\u00e9"]
)
def test_no_name_is_taken_for_a_formula(name: str) -> None:
    cell = csv_files.quoted(name)
    assert csv_files.unquoted(cell) == name
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
