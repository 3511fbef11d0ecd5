"""Live table of many searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nas.host.terminal import printable

if TYPE_CHECKING:  # loads JAX
    from nas.engine.matrix import Cell, Outcome


class LiveTable:
    """A table with one row a search on a terminal; elsewhere one line for each that has ended.

    Use it as a context manager. The rows are read from the searches' files.

    Args:
      cells: The searches.
      console: Where the table is drawn.
    """

    def __init__(self, cells: Sequence[Cell], console: Console):
        self._cells = cells
        self._console = console
        self._outcomes: dict[str, Outcome] = {}
        self._live = Live(get_renderable=self.table, console=console, refresh_per_second=1)

    @property
    def failed(self) -> list[Outcome]:
        """Outcomes of the searches that ended with an error."""
        return [outcome for outcome in self._outcomes.values() if outcome.error]

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def done(self, outcome: Outcome) -> None:
        """Record that a search has ended.

        Args:
          outcome: Its outcome.
        """
        self._outcomes[outcome.name] = outcome
        if not self._console.is_terminal:
            state = outcome.error or "found"
            count = f"{len(self._outcomes)}/{len(self._cells)}"
            self._console.print(
                f"{count}  {outcome.name}: {state}, {outcome.seconds:.0f} s", soft_wrap=True
            )

    def table(self) -> Table:
        """The present table.

        Returns:
          A row for each search.
        """
        table = Table("search", "state", "stage", "steps", "reward", "accuracy", "cost")
        for cell in self._cells:
            stage, done, steps, metrics = cell.progress
            outcome = self._outcomes.get(cell.name)
            state = "running" if done else "waiting"
            if outcome:
                state = outcome.error or "found"
            costs = "  ".join(
                f"{key.removeprefix('cost/')} {value:.3g}"
                for key, value in metrics.items()
                if key.startswith("cost/")
            )
            scores = [
                f"{metrics[key]:.3f}" if key in metrics else "" for key in ("reward", "quality")
            ]
            cells = (cell.name, state, stage, f"{done}/{steps}", *scores, costs)
            table.add_row(*map(printable, cells))
        return table
