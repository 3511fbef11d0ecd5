"""Logs of metrics: one JSON object a step in a file, or several logs at once."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from search_spaces import files, plain_json
from search_spaces.validation import brief

_MOST_BYTES = 2**34  # of a log; a long run of many targets has a kilobyte a step
_CURE = "restore the file from a copy, or move it away and rerun: the log then begins there"


class Log(Protocol):
    """Takes the metrics of steps, in the order of the steps."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one step.

        Args:
          step: Number of the step.
          values: Its metrics.
        """
        ...

    def flush(self) -> None:
        """Hand everything to the operating system."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class MetricLog:
    """A log as JSON lines, one object a step.

    Args:
      path: The file; created if it does not exist.
      first_step: Step at which the run starts or resumes: lines of this step and later ones are
        dropped.
    """

    def __init__(self, path: pathlib.Path, first_step: int):
        with files.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                # Cut off in one step: a kill before or after it loses no line that is kept.
                os.truncate(path, _end_of(path, first_step))
            self._file = path.open("a", encoding="utf-8")
        self._path = path

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """See `Log`; JSON must be able to hold the values.

        Args:
          step: Number of the step.
          values: Its metrics.
        """
        with files.writing(self._path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")

    def flush(self) -> None:
        """See `Log`; the lines are on the disk before the checkpoint that relies on them."""
        with files.writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """See `Log`."""
        with files.writing(self._path):
            self._file.close()


class MultiLog:
    """Several logs as one.

    Args:
      *logs: The logs.
    """

    def __init__(self, *logs: Log):
        self._logs = logs

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one step to each log.

        Args:
          step: Number of the step.
          values: Its metrics.
        """
        for log in self._logs:
            log.write(step, values)

    def flush(self) -> None:
        """Flush each log."""
        for log in self._logs:
            log.flush()

    def close(self) -> None:
        """Close each log."""
        for log in self._logs:
            log.close()


def read_log(path: pathlib.Path) -> list[dict[str, Any]]:
    """Read the rows of a `MetricLog`; a last line without an end is left out.

    Args:
      path: The file.

    Returns:
      One dict a step; none if the file does not exist.

    Raises:
      ValueError: A line is no row of metrics, or steps are missing or there twice.
    """
    return [row for row, _ in _rows(path)]


def values(rows: Sequence[Mapping[str, Any]], name: str, path: pathlib.Path) -> np.ndarray:
    """The values of one metric.

    Args:
      rows: Rows of `read_log`.
      name: Name of the metric.
      path: File of the rows, for errors.

    Returns:
      [rows] float64.

    Raises:
      ValueError: A row lacks it, or has something else than a number.
    """
    for line, row in enumerate(rows, 1):
        if not isinstance(row.get(name), int | float) or isinstance(row[name], bool):
            found = "lacks it" if name not in row else f"got {brief(row[name])}"
            raise ValueError(f"{path}:{line}: {name}: {found}, expected a number")
    return np.array([row[name] for row in rows], np.float64)


def _rows(path: pathlib.Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a file, and the byte at which each one ends; raises ValueError."""
    try:
        content = files.read_bytes(path, _MOST_BYTES)
    except FileNotFoundError:
        return
    end, last = 0, None
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        where = f"{path}:{number}"
        end += len(line) + 1
        row = plain_json.parse_object(files.decode(line, where), where, finite=False)
        step = row.get("step")
        if type(step) is not int or step < 0:
            raise ValueError(f"{where}: step: got {brief(step)}, expected the number of a step")
        if last is not None and step <= last:
            raise ValueError(f"{where}: step: got {step} after {last}; {_CURE}")
        last = step
        yield row, end


def _end_of(path: pathlib.Path, first_step: int) -> int:
    """Byte at which the rows before a step end."""
    end = 0
    try:
        for row, after in _rows(path):
            if row["step"] >= first_step:
                break
            end = after
            if row["step"] == first_step - 1:
                break  # what follows is cut off, whatever it is
    except ValueError as error:
        if _CURE in str(error):
            raise files.BadFile(str(error)) from None
        raise files.BadFile(f"{error}; {_CURE}") from None
    return end
