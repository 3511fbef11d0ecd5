"""Reading ahead: the next batches are made while a step runs."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """As `read`, for steps asked for in order; use it as a context manager.

    What a step reads depends on its number alone, so nothing that was read ahead has to be saved for a resumed run.

    Args:
      read: what a step needs; runs in one thread of its own.
      end: no step from here on is read.
      depth: steps ahead.
    """

    def __init__(self, read: Callable[[int], T], end: int, depth: int = 2):
        self._read, self._end, self._depth = read, end, depth
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._waiting: collections.deque[tuple[int, concurrent.futures.Future[T]]] = collections.deque()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __call__(self, step: int) -> T:
        """What `read(step)` returns, or raises."""
        if not self._waiting or self._waiting[0][0] != step:
            self._waiting.clear()
        following = self._waiting[-1][0] + 1 if self._waiting else step
        while len(self._waiting) <= self._depth and (following < self._end or following == step):
            self._waiting.append((following, self._thread.submit(self._read, following)))
            following += 1
        return self._waiting.popleft()[1].result()
