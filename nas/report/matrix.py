"""Live table of many searches or trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nas.host.terminal import printable

if TYPE_CHECKING:  # loads JAX
    from nas.engine.matrix import Cell
    from nas.run.matrix import Outcome
    from nas.training.matrix import TrainCell


@dataclasses.dataclass(frozen=True)
class View:
    """Columns in which a kind of cell is shown.

    Attributes:
      kind: Name of the first column.
      done: State of a cell that has ended well.
      columns: Names of the columns behind the state.
      row: From a cell to (whether it has begun, the texts of those columns).
    """

    kind: str
    done: str
    columns: tuple[str, ...]
    row: Callable[[Any], tuple[bool, Sequence[str]]]


def _search(cell: Cell) -> tuple[bool, Sequence[str]]:
    stage, done, steps, metrics = cell.progress
    costs = "  ".join(
        f"{key.removeprefix('cost/')} {value:.3g}"
        for key, value in metrics.items()
        if key.startswith("cost/")
    )
    scores = [f"{metrics[key]:.3f}" if key in metrics else "" for key in ("reward", "quality")]
    return done > 0, (stage, f"{done}/{steps}", *scores, costs)


def _training(cell: TrainCell) -> tuple[bool, Sequence[str]]:
    done, loss, best = cell.progress
    texts = ["" if value is None else f"{value:.3f}" for value in (loss, best)]
    return done > 0, (str(done), *texts)


SEARCHES = View("search", "found", ("stage", "steps", "reward", "accuracy", "cost"), _search)
TRAININGS = View("training", "trained", ("steps", "loss", "best validation accuracy"), _training)


class LiveTable:
    """A table with one row a cell on a terminal; elsewhere one line for each that has ended.

    Use it as a context manager. The rows are read from the cells' files.

    Args:
      cells: The searches or trainings.
      console: Where the table is drawn.
      view: How they are shown.
    """

    def __init__(self, cells: Sequence[Any], console: Console, view: View = SEARCHES):
        self._cells = cells
        self._view = view
        self._console = console
        self._outcomes: dict[str, Outcome] = {}
        self._live = Live(get_renderable=self.table, console=console, refresh_per_second=1)

    @property
    def failed(self) -> list[Outcome]:
        """Outcomes of those that ended with an error."""
        return [outcome for outcome in self._outcomes.values() if outcome.error]

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def done(self, outcome: Outcome) -> None:
        """Record that a cell has ended.

        Args:
          outcome: Its outcome.
        """
        self._outcomes[outcome.name] = outcome
        if not self._console.is_terminal:
            state = outcome.error or self._view.done
            count = f"{len(self._outcomes)}/{len(self._cells)}"
            self._console.print(
                f"{count}  {outcome.name}: {state}, {outcome.seconds:.0f} s", soft_wrap=True
            )

    def table(self) -> Table:
        """The present table.

        Returns:
          A row for each cell.
        """
        table = Table(self._view.kind, "state", *self._view.columns)
        for cell in self._cells:
            begun, texts = self._view.row(cell)
            outcome = self._outcomes.get(cell.name)
            state = "running" if begun else "waiting"
            if outcome:
                state = outcome.error or self._view.done
            table.add_row(*map(printable, (cell.name, state, *texts)))
        return table
