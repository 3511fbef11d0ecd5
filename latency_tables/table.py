"""Measured latencies: operations in a CSV file, and a manifest in YAML about their origin."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import math
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, get_args

import numpy as np
import pydantic

from latency_tables import csv_files
from search_spaces import OpCall, Shape, files, yaml_io
from search_spaces.frozen import FrozenModel
from search_spaces.naming import Name
from search_spaces.ops import Activation, OpKind

ROWS, MANIFEST = "rows.csv", "manifest.yaml"
_FOLDER = pathlib.Path(__file__).parent / "data"
_SIZES = ("height", "width", "channels", "out_channels", "kernel", "stride", "groups")
_OTHER = ("other_height", "other_width", "other_channels")
COLUMNS = ("kind", *_SIZES, "activation", *_OTHER, "depth", "ms", "std_ms", "count")


class Manifest(FrozenModel):
    """Origin of the rows of a table.

    Attributes:
      schema_version: Version of the file format; the key `schema` in YAML.
      name: Name of the table.
      device: Device that was measured, e.g. "Pixel 6".
      processor: Processor that ran the operations, e.g. "Cortex-X1".
      runtime: Runtime with its version, e.g. "LiteRT 2.3.0".
      delegate: Delegate of the runtime, e.g. "XNNPACK".
      threads: Number of threads.
      dtype: Type of weights and activations.
      unit: Unit of the times.
      origin: "measured", "predicted" by a model, or "unknown" where the source does not say; the
        key `how` in YAML.
      protocol: Description of how a row was measured.
      date: Date of the measurement.
      source: Person, paper or repository that the numbers come from.
      licence: Licence of the numbers.
      call_ms: Fixed cost of one run of a network, which no row contains.
      rows: Number of rows of the CSV file.
      sha256: Hash of the CSV file; a table is never read with the rows of another one.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Name
    device: str
    processor: str
    runtime: str
    delegate: str = "none"
    threads: Annotated[int, pydantic.Field(ge=1)]
    dtype: Literal["int8", "float32", "float16"]
    unit: Literal["ms"] = "ms"
    origin: Annotated[Literal["measured", "predicted", "unknown"], pydantic.Field(alias="how")]
    protocol: str
    date: str
    source: str
    licence: str
    call_ms: Annotated[float, pydantic.Field(ge=0)] = 0.0
    rows: Annotated[int, pydantic.Field(ge=1)]
    sha256: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


