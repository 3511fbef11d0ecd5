"""One function on many items: in this process, in processes of this machine, or on a Ray cluster.

The results are the same in each case.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nas.host import cores, shared
from nas.host.cluster import ClusterSpec, map_unordered
from nas.host.interrupt import sigterm_as_interrupt

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class WorkerPool:
    """Processes for independent work.

    Attributes:
      count: Number of processes. 1 is this process, unless a dedicated core is requested. Ignored
        on a cluster.
      cluster: Cluster that runs the work as tasks, or None for this machine. Files must be on a
        path that all its machines share.
    """

    count: int = 1
    cluster: ClusterSpec | None = None

    def map_unordered(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        dedicated_core: bool = False,
        exclusive_machine: bool = False,
    ) -> Iterator[R]:
        """Results as soon as they are ready, in any order.

        The first error ends the iteration; items that have not been started are dropped. Other
        processes know the members that users have added to families, see `nas.host.shared`.

        Args:
          function: Function of a module, so that another process can import it.
          items: Arguments of `function`; they must be picklable.
          dedicated_core: Give each process a core of its own, for work that would otherwise use all
            cores. This also holds for a single process or item: sums on a CPU, and therefore
            trained weights, depend on the number of cores. On a cluster each item then also gets a
            process of its own.
          exclusive_machine: Run one item at a time on a machine, for work that is timed.

        Yields:
          The result of one item.

        Raises:
          ValueError: A user's member of a family cannot be sent to another process.
        """
        if self.cluster is not None:
            yield from map_unordered(
                function,
                items,
                cluster=self.cluster,
                dedicated_core=dedicated_core,
                exclusive_machine=exclusive_machine,
            )
            return
        in_this_process = not dedicated_core and 1 in (self.count, len(items))
        if exclusive_machine or not items or in_this_process:
            yield from map(function, items)
            return
        with sigterm_as_interrupt():
            workers = min(self.count, len(items))
            yield from _in_processes(function, items, workers, dedicated_core)


ALONE = WorkerPool()
"""This process."""


def _in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int, dedicated_core: bool
) -> Iterator[R]:
    # Not "fork": it would copy locks that threads of loaded libraries hold.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, _start_worker, (dedicated_core, shared.pack())
    )
    others = set(multiprocessing.active_children())
    try:
        # Submit a few items ahead, not all of them: there may be a million.
        waiting: set[concurrent.futures.Future[R]] = set()
        remaining = iter(items)
        while True:
            for item in remaining:
                waiting.add(pool.submit(_run, function, item))
                if len(waiting) >= 2 * workers:
                    break
            if not waiting:
                return
            finished, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in finished:
                yield future.result()
    except (KeyboardInterrupt, GeneratorExit):  # raised here, or where the results are used
        # A search saves a checkpoint and ends. Other work writes whole files only, or is repeated.
        for process in {*multiprocessing.active_children()} - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_start_errors: list[ValueError] = []
"""Error of `_start_worker` in this process.

Raised there, it would end the process, and the parent process would not get its text.
"""


def _run(function: Callable[[T], R], item: T) -> R:
    if _start_errors:
        raise _start_errors[0]
    try:
        return function(item)
    except KeyboardInterrupt:  # the function has saved; the pool would start the next item
        os._exit(1)


def _start_worker(dedicated_core: bool, members: tuple[shared.Member, ...]) -> None:
    """Set up a new process.

    Ctrl-C reaches all processes of a terminal. The workers ignore it: the parent process ends them.
    If the parent is killed, they end too, so that they do not run beside the same command when it
    is started again.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if dedicated_core:
        cores.pin_to_free_cores(1)
    try:
        shared.unpack(members)
    except ValueError as error:
        _start_errors.append(error)


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
