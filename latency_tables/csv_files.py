"""CSV files of users: required columns, and numbers with one form of error."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class CsvRow:
    """One row of a CSV file.

    Attributes:
      where: "FILE:LINE", the start of errors about the row.
      line: Number of the line, 1 for the header.
      cells: {column: text}.
    """

    where: str
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def integer(self, column: str, least: int = 1) -> int:
        """Read an integer; see `integer`.

        Args:
          column: Name of the column.
          least: Smallest value allowed.
        """
        return integer(self[column], self.where, column, least)

    def positive(self, column: str, unit: str = "milliseconds") -> float:
        """Read a finite number above 0; see `positive`.

        Args:
          column: Name of the column.
          unit: Unit of the number, for errors.
        """
        return positive(self[column], self.where, column, unit)

    def nonnegative(self, column: str, unit: str = "milliseconds") -> float:
        """Read a finite number of at least 0; see `nonnegative`.

        Args:
          column: Name of the column.
          unit: Unit of the number, for errors.
        """
        return nonnegative(self[column], self.where, column, unit)

    def choice(self, column: str, allowed: Sequence[str]) -> str:
        """Read one of some words.

        Args:
          column: Name of the column.
          allowed: The words.

        Returns:
          The word.

        Raises:
          ValueError: Another word.
        """
        if self[column] not in allowed:
            raise ValueError(
                f"{self.where}: {column}: got {self[column]!r}, "
                f"expected one of {', '.join(allowed)}"
            )
        return self[column]


def read(
    path: str | os.PathLike[str], columns: Sequence[str], *, others: bool = False
) -> list[CsvRow]:
    """Read the rows of a CSV file.

    Args:
      path: File with a header.
      columns: Names of the columns.
      others: Whether the file may have further columns and values, and its columns in any order.

    Returns:
      The rows, at least one.

    Raises:
      ValueError: An unreadable file, or as `parse`.
    """
    return parse(read_text(path), str(path), columns, others=others)


def parse(text: str, where: str, columns: Sequence[str], *, others: bool = False) -> list[CsvRow]:
    """Split CSV text into rows.

    Args:
      text: A header and the rows.
      where: Name of the file, for errors.
      columns: Names of the columns.
      others: Whether the text may have further columns and values, and its columns in any order.

    Returns:
      The rows, at least one.

    Raises:
      ValueError: Other columns, a row with more or fewer values than the header, or no row.
    """
    reader = csv.DictReader(io.StringIO(text))
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    if header != list(columns) and not (others and set(columns) <= set(header)):
        raise ValueError(
            f"{where}:1: got columns {', '.join(header) or 'none'}; "
            f"expected {', '.join(columns)}{unit_hint(header, columns)}"
        )
    rows = []
    for cells in reader:
        surplus = cells.pop(None, None)
        if None in cells.values() or (surplus is not None and not others):
            raise ValueError(f"{where}:{reader.line_num}: expected {len(header)} values")
        rows.append(CsvRow(f"{where}:{reader.line_num}", reader.line_num, cells))
    if not rows:
        raise ValueError(f"{where}: has no rows")
    return rows


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file.

    Args:
      path: File in UTF-8.

    Returns:
      Its text.

    Raises:
      ValueError: The file cannot be read.
    """
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"{path}: cannot be read: {cause}") from None


def integer(text: str, where: str, column: str, least: int = 1) -> int:
    """Parse an integer.

    Args:
      text: Decimal digits.
      where: "FILE:LINE" or another place, for errors.
      column: Name of the column, for errors.
      least: Smallest allowed value, at least 0.

    Returns:
      The integer.

    Raises:
      ValueError: Other text, or a smaller value.
    """
    # 15 digits are exact in float64, which counts are converted to
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < least:
        raise ValueError(
            f"{where}: {column}: got {text!r}, expected an integer of at least {least}"
        )
    return int(text)


def positive(value: object, where: str, column: str, unit: str = "milliseconds") -> float:
    """Parse a finite number above 0.

    Args:
      value: A number, or its text.
      where: "FILE:LINE" or another place, for errors.
      column: Name of the column, for errors.
      unit: Unit in the plural, for errors; "" for none.

    Returns:
      The number.

    Raises:
      ValueError: Another value.
    """
    number = real(value)
    if not number > 0:
        of_unit = f" of {unit}" if unit else ""
        raise ValueError(f"{where}: {column}: got {value!r}, expected a positive number{of_unit}")
    return number


def nonnegative(value: object, where: str, column: str, unit: str = "milliseconds") -> float:
    """Parse a finite number of at least 0.

    Args:
      value: A number, or its text.
      where: "FILE:LINE" or another place, for errors.
      column: Name of the column, for errors.
      unit: Unit in the plural, for errors; "" for none.

    Returns:
      The number.

    Raises:
      ValueError: Another value.
    """
    number = real(value)
    if not number >= 0:
        of_unit = f" of {unit}" if unit else ""
        raise ValueError(f"{where}: {column}: got {value!r}, expected a number{of_unit}, 0 or more")
    return number


def real(value: object) -> float:
    """Return a finite number, given as a number or as its text; else NaN.

    Args:
      value: A number, or its text.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def unit_hint(columns: Sequence[str], expected: Sequence[str]) -> str:
    """Return the end of an error about columns where one of them is a time in another unit.

    Args:
      columns: Names in the file.
      expected: Names that it should have.

    Returns:
      The hint, or "" if there is no such column.
    """
    others = [name for name in columns if name not in expected]
    wrong = [name for name in others if re.search(r"(^|[_ ])(us|ns|s|sec|seconds)$", name)]
    return f"; times must be in ms, got a column {wrong[0]!r}" if wrong else ""
