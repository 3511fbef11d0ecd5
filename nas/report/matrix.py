"""The table of many searches while they run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nas.search.matrix import Cell, Outcome


class LiveTable:
    """A row a search on a terminal, read from the searches' files; elsewhere a line for each that has ended.

    Args:
      cells: the searches.
      console: where to.
    """

    def __init__(self, cells: Sequence[Cell], console: Console):
        self._cells, self._console = cells, console
        self._outcomes: dict[str, Outcome] = {}
        self._live = Live(get_renderable=self.table, console=console, refresh_per_second=1)

    @property
    def failed(self) -> list[Outcome]:
        """Those that found nothing."""
        return [outcome for outcome in self._outcomes.values() if outcome.error]

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def done(self, outcome: Outcome) -> None:
        """A search has ended."""
        self._outcomes[outcome.name] = outcome
        if not self._console.is_terminal:
            state = outcome.error or "found"
            count = f"{len(self._outcomes)}/{len(self._cells)}"
            self._console.print(f"{count}  {outcome.name}: {state}, {outcome.seconds:.0f} s", soft_wrap=True)

    def table(self) -> Table:
        """As it is now."""
        table = Table("search", "state", "stage", "steps", "reward", "accuracy", "cost")
        for cell in self._cells:
            stage, done, steps, metrics = cell.progress
            outcome = self._outcomes.get(cell.name)
            state = (outcome.error or "found") if outcome else "running" if done else "waiting"
            costs = "  ".join(f"{key[5:]} {value:.3g}" for key, value in metrics.items() if key.startswith("cost/"))
            shown = [f"{metrics[key]:.3f}" if key in metrics else "" for key in ("reward", "quality")]
            table.add_row(cell.name, state, stage, f"{done}/{steps}", *shown, costs)
        return table