@dataclasses.dataclass(frozen=True)
class Row:
    """Time of one operation.

    Attributes:
      op: Operation in the form in which a device runs it (`OpCall.folded`).
      ms: Mean time of a run.
      std_ms: Standard deviation over runs.
      count: Number of runs.
    """

    op: OpCall
    ms: float
    std_ms: float = 0.0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Table:
    """Times of operations, and where they come from.

    Attributes:
      manifest: Origin of the rows.
      rows: One row for each operation.
    """

    manifest: Manifest
    rows: tuple[Row, ...]

    @functools.cached_property
    def _by_op(self) -> dict[OpCall, Row]:
        return {row.op: row for row in self.rows}

    @property
    def ms(self) -> np.ndarray:
        """Times of the rows, [rows] float64."""
        return np.array([row.ms for row in self.rows])

    def find(self, op: OpCall) -> Row | None:
        """Return the row of an operation, or None if there is none.

        Args:
          op: The operation; a norm or bias that is folded into it makes no difference.
        """
        return self._by_op.get(op.folded)

    def lookup(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the times of operations.

        Args:
          ops: The operations.

        Returns:
          [len(ops)] float64 ms; NaN where there is no row.
        """
        rows = (self.find(op) for op in ops)
        return np.array([row.ms if row else math.nan for row in rows], np.float64)


def load_table(name_or_folder: str | os.PathLike[str]) -> Table:
    """Load a table.

    Args:
      name_or_folder: Name of a shipped table, or a folder.

    Returns:
      The table.

    Raises:
      ValueError: One line with file, line and cause: an unknown name, a wrong column or value, an
        operation that is there twice, a time that is not a positive number, or rows of another
        manifest.
    """
    folder = table_folder(name_or_folder)
    manifest, text = read_described(folder / ROWS, folder / MANIFEST)
    rows = parse_rows(text, str(folder / ROWS))
    check_count(len(rows), manifest, folder / ROWS, folder / MANIFEST)
    return Table(manifest, rows)


def table_folder(name_or_folder: str | os.PathLike[str]) -> pathlib.Path:
    """Find the folder of a table.

    Args:
      name_or_folder: Name of a shipped table, or a folder.

    Returns:
      The folder.

    Raises:
      ValueError: Neither a shipped table nor a folder.
    """
    folder = pathlib.Path(name_or_folder)
    if folder.is_dir():
        return folder
    names = table_names()
    if str(name_or_folder) not in names:
        raise ValueError(
            f"no table called {str(name_or_folder)!r}, nor such a folder; known: {', '.join(names)}"
        )
    return _FOLDER / folder


def read_described(path: pathlib.Path, manifest_path: pathlib.Path) -> tuple[Manifest, str]:
    """Read a manifest and the CSV file that it describes.

    Args:
      path: The CSV file.
      manifest_path: The manifest.

    Returns:
      The manifest, and the text of the CSV file.

    Raises:
      ValueError: A file that cannot be read, or two that do not belong together.
    """
    manifest = yaml_io.load_model(manifest_path, Manifest)
    try:
        content = files.read_bytes(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise ValueError(
            f"{path}: these are not the rows that {manifest_path} describes (sha256 differs); "
            "restore the file, or import or measure it again"
        )
    return manifest, files.decode(content, path)


def write_described(
    path: pathlib.Path, manifest_path: pathlib.Path, text: str, rows: int, **manifest: object
) -> Manifest:
    """Write a CSV file and the manifest that describes it.

    A process that reads between the two writes gets an error about the hash.

    Args:
      path: The CSV file.
      manifest_path: The manifest.
      text: Content of the CSV file.
      rows: Number of its rows.
      **manifest: Fields of the manifest, without `rows` and `sha256`.

    Returns:
      The manifest.

    Raises:
      ValueError: A manifest field that is wrong; then nothing is written.
    """
    fields = {**manifest, "rows": rows, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    checked = yaml_io.validate(fields, Manifest, str(manifest_path))
    files.write_atomically(path, text)
    files.write_atomically(manifest_path, yaml_io.to_yaml(checked))
    return checked


def check_count(
    rows: int, manifest: Manifest, path: pathlib.Path, manifest_path: pathlib.Path
) -> None:
    """Check that a file has as many rows as its manifest says.

    Args:
      rows: Number of rows of the file.
      manifest: The manifest.
      path: The file, for errors.
      manifest_path: File of the manifest, for errors.

    Raises:
      ValueError: Another number of rows.
    """
    if rows != manifest.rows:
        raise ValueError(f"{path}: has {rows} rows, but {manifest_path} says {manifest.rows}")


def table_names() -> tuple[str, ...]:
    """Return the names of the shipped tables."""
    return tuple(sorted(path.parent.name for path in _FOLDER.glob(f"*/{MANIFEST}")))


def networks_file(name: str) -> pathlib.Path:
    """Return the file of whole networks that were measured beside a shipped table.

    Args:
      name: Name of the table.

    Returns:
      A CSV file of network,ms.

    Raises:
      ValueError: There is no such file.
    """
    path = _FOLDER / name / "networks.csv"
    if name not in table_names() or not path.exists():
        raise ValueError(f"no measured networks come with table {name!r}")
    return path


def save_table(folder: str | os.PathLike[str], rows: Iterable[Row], **manifest: object) -> Table:
    """Write a table to a folder.

    Args:
      folder: Folder of the table, made if it does not exist.
      rows: One row for each operation.
      **manifest: Fields of the manifest, without `rows` and `sha256`.

    Returns:
      The table.

    Raises:
      ValueError: A manifest field or a row that is wrong.
    """
    folder = pathlib.Path(folder)
    ordered = tuple(rows)
    text = format_rows(ordered)
    parse_rows(text, str(folder / ROWS))
    return Table(
        write_described(folder / ROWS, folder / MANIFEST, text, len(ordered), **manifest), ordered
    )


def format_rows(rows: Iterable[Row]) -> str:
    """Write rows as CSV text with `COLUMNS`.

    Args:
      rows: The rows.

    Returns:
      Text that `parse_rows` reads.
    """
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
    """Read rows from CSV text.

    Args:
      text: Text with `COLUMNS`.
      where: Name of the file, for errors.

    Returns:
      One row for each operation.

    Raises:
      ValueError: One line with `where`, the line and the cause.
    """
    rows: dict[OpCall, tuple[int, Row]] = {}
    for cells in csv_files.parse(text, where, COLUMNS):
        row = parse_row(cells)
        if row.op in rows:
            raise ValueError(
                f"{cells.where}: the same operation as in line {rows[row.op][0]}; leave one out"
            )
        rows[row.op] = (cells.line, row)
    return tuple(row for _, row in rows.values())


def parse_row(cells: csv_files.CsvRow) -> Row:
    """Read a row with (at least) `COLUMNS`.

    Args:
      cells: Row of a CSV file.

    Returns:
      The row of a table.

    Raises:
      ValueError: One line with file, line, column and cause.
    """
    kind = cells.choice("kind", get_args(OpKind))
    activation = cells.choice("activation", get_args(Activation))
    sizes = {column: cells.integer(column) for column in _SIZES}
    other = None
    if any(cells[column] for column in _OTHER):
        other = Shape(*(cells.integer(column) for column in _OTHER))
    op = OpCall(
        kind,  # pyright: ignore[reportArgumentType]  (checked above)
        Shape(sizes["height"], sizes["width"], sizes["channels"]),
        sizes["out_channels"],
        sizes["kernel"],
        sizes["stride"],
        activation,  # pyright: ignore[reportArgumentType]
        groups=sizes["groups"],
        other=other,
        depth=cells.integer("depth", 0),
    )
    ms, std_ms = cells.positive("ms"), cells.nonnegative("std_ms")
    return Row(op, ms, std_ms, cells.integer("count"))
