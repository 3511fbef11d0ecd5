"""Logs of metrics: one JSON object a step in a file, or several logs at once."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

from search_spaces import files


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
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:  # the process died while it wrote this line
                    break
                if row["step"] >= first_step:
                    break
                kept.append(line)
        files.write_atomically(path, "".join(line + "\n" for line in kept))
        self._path = path
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """See `Log`; JSON must be able to hold the values.

        Args:
          step: Number of the step.
          values: Its metrics.
        """
        with files.writing(self._path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")

    def flush(self) -> None:
        """See `Log`."""
        with files.writing(self._path):
            self._file.flush()

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
    """Read the rows of a `MetricLog`; an incomplete last line is left out.

    Args:
      path: The file.

    Returns:
      One dict a step; none if the file does not exist.
    """
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
