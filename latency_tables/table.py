"""Measured latencies: rows of operations in CSV, a manifest in YAML that says how they came to be."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import math
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, get_args

import numpy as np
import pydantic

from search_spaces import OpCall, Shape, yaml_io
from search_spaces.choice import Frozen
from search_spaces.ops import Activation, OpKind

ROWS, MANIFEST = "rows.csv", "manifest.yaml"
_FOLDER = pathlib.Path(__file__).parent / "data"
_SIZES = ("height", "width", "channels", "out_channels", "kernel", "stride", "groups")
_OTHER = ("other_height", "other_width", "other_channels")
COLUMNS = ("kind", *_SIZES, "activation", *_OTHER, "depth", "ms", "std_ms", "count")


class Manifest(Frozen):
    """Where the rows of a table come from.

    Attributes:
      name: of the table.
      device, processor: what it was measured on, e.g. "Pixel 6" and "Cortex-X1".
      runtime, delegate: what ran the operations, with version, e.g. "LiteRT 2.3.0" and "XNNPACK".
      threads, dtype: of the measurement.
      how: measured; predicted (by somebody's model); or unknown where the source does not say.
      protocol: how a row was measured.
      date, source, licence: of the numbers.
      call_ms: fixed cost of one run of a network, which no row contains.
      rows, sha256: of the CSV, so that a table is never read with another's rows.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    device: str
    processor: str
    runtime: str
    delegate: str = "none"
    threads: Annotated[int, pydantic.Field(ge=1)]
    dtype: Literal["int8", "float32", "float16"]
    unit: Literal["ms"] = "ms"
    how: Literal["measured", "predicted", "unknown"]
    protocol: str
    date: str
    source: str
    licence: str
    call_ms: Annotated[float, pydantic.Field(ge=0)] = 0.0
    rows: Annotated[int, pydantic.Field(ge=1)]
    sha256: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


@dataclasses.dataclass(frozen=True)
class Row:
    """Time of one operation, as a device runs it (`OpCall.folded`): mean and standard deviation of `count` runs."""

    op: OpCall
    ms: float
    std_ms: float = 0.0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Table:
    """A manifest and its rows, one for each operation."""

    manifest: Manifest
    rows: tuple[Row, ...]

    @functools.cached_property
    def _by_op(self) -> dict[OpCall, Row]:
        return {row.op: row for row in self.rows}

    @property
    def ms(self) -> np.ndarray:
        """[rows] float64."""
        return np.array([row.ms for row in self.rows])

    def find(self, op: OpCall) -> Row | None:
        """The row of an operation, whatever norm or bias is folded into it; None if there is none."""
        return self._by_op.get(op.folded)

    def lookup(self, ops: Sequence[OpCall]) -> np.ndarray:
        """[len(ops)] float64 ms; NaN where there is no row."""
        rows = (self.find(op) for op in ops)
        return np.array([row.ms if row else math.nan for row in rows], np.float64)


def load_table(name_or_folder: str | os.PathLike[str]) -> Table:
    """A shipped table by name, or one in a folder.

    Raises:
      ValueError: one line with file, line and cause: unknown name, a column or value that is wrong, an operation twice,
        a time that is not a positive number, rows that are not the manifest's.
    """
    folder = pathlib.Path(name_or_folder)
    if not folder.is_dir():
        names = table_names()
        if str(name_or_folder) not in names:
            raise ValueError(f"no table called {str(name_or_folder)!r}, nor such a folder; known: {', '.join(names)}")
        folder = _FOLDER / folder
    manifest, text = read_described(folder / ROWS, folder / MANIFEST)
    rows = parse_rows(text, str(folder / ROWS))
    check_count(len(rows), manifest, folder / ROWS, folder / MANIFEST)
    return Table(manifest, rows)


def read_described(path: pathlib.Path, manifest_path: pathlib.Path) -> tuple[Manifest, str]:
    """A manifest and the text of the CSV file that it describes. Raises ValueError if they do not belong together."""
    manifest = yaml_io.load_model(manifest_path, Manifest)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise ValueError(
            f"{path}: these are not the rows that {manifest_path} describes (sha256 differs); "
            "restore the file, or import or measure it again"
        )
    return manifest, content.decode()


def write_described(
    path: pathlib.Path, manifest_path: pathlib.Path, text: str, rows: int, **manifest: object
) -> Manifest:
    """Write a CSV file and the manifest that describes it; whoever reads between the two is refused.

    Raises:
      ValueError: for a manifest field that is wrong, before anything is written.
    """
    fields = {**manifest, "rows": rows, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    checked = yaml_io.validate(fields, Manifest, str(manifest_path))
    yaml_io.write_atomically(path, text)
    yaml_io.write_atomically(manifest_path, yaml_io.to_yaml(checked))
    return checked


def check_count(rows: int, manifest: Manifest, path: pathlib.Path, manifest_path: pathlib.Path) -> None:
    """Raise ValueError if a file has not as many rows as its manifest says."""
    if rows != manifest.rows:
        raise ValueError(f"{path}: has {rows} rows, but {manifest_path} says {manifest.rows}")


def table_names() -> tuple[str, ...]:
    """Names of the shipped tables."""
    return tuple(sorted(path.parent.name for path in _FOLDER.glob(f"*/{MANIFEST}")))


def networks_file(name: str) -> pathlib.Path:
    """The measured whole networks (CSV of network,ms) that a shipped table was compared with.

    Raises:
      ValueError: if it has none.
    """
    path = _FOLDER / name / "networks.csv"
    if name not in table_names() or not path.exists():
        raise ValueError(f"no measured networks come with table {name!r}")
    return path


def save_table(folder: str | os.PathLike[str], rows: Iterable[Row], **manifest: object) -> Table:
    """Write rows and manifest (`rows` and `sha256` are filled in) to a folder; see `write_described`.

    Raises:
      ValueError: for a manifest field or a row that is wrong.
    """
    folder = pathlib.Path(folder)
    ordered = tuple(rows)
    text = format_rows(ordered)
    parse_rows(text, str(folder / ROWS))
    return Table(write_described(folder / ROWS, folder / MANIFEST, text, len(ordered), **manifest), ordered)


def format_rows(rows: Iterable[Row]) -> str:
    """Rows as CSV text with `COLUMNS`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        op, other = row.op.folded, row.op.other
        shape = (op.input.height, op.input.width, op.input.channels)
        second = (other.height, other.width, other.channels) if other else ("", "", "")
        sizes = (*shape, op.out_channels, op.kernel, op.stride, op.groups)
        times = (f"{row.ms:.6g}", f"{row.std_ms:.3g}", row.count)
        writer.writerow((op.kind, *sizes, op.activation, *second, op.depth, *times))
    return file.getvalue()


def parse_rows(text: str, where: str) -> tuple[Row, ...]:
    """CSV text as rows. Raises ValueError with `where`, the line and the cause."""
    reader = csv.DictReader(io.StringIO(text))
    header = tuple(reader.fieldnames or ())
    if header != COLUMNS:
        wrong_unit = [name for name in header if re.fullmatch(r"(us|s|ns|seconds|latency_us)", name)]
        hint = f"; times must be in ms, got a column {wrong_unit[0]!r}" if wrong_unit else ""
        raise ValueError(f"{where}:1: got columns {', '.join(header)}, expected {', '.join(COLUMNS)}{hint}")
    rows: dict[OpCall, tuple[int, Row]] = {}
    for line, cells in enumerate(reader, start=2):
        if None in cells or None in cells.values():
            raise ValueError(f"{where}:{line}: expected {len(COLUMNS)} values")
        row = parse_row(cells, f"{where}:{line}")
        if row.op in rows:
            raise ValueError(f"{where}:{line}: the same operation as in line {rows[row.op][0]}; leave one out")
        rows[row.op] = (line, row)
    if not rows:
        raise ValueError(f"{where}: has no rows")
    return tuple(row for _, row in rows.values())


def parse_row(cells: dict[str, str], where: str) -> Row:
    """One row of a CSV file, {column: text}. Raises ValueError with `where`, the column and the cause."""

    def integer(column: str, least: int) -> int:
        text = cells[column]
        if not re.fullmatch(r"\d+", text) or int(text) < least:
            raise ValueError(f"{where}: {column}: got {text!r}, expected an integer of at least {least}")
        return int(text)

    def number(column: str) -> float:
        text = cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0 or (column == "ms" and value == 0):
            raise ValueError(f"{where}: {column}: got {text!r}, expected a positive number of milliseconds")
        return value

    for column, allowed in (("kind", get_args(OpKind)), ("activation", get_args(Activation))):
        if cells[column] not in allowed:
            raise ValueError(f"{where}: {column}: got {cells[column]!r}, expected one of {', '.join(allowed)}")
    sizes = {column: integer(column, 1) for column in _SIZES}
    other = None
    if any(cells[column] for column in _OTHER):
        other = Shape(*(integer(column, 1) for column in _OTHER))
    op = OpCall(
        cells["kind"],  # pyright: ignore[reportArgumentType]  (checked above)
        Shape(sizes["height"], sizes["width"], sizes["channels"]),
        sizes["out_channels"],
        sizes["kernel"],
        sizes["stride"],
        cells["activation"],  # pyright: ignore[reportArgumentType]
        groups=sizes["groups"],
        other=other,
        depth=integer("depth", 0),
    )
    return Row(op, number("ms"), number("std_ms"), integer("count", 1))
