"""What a run says: one JSON object a step in a file, one live line for people."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Line(Protocol):
    """Where a run shows its progress, as `LiveLine` does."""

    def show(self, step: int, text: str) -> None:
        """Show that `step` steps are done, and `text`."""
        ...

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        ...


class MetricLog:
    """JSON lines, one object a step, in the order of the steps.

    Args:
      path: of the file; made if absent.
      first_step: where the run starts or resumes: lines of this step and later ones are dropped.
    """

    def __init__(self, path: pathlib.Path, first_step: int):
        path.parent.mkdir(parents=True, exist_ok=True)
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
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one step; `values` are what JSON can hold."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def flush(self) -> None:
        """Hand all lines to the operating system."""
        self._file.flush()

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class Log(Protocol):
    """Where the metrics of steps go."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one step."""
        ...

    def flush(self) -> None:
        """Hand all to the operating system."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class Several:
    """Several logs as one."""

    def __init__(self, *logs: Log):
        self._logs = logs

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one step to each."""
        for log in self._logs:
            log.write(step, values)

    def flush(self) -> None:
        """Flush each."""
        for log in self._logs:
            log.flush()

    def close(self) -> None:
        """Close each."""
        for log in self._logs:
            log.close()


class LiveLine:
    """One progress bar on a terminal; elsewhere one plain line every `quiet_seconds`.

    Args:
      name: what is running.
      total: steps.
      console: where to.
      quiet_seconds: between lines where there is no terminal.
    """

    def __init__(self, name: str, total: int, console: Console, quiet_seconds: float = 10.0):
        self._console, self._name, self._total = console, name, total
        self._every, self._last = quiet_seconds, time.monotonic()
        self._first: tuple[int, float] | None = None
        self._bar = None
        if console.is_terminal:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, refresh_per_second=4)
            self._task = self._bar.add_task(name, total=total, text="compiling")

    def __enter__(self) -> LiveLine:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def then(self, name: str, total: int) -> None:
        """Go on with another count, whose steps take another time each than those before."""
        self._name, self._total, self._first = name, total, None
        if self._bar:
            self._task = self._bar.add_task(name, total=total, text="")

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        self._console.print(text, soft_wrap=True)

    def show(self, step: int, text: str) -> None:
        """Show that `step` steps are done, and `text`."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        if self._bar:
            self._bar.update(self._task, completed=step, text=text)
        elif now - self._last >= self._every or step == self._total:
            self._last = now
            done = step - self._first[0]
            left = (self._total - step) * (now - self._first[1]) / done if done else float("nan")
            self._console.print(f"{self._name} {step}/{self._total}  {text}  left {_clock(left)}", soft_wrap=True)


def read_log(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a `MetricLog`; none if it is not there. A line that is not whole ends it."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def console() -> Console:
    """Where progress goes: standard error, so that standard output stays free for results."""
    return Console(file=sys.stderr, highlight=False)


def _clock(seconds: float) -> str:
    return "-:--" if seconds != seconds else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
