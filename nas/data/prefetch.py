"""Prefetching: the next batches are read while a step runs."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Callable equivalent of `read` that reads ahead; use it as a context manager.

    The result of a step depends on its number alone, so a resumed run needs no saved state.

    Args:
      read: Function from a step to its data; runs in a thread of its own.
      end: First step that is not read.
      depth: Number of steps that are read ahead.
    """

    def __init__(self, read: Callable[[int], T], end: int, depth: int = 2):
        self._read = read
        self._end = end
        self._depth = depth
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._waiting: collections.deque[tuple[int, concurrent.futures.Future[T]]] = (
            collections.deque()
        )

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __call__(self, step: int) -> T:
        """Return what `read(step)` returns, or raise what it raises.

        Args:
          step: Number of the step. Any order is correct; increasing order is fast.

        Returns:
          Data of the step.
        """
        if not self._waiting or self._waiting[0][0] != step:
            self._waiting.clear()
        following = self._waiting[-1][0] + 1 if self._waiting else step
        while len(self._waiting) <= self._depth and (following < self._end or following == step):
            self._waiting.append((following, self._thread.submit(self._read, following)))
            following += 1
        return self._waiting.popleft()[1].result()
