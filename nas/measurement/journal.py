"""Journal of an unfinished measurement: its records so far, and the settings they share."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from latency_tables import csv_files
from latency_tables.table import Manifest
from search_spaces import files, plain_json
from search_spaces.validation import brief

T = TypeVar("T")


class Journal(Generic[T]):
    """Records that have been measured so far, in a file that grows by one record at a time.

    The file has a line of settings in JSON, then CSV. A process may die at any moment: a last line
    without an end does not count.

    Args:
      path: File of the journal.
      settings: Fields of the manifest that all records must share.
      format_: Function from records to CSV text.
      parse: Function from CSV text, and a name for errors, to records.

    Attributes:
      records: Records that have been measured.

    Raises:
      ValueError: The file is not a journal, or its records have other settings.
    """

    def __init__(
        self,
        path: pathlib.Path,
        settings: dict[str, Any],
        format_: Callable[[Sequence[T]], str],
        parse: Callable[[str, str], tuple[T, ...]],
    ):
        self._path = path
        self._settings = settings
        self._format = format_
        self.records: list[T] = []
        self._call_ms: float | None = None
        if path.exists():
            content = files.read_text(path)
            head, *lines = content[: content.rfind("\n") + 1].splitlines(keepends=True) or [""]
            try:
                saved = plain_json.parse_object(head, f"{path}:1")
                call_ms = saved.pop("call_ms")
            except (ValueError, KeyError):
                if lines:
                    raise ValueError(
                        f"{path}:1: is no journal of a measurement; move it away, or use a new "
                        "folder"
                    ) from None
                return  # the process died before anything was measured
            if call_ms is not None:
                self._call_ms = csv_files.nonnegative(call_ms, f"{path}:1", "call_ms")
            self._check(saved)
            if len(lines) == 1 and lines[0] != self._format([]):
                raise ValueError(f"{path}:2: got {brief(lines[0])}, expected the columns of rows")
            if len(lines) > 1:
                self.records = list(parse("".join(lines), f"{path} (below its first line)"))

    def adopt(self, manifest: Manifest, records: Sequence[T]) -> None:
        """Count the records of a finished table as measured.

        Args:
          manifest: Manifest of the table.
          records: Its records.

        Raises:
          ValueError: They were measured with other settings.
        """
        saved = {key: getattr(manifest, key) for key in self._settings}
        self._check({**saved, "protocol": manifest.protocol.partition(";")[0]})
        self.records = list(dict.fromkeys([*records, *self.records]))
        self._call_ms = manifest.call_ms

    def call_ms(self, measure: Callable[[], float]) -> float:
        """Time of a call that is subtracted from all records.

        Args:
          measure: Function that measures it; called in the first session only.

        Returns:
          Time in milliseconds.
        """
        if self._call_ms is None:
            self._call_ms = measure()
        self._rewrite()
        return self._call_ms

    def append(self, record: T) -> None:
        """Add a record; it is on the disk when this returns.

        Args:
          record: The record.
        """
        with files.writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(self._format([record]).partition("\n")[2])
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)

    def remove(self) -> None:
        """Delete the file, once the table is written."""
        self._path.unlink()

    def _rewrite(self) -> None:
        head = json.dumps({**self._settings, "call_ms": self._call_ms})
        files.write_atomically(self._path, f"{head}\n{self._format(self.records)}")

    def _check(self, saved: dict[str, Any]) -> None:
        for key, value in saved.items():
            if self._settings.get(key) != value:
                raise ValueError(
                    f"{self._path.parent}: was measured with {key} {value!r}, "
                    f"not {self._settings.get(key)!r}; use the same, or a new folder"
                )
