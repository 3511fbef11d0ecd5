"""The common result of importers, and the reading of files that they share."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from latency_tables.csv_files import read_text
from latency_tables.measurement import Measurement
from search_spaces import OpCall

NOT_STATED = "not stated"


@dataclasses.dataclass(frozen=True)
class Imported:
    """Latency data of a source as measurements.

    Attributes:
      measurements: Measurements, with operations in the form in which a device runs them
        (`OpCall.folded`).
      fields: Fields of the table's manifest as far as the source determines them. Others are
        `NOT_STATED`, or absent where a manifest needs a number or a choice (threads, dtype).
      decomposition_note: One sentence about how blocks were turned into operations.
      skipped_counts: {reason: number of entries of the source that were left out for it}.
    """

    measurements: tuple[Measurement, ...]
    fields: Mapping[str, Any]
    decomposition_note: str
    skipped_counts: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Importer:
    """A reader of one format of latency data.

    Attributes:
      read: Function of a path, and of the operations of the profiled network if they are needed.
      needs_operations: Whether the format is a profile, which has no shapes, so that `read` needs
        the operations of the network that was profiled.
    """

    read: Callable[..., Imported]
    needs_operations: bool = False


def folded(ops: Sequence[OpCall] | Iterator[OpCall]) -> tuple[OpCall, ...]:
    """Return operations in the form in which a device runs them.

    Args:
      ops: The operations.
    """
    return tuple(op.folded for op in ops)


def table_name(*parts: str) -> str:
    """Make a name that a manifest accepts.

    Args:
      *parts: Parts of the name, joined by "-".

    Returns:
      The name; all but letters, digits, "." and "_" becomes "-".
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(parts)).strip("-._")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Args:
      path: The file.

    Returns:
      {key: value}.

    Raises:
      ValueError: File and line or key of the first mistake: damaged JSON, a NaN, or a key that is
        given twice.
    """
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
    """Find the line of a word, for errors.

    Args:
      text: Content of a file.
      word: Word to look for.
      last: Whether to look for its last line instead of its first.

    Returns:
      Number of the line; 1 if the word is not there.
    """
    position = (text.rfind if last else text.find)(word)
    return text.count("\n", 0, max(position, 0)) + 1
