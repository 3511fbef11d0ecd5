"""Reading ahead changes nothing but the time."""

from __future__ import annotations

import threading

import pytest

from nas.data.prefetch import Prefetcher


def test_every_step_gets_its_own_and_none_is_read_beyond_the_end() -> None:
    asked: list[int] = []

    def read(step: int) -> int:
        asked.append(step)
        return step * step

    with Prefetcher(read, end=6) as ahead:
        assert [ahead(step) for step in range(2, 6)] == [4, 9, 16, 25]
    assert asked == [2, 3, 4, 5]


def test_the_next_is_read_while_the_first_is_used() -> None:
    begun = threading.Event()
    with Prefetcher(lambda step: begun.set() if step == 1 else None, end=9) as ahead:
        ahead(0)
        assert begun.wait(5)


def test_another_order_is_right_too() -> None:
    with Prefetcher(lambda step: step, end=9) as ahead:
        assert [ahead(step) for step in (3, 1, 2, 8, 8)] == [3, 1, 2, 8, 8]


def test_an_error_comes_where_its_step_is_asked_for() -> None:
    def read(step: int) -> int:
        if step == 1:
            raise ValueError("damaged")
        return step

    with Prefetcher(read, end=9) as ahead:
        assert ahead(0) == 0
        with pytest.raises(ValueError, match="damaged"):
            ahead(1)
