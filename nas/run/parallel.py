"""One function on many items: here, in processes of this machine, or on a Ray cluster, with the same results."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nas.run import cluster

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int,
    ray_address: str | None = None,
    own_core: bool = False,
) -> Iterator[R]:
    """Results as they are ready, in any order; the first error ends it, and what has not begun is not begun.

    Args:
      function: of a module, so that another process can import it.
      items: what can be pickled.
      workers: processes; 1: this one. On a cluster it counts for nothing.
      ray_address: "auto" or an address: as tasks of that cluster, "local": of one on this machine. Files must lie where
        all machines see them under the same path.
      own_core: give each process of this machine a core of its own, for work that would use all of them.
    """
    if ray_address is not None:
        yield from cluster.each(function, items, address=ray_address, cpus=cores())
    elif workers == 1 or len(items) < 2:
        yield from map(function, items)
    else:
        yield from _in_processes(function, items, min(workers, len(items)), own_core)


def _in_processes(function: Callable[[T], R], items: Sequence[T], workers: int, own_core: bool) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of libraries loaded here
    free = None
    if own_core and hasattr(os, "sched_getaffinity"):
        known, free = sorted(os.sched_getaffinity(0)), context.SimpleQueue()
        for number in range(workers):
            free.put(known[number % len(known)])
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _worker, (free,))
    try:
        # a few ahead, not all: there may be a million
        waiting, rest = set(), iter(items)
        while True:
            for item in rest:
                waiting.add(pool.submit(function, item))
                if len(waiting) >= 2 * workers:
                    break
            if not waiting:
                return
            done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _worker(free: Any) -> None:
    """What a new process does first: take a core, if there is a queue of free ones.

    Ctrl-C reaches all processes of a terminal; the first one tells the others to stop.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if free is not None:
        os.sched_setaffinity(0, {free.get()})
