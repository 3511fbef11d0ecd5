"""What is asked of a searcher."""

from __future__ import annotations

from nas.search import derive


def test_no_more_is_proposed_than_is_judged() -> None:
    """A searcher counts what it is asked: evolution begins with so many random ones."""
    proposed = iter([(0,), (1,), (1,), (2,), (3,), (4,)])
    assert derive._first_new(proposed, {(0,)}, 3) == [(1,), (2,), (3,)]
    assert list(proposed) == [(4,)]
    assert derive._first_new(iter([(0,)]), {(0,)}, 3) == []
