"""One function on many items, here and in other processes."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest

from nas.run.parallel import Workers


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_item_once(workers: int) -> None:
    assert sorted(Workers(workers).each(operator.neg, list(range(7)))) == list(range(-6, 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_it(workers: int) -> None:
    function: Callable[[int], float] = (1).__truediv__
    with pytest.raises(TypeError):
        list(Workers(workers).each(operator.index, [1, "2", 3]))  # pyright: ignore[reportArgumentType]
    assert list(Workers(workers).each(function, [])) == []
