"""The common result of importers, and the reading of files that they share."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from latency_tables.csv_files import read_text
from latency_tables.measurement import Measurement
from search_spaces import OpCall, files, plain_json

NOT_STATED = "not stated"
_LISTED = 3  # files that a manifest names


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


def origin(
    paths: Sequence[str | os.PathLike[str]], published: Collection[str], **claims: Any
) -> dict[str, Any]:
    """Fields of a manifest that hold for the published files alone.

    A file of the same form may be anybody's, so only its hash says that it is the published one.

    Args:
      paths: The files that were read.
      published: sha256 of the published files.
      **claims: What is known of those.

    Returns:
      The claims if each file is a published one; else the names and hashes of the files, and
      `NOT_STATED` for what a manifest needs as a text.
    """
    found = {pathlib.Path(path).name: files.sha256(path) for path in paths}
    if set(found.values()) <= set(published):
        return claims
    listed = [f"{name} (sha256 {digest[:16]})" for name, digest in found.items()]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    texts = ("device", "processor", "runtime", "protocol", "date", "licence")
    return {
        **dict.fromkeys(texts, NOT_STATED),
        "how": "unknown",
        "source": f"given as {', '.join(listed[:_LISTED])}{more}",
    }


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
    return plain_json.parse_object(read_text(path), str(path))
