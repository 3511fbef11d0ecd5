"""Order of a teacher's outputs, seen in its answers to labelled images.

A better order than the one that is declared is accepted only on images that did not suggest it.
Letters: n images, k classes, o outputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

CHANCE = 1e-3
"""Largest probability of a difference by chance that counts as one. Source: ours."""
_TIMES, _LEAST = 2.0, 0.25
"""A better order is right this many times as often, and this often. Source: ours."""
_NEVER, _OFTEN = 0.05, 0.6
"""Exchanged classes: right this often as declared, and otherwise. Source: ours."""
_FEW = 4
"""Least images of each exchanged class. Source: ours."""


class Evidence(NamedTuple):
    """Two ways to read the answers to the same n images.

    Attributes:
      declared: bool [n], whether each is right as declared.
      other: bool [n], whether each is right in the other way.
    """

    declared: np.ndarray
    other: np.ndarray

    @property
    def is_clear(self) -> bool:
        """Whether the other way is right twice as often, and not by chance (sign test)."""
        if not len(self.other):
            return False
        wins = int((self.other & ~self.declared).sum())
        losses = int((self.declared & ~self.other).sum())
        enough = self.other.mean() >= max(_TIMES * self.declared.mean(), _LEAST)
        return bool(enough) and by_chance(wins, losses) < CHANCE

    @property
    def is_exchange(self) -> bool:
        """Whether it is right mostly in the other way, and hardly ever as declared."""
        return self.is_clear and self.declared.mean() <= _NEVER and self.other.mean() >= _OFTEN

    def of(self, rows: np.ndarray) -> Evidence:
        """The evidence of some images.

        Args:
          rows: bool [n].
        """
        return Evidence(self.declared[rows], self.other[rows])


class Order(NamedTuple):
    """Another order of the outputs.

    Attributes:
      kept: Position among the outputs of each class.
      moved: Classes whose output is another one than declared.
      reason: Kind of the order, as the end of a sentence; "" where there is no name for it.
      is_sure: Whether it contradicts the declared order: the answers to all images are right twice
        as often, or classes are exchanged that are never right as declared. A teacher that only
        confuses some classes with each other does neither.
    """

    kept: tuple[int, ...]
    moved: tuple[int, ...]
    reason: str
    is_sure: bool


def by_chance(wins: int, losses: int) -> float:
    """Probability of at least so many wins if wins and losses are equally likely.

    Args:
      wins: Number of wins.
      losses: Number of losses.
    """
    n = wins + losses
    return sum(math.comb(n, i) for i in range(wins, n + 1)) / 2**n


def better_order(
    labels: np.ndarray, answers: np.ndarray, kept: Sequence[int], class_names: Sequence[str]
) -> Order | None:
    """Find an order of the outputs that fits the labels clearly better than the declared one.

    First that in which other programs sort the names. Then any: half of the images of each class
    suggest an assignment of classes to outputs, the other half is held against it, and vice versa.
    Only classes count whose images fit the other output better, and whose output is taken by no
    class that stays.

    Args:
      labels: int [n], classes.
      answers: int [n], position of the largest output.
      kept: Position among the outputs of each class, as declared.
      class_names: Names of the k classes.

    Returns:
      The order; None if none is clearly better.
    """
    known = labels >= 0
    labels, answers, declared = labels[known], answers[known], np.array(kept)
    for other, reason in _sorted_otherwise(class_names, declared):
        evidence = Evidence(*(answers == outputs[labels] for outputs in (declared, other)))
        if evidence.is_clear:
            return _order(declared, other, reason, True)
    half = _rank(labels) % 2 == 1
    right = np.zeros((2, len(labels)), bool)
    moved = np.zeros(len(labels), bool)
    for fold in (half, ~half):
        other = _assigned(labels[fold], answers[fold], declared)
        for row, outputs in enumerate((declared, other)):
            right[row, ~fold] = (answers == outputs[labels])[~fold]
        moved |= ~fold & (other != declared)[labels]
    every = Evidence(*right)
    other = _assigned(labels, answers, declared)
    if not (other != declared).any() or not (every.is_clear or every.of(moved).is_clear):
        return None
    changes = other != declared
    # Where outputs only change places, no class takes that of one without images.
    is_closed = set(other[changes].tolist()) == set(declared[changes].tolist())
    is_closed &= bool(np.bincount(labels, minlength=len(declared))[changes].min() >= _FEW)
    is_sure = every.is_clear or (is_closed and every.of(moved).is_exchange)
    return _order(declared, other, "", is_sure)


def assignment(gain: np.ndarray) -> np.ndarray:
    """Give each row a column of its own so that the sum of the gains is the largest.

    Rows are added one by one along the cheapest path of exchanges, whose costs two sets of prices
    keep at 0 or above (the Hungarian method), so the result is optimal after each.

    Args:
      gain: [k, o], k <= o.

    Returns:
      int [k], columns.
    """
    rows, columns = gain.shape
    cost = gain.max() - gain
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)
    for start in range(rows):
        distance, before = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, bool)
        row, column, least = start, -1, 0.0
        path: list[tuple[int, float]] = [(start, 0.0)]
        while True:
            reduced = least + cost[row] - row_price[row] - column_price
            closer = ~done & (reduced < distance)
            distance[closer], before[closer] = reduced[closer], column
            column = int(np.where(done, np.inf, distance).argmin())
            least = float(distance[column])
            done[column] = True
            if owner[column] < 0:
                break
            row = int(owner[column])
            path.append((row, least))
        for each, reached in path:
            row_price[each] += least - reached
        column_price[done] -= least - distance[done]
        while column >= 0:
            previous = int(before[column])
            owner[column] = start if previous < 0 else owner[previous]
            column = previous
    taken = np.flatnonzero(owner >= 0)
    result = np.empty(rows, np.int64)
    result[owner[taken]] = taken
    return result


def _assigned(labels: np.ndarray, answers: np.ndarray, declared: np.ndarray) -> np.ndarray:
    """The declared outputs with those exchanges that fit the images better."""
    present = np.unique(labels)
    other = declared.copy()
    if not len(present):
        return other
    outputs = int(max(answers.max(), declared.max())) + 1
    counts = np.zeros((len(declared), outputs))
    np.add.at(counts, (labels, answers), 1)
    gain = counts[present]
    # Among equal ones the declared output.
    gain[np.arange(len(present)), declared[present]] += 0.5 / len(present)
    other[present] = assignment(gain)
    every = np.arange(len(declared))
    moved = counts[every, other] > counts[every, declared]
    while True:
        staying = set(declared[~moved & np.isin(every, present)].tolist())
        dropped = moved & np.isin(other, list(staying))
        if not dropped.any():
            return np.where(moved, other, declared)
        moved &= ~dropped


def _rank(labels: np.ndarray) -> np.ndarray:
    """Number of earlier images with the same label."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return rank


def _order(declared: np.ndarray, other: np.ndarray, reason: str, is_sure: bool) -> Order:
    moved = np.flatnonzero(other != declared).tolist()
    return Order(tuple(other.tolist()), tuple(moved), reason, is_sure)


def _numbers(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits as numbers."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


_SORTS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("that of numbers", _numbers),
    ("that without capitals", str.casefold),
    ("that of numbers, without capitals", lambda name: _numbers(name.casefold())),
)


def _sorted_otherwise(
    class_names: Sequence[str], declared: np.ndarray
) -> list[tuple[np.ndarray, str]]:
    """(outputs, kind of order) if the names of outputs in order were sorted in another way."""
    if declared.tolist() != list(range(len(class_names))):
        return []
    found = []
    for reason, key in _SORTS:
        order = sorted(range(len(class_names)), key=lambda i: key(class_names[i]))  # type: ignore[arg-type,return-value]
        outputs = np.argsort(order)
        if (outputs != declared).any():
            found.append((outputs, reason))
    return found
