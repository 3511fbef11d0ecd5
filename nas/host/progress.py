"""Progress of long work, shown to people: the protocol, and a bar that implements it."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any, Protocol

import rich.progress
from rich.console import Console

from nas.host.terminal import printable


class Progress(Protocol):
    """Receiver of the reports of long work; `ProgressBar` shows them, `SILENT` drops them."""

    def update(self, step: int, text: str) -> None:
        """Report that `step` steps are done.

        Args:
          step: Number of steps done, including those before a resume.
          text: State of the work, for people.
        """
        ...

    def message(self, text: str) -> None:
        """Report something that stays visible, on a line of its own.

        Args:
          text: The line.
        """
        ...

    def start_phase(self, name: str, total: int) -> None:
        """Start a new phase with its own step count and time estimate.

        Args:
          name: Name of the phase.
          total: Number of its steps.
        """
        ...


class _Silent:
    def update(self, step: int, text: str) -> None:
        pass

    def message(self, text: str) -> None:
        pass

    def start_phase(self, name: str, total: int) -> None:
        pass


SILENT: Progress = _Silent()
"""Reports nothing."""


@dataclasses.dataclass(frozen=True)
class Offset:
    """Progress of a part of a longer phase.

    Attributes:
      whole: Progress of the whole phase.
      steps: Number of steps done before this part.
    """

    whole: Progress
    steps: int

    def update(self, step: int, text: str) -> None:
        """See `Progress`."""
        self.whole.update(self.steps + step, text)

    def message(self, text: str) -> None:
        """See `Progress`."""
        self.whole.message(text)

    def start_phase(self, name: str, total: int) -> None:
        """See `Progress`."""
        self.whole.start_phase(name, total)


class ProgressBar:
    """A progress bar on a terminal; elsewhere a plain line every `quiet_seconds`.

    Args:
      name: Name of the phase.
      total: Number of its steps.
      console: Console to draw on.
      quiet_seconds: Time between lines where there is no terminal.
    """

    def __init__(self, name: str, total: int, console: Console, quiet_seconds: float = 10.0):
        self._console = console
        self._name = name
        self._total = total
        self._every = quiet_seconds
        self._last = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._bar = None
        if console.is_terminal:
            columns = (
                rich.progress.TextColumn("[bold]{task.description}"),
                rich.progress.BarColumn(bar_width=16),
                rich.progress.TextColumn("{task.completed}/{task.total}"),
                rich.progress.TextColumn("{task.fields[text]}", markup=False),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TextColumn("left"),
                rich.progress.TimeRemainingColumn(),
            )
            self._bar = rich.progress.Progress(*columns, console=console, refresh_per_second=4)
            self._task = self._bar.add_task(name, total=total, text="compiling")

    def __enter__(self) -> ProgressBar:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def start_phase(self, name: str, total: int) -> None:
        """See `Progress`."""
        self._name = name
        self._total = total
        self._first = None
        if self._bar:
            self._task = self._bar.add_task(name, total=total, text="")

    def message(self, text: str) -> None:
        """See `Progress`."""
        self._console.print(text, soft_wrap=True)

    def update(self, step: int, text: str) -> None:
        """See `Progress`."""
        now, text = time.monotonic(), printable(text)
        if self._first is None:
            self._first = (step, now)
        if self._bar:
            self._bar.update(self._task, completed=step, text=text)
        elif now - self._last >= self._every or step == self._total:
            self._last = now
            done = step - self._first[0]
            left = (self._total - step) * (now - self._first[1]) / done if done else float("nan")
            line = f"{self._name} {step}/{self._total}  {text}  left {_clock(left)}"
            self._console.print(line, soft_wrap=True)


def console() -> Console:
    """Console on standard error, so that standard output stays free for results."""
    return _PrintableConsole(file=sys.stderr, highlight=False, markup=False)


class _PrintableConsole(Console):
    """Prints names from files as texts: neither control characters nor markup."""

    def print(self, *objects: Any, **options: Any) -> None:
        shown = [printable(each) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **options)


def _clock(seconds: float) -> str:
    return "-:--" if seconds != seconds else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
