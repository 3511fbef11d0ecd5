"""CSV files of users: required columns, and numbers with one form of error."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence

from search_spaces import files


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

    def share(self, column: str) -> float:
        """Read a number in 0..1.

        Args:
          column: Name of the column.

        Returns:
          The number.

        Raises:
          ValueError: Another value.
        """
        number = real(self[column])
        if not 0 <= number <= 1:
            raise ValueError(f"{self.where}: {column}: got {self[column]!r}, expected 0 to 1")
        return number

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
      others: Whether the file may have further columns, and its columns in any order.

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
      others: Whether the text may have further columns, and its columns in any order.

    Returns:
      The rows, at least one.

    Raises:
      ValueError: Other columns, or one that is there twice; a row with more or fewer values than
        the header; damaged CSV; or no row.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    rows = []
    try:
        for cells in reader:
            place = f"{where}:{reader.line_num}"
            if not cells:
                continue
            if not header:
                header = [name.strip() for name in cells]
                _check_header(header, columns, place, others)
            elif len(cells) != len(header):
                raise ValueError(
                    f"{place}: expected {len(header)} values, got {len(cells)}"
                    f"{_comma_hint(cells, header)}"
                )
            else:
                named = dict(zip(header, map(unquoted, cells), strict=True))
                rows.append(CsvRow(place, reader.line_num, named))
    except csv.Error as error:
        raise ValueError(f"{where}:{reader.line_num}: not valid CSV: {error}") from None
    if not header:
        _check_header(header, columns, f"{where}:1", others)
    if not rows:
        raise ValueError(f"{where}: has no rows")
    return rows


def _check_header(header: Sequence[str], columns: Sequence[str], place: str, others: bool) -> None:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{place}: column {twice!r} is there twice; leave one out")
    if list(header) != list(columns) and not (others and set(columns) <= set(header)):
        hint = unit_hint(header, columns)
        if len(header) == 1 < len(columns) and re.search(r"[;\t|]", header[0]):
            hint = "; separate values by commas, and write decimal points"
        raise ValueError(
            f"{place}: got columns {', '.join(header) or 'none'}; "
            f"expected {', '.join(columns)}{hint}"
        )


def _comma_hint(cells: Sequence[str], header: Sequence[str]) -> str:
    """The end of an error about surplus values that may be the parts of decimal commas."""
    parts = [cell.strip() for cell in cells]
    split = any(
        re.fullmatch(r"[-+]?[0-9]+", a) and re.fullmatch(r"[0-9]+", b)
        for a, b in itertools.pairwise(parts)
    )
    if len(cells) > len(header) and split:
        return "; a number takes a decimal point and no separators, as 2.4 or 1234"
    return ""


_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Start of a cell that a spreadsheet would compute, or that `quoted` has changed before."""


def quoted(text: str) -> str:
    """A user's text as a cell that no spreadsheet takes for a formula.

    Args:
      text: Name of a class, network or the like; not a number.

    Returns:
      The text, behind an apostrophe where it begins like a formula. `unquoted` is the inverse.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unquoted(cell: str) -> str:
    """The text of a cell that `quoted` made.

    Args:
      cell: A cell.
    """
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


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
        return files.read_text(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: cannot be read: No such file or directory") from None


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
        raise ValueError(
            f"{where}: {column}: got {value!r}, expected a positive number{of_unit}{_hint(value)}"
        )
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
        raise ValueError(
            f"{where}: {column}: got {value!r}, expected a number{of_unit}, 0 or more{_hint(value)}"
        )
    return number


def _hint(value: object) -> str:
    """The end of an error about a number with a decimal comma, or with separators."""
    separated = r"[-+]?[0-9][0-9.,' _\u00a0\u202f\u2019]*"
    if isinstance(value, str) and not _NUMBER.fullmatch(value) and re.fullmatch(separated, value):
        return "; write a decimal point and no separators, as 2.4 or 1234"
    return ""


def real(value: object) -> float:
    """Return a finite number, given as a number or as its text; else NaN.

    Args:
      value: A number, or its text.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip(" ")):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


# float() also takes 1_0 for 10, digits of other scripts, and white space.
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


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
