"""What every importer returns, and the reading and checking that they share."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latency_tables.measurement import Measurement
from search_spaces import OpCall

NOT_STATED = "not stated"


@dataclasses.dataclass(frozen=True)
class Imported:
    """Somebody's latency data in our form.

    Attributes:
      measurements: what was measured, with the operations as a device runs them (`OpCall.folded`).
      fields: fields of the table's manifest as far as the source determines them; `NOT_STATED` where it does not, and
        absent where a manifest needs a number or a choice (threads, dtype) that the source does not give.
      decomposed: one sentence: how blocks were turned into operations.
      skipped: {reason: how many entries of the source were left out for it}.
    """

    measurements: tuple[Measurement, ...]
    fields: Mapping[str, Any]
    decomposed: str
    skipped: Mapping[str, int]


def folded(ops: Sequence[OpCall] | Iterator[OpCall]) -> tuple[OpCall, ...]:
    """Operations as a device runs them."""
    return tuple(op.folded for op in ops)


def table_name(*parts: str) -> str:
    """A name that a manifest accepts: `parts` joined by "-", and anything but letters, digits, ".", "_" as "-"."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(parts)).strip("-._")


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file. Raises ValueError if it cannot be read."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"{path}: cannot be read: {cause}") from None


def csv_lines(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """("file:line", {column: text}) of every row of a CSV file that must have exactly these columns, and some rows."""
    reader = csv.DictReader(io.StringIO(read_text(path)), restkey="")
    header = list(reader.fieldnames or ())
    if header != list(columns):
        wrong = [name for name in header if name not in columns and re.search(r"(^|_)(us|ns|s|sec|seconds)$", name)]
        hint = f"; times must be in ms, got a column {wrong[0]!r}" if wrong else ""
        raise ValueError(f"{path}:1: got columns {', '.join(header)}; expected {', '.join(columns)}{hint}")
    empty = True
    for line, cells in enumerate(reader, start=2):
        if "" in cells or None in cells.values():
            raise ValueError(f"{path}:{line}: expected {len(columns)} values")
        empty = False
        yield f"{path}:{line}", cells
    if empty:
        raise ValueError(f"{path}: has no rows")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A JSON file with an object. Raises ValueError with file and line or key: damaged, NaN, or a key given twice."""
    text = read_text(path)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in items:
            if key in out:
                quoted = json.dumps(key)
                line = f":{line_of(text, quoted, last=True)}" if text.count(quoted) == 2 else ""
                raise ValueError(f"{path}{line}: {key}: given twice")
            out[key] = value
        return out

    def constant(name: str) -> float:
        raise ValueError(f"{path}:{line_of(text, name)}: got {name}, expected a number")

    try:
        data = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON: nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}:1: expected a JSON object with keys and values")
    return data


def line_of(text: str, word: str, *, last: bool = False) -> int:
    """Number of the first or last line that has `word`, for errors."""
    found = (text.rfind if last else text.find)(word)
    return text.count("\n", 0, max(found, 0)) + 1


def positive(value: object, where: str, column: str, unit: str = "milliseconds") -> float:
    """A finite number above 0, from a number or from text. Raises ValueError."""
    number = real(value)
    if not number > 0:
        raise ValueError(f"{where}: {column}: got {value!r}, expected a positive number of {unit}")
    return number


def real(value: object) -> float:
    """A finite number, from a number or from text; else NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def integer(text: str, where: str, column: str, least: int = 1) -> int:
    """An integer of at least `least`. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise ValueError(f"{where}: {column}: got {text!r}, expected an integer of at least {least}")
    return int(text)
