"""One function on many items: here, in processes of this machine, or on a Ray cluster, with the same results."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nas.run import cluster, cores
from nas.run.interrupt import terminated_as_interrupted

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Workers:
    """Where independent work is done.

    Attributes:
      count: of processes; 1: this one, but for work that wants cores of its own. With a place it counts for nothing.
      place: a cluster whose tasks they are. Files must lie where all machines see them under the same path.
    """

    count: int = 1
    place: cluster.Place | None = None

    def each(
        self, function: Callable[[T], R], items: Sequence[T], *, own_core: bool = False, own_machine: bool = False
    ) -> Iterator[R]:
        """Results as they are ready, in any order; the first error ends it, and what has not begun is not begun.

        Args:
          function: of a module, so that another process can import it.
          items: what can be pickled.
          own_core: give each process a core of its own, for work that would use all of them: also a single process or
            item, since sums on a CPU, and so what is trained, depend on how many cores there are. On a cluster each
            item then has a process of its own too.
          own_machine: one item at a time on a machine, for work that is timed.
        """
        if self.place is not None:
            yield from cluster.each(function, items, place=self.place, own_core=own_core, own_machine=own_machine)
        elif own_machine or not items or (not own_core and 1 in (self.count, len(items))):
            yield from map(function, items)
        else:
            with terminated_as_interrupted():
                yield from _in_processes(function, items, min(self.count, len(items)), own_core)


ALONE = Workers()
"""This process."""


def _in_processes(function: Callable[[T], R], items: Sequence[T], workers: int, own_core: bool) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of libraries loaded here
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _worker, (own_core,))
    others = set(multiprocessing.active_children())
    try:
        # a few ahead, not all: there may be a million
        waiting, rest = set(), iter(items)
        while True:
            for item in rest:
                waiting.add(pool.submit(_run, function, item))
                if len(waiting) >= 2 * workers:
                    break
            if not waiting:
                return
            done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except (KeyboardInterrupt, GeneratorExit):  # here, or where the results are used
        for process in {*multiprocessing.active_children()} - others:
            process.terminate()  # a search saves and ends; what else runs here is made again or kept in whole files
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run(function: Callable[[T], R], item: T) -> R:
    try:
        return function(item)
    except KeyboardInterrupt:  # it has saved; the pool would go on with the next item
        os._exit(1)


def _worker(own_core: bool) -> None:
    """What a new process does first.

    Ctrl-C reaches all processes of a terminal; the first one tells the others to stop. Where that one is killed, they
    end too, rather than work beside the same command started again.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (first := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(first,), daemon=True).start()
    if own_core:
        cores.claim(1)


def _end_with(first: Any) -> None:
    first.join()
    os._exit(1)
