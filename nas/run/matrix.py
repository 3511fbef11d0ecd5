"""Cells of a matrix: independent searches or trainings, and how each of them ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from nas.run.loop import NotFinite


class Outcome(NamedTuple):
    """End of a search or training.

    Attributes:
      name: Its name.
      error: Error that ended it; empty where it has a result.
      seconds: Duration in seconds.
    """

    name: str
    error: str
    seconds: float


def attempt(name: str, work: Callable[[], object]) -> Outcome:
    """Do the work of a cell.

    An error that a user can correct becomes its outcome and does not end other cells.

    Args:
      name: Name of the cell.
      work: Its work.
    """
    begun = time.monotonic()
    try:
        work()
    except (ValueError, NotFinite) as error:
        return Outcome(name, " ".join(str(error).split()), time.monotonic() - begun)
    return Outcome(name, "", time.monotonic() - begun)
