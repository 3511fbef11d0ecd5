"""Processes that compute together on a cluster, restarted when one is lost."""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nas.host import shared
from nas.host.cluster.connection import connected
from nas.host.cluster.spec import (
    ClusterSpec,
    WorkerResources,
    WorkersLost,
    cause,
    check,
    package_version,
    reason,
)
from nas.host.progress import Progress

T = TypeVar("T")

_STARTED_S = 30.0
"""Time limit for the start of all processes."""
_LOST_S = 20.0
"""Time in which Ray reports a loss after another process has failed."""
_POLL_S = 2.0
"""Time between two polls of the progress; every half second they cost 5 % of a step of 80 ms."""


def run_distributed(
    function: Callable[[Progress], T],
    *,
    cluster: ClusterSpec,
    workers: int,
    progress: Progress,
    restarts: int = 3,
) -> T:
    """Call a function in several processes that compute together (`jax.distributed`).

    Every process calls it. If one is lost, all are stopped and started again, so the function must
    resume from its last checkpoint. An error that it raises ends the run.

    Args:
      function: Function of a module that every machine has. It gets a progress of its own; only
        that of the first process is shown.
      cluster: Cluster, and the resources of each process. A local cluster has a CPU for each
        worker, however few cores there are.
      workers: Number of processes.
      progress: Receives the progress of the first process.
      restarts: How often all processes are started again after a loss.

    Returns:
      The function's result in the first process.

    Raises:
      ValueError: There is no cluster, it has too few resources, or it has another version of this
        package.
      WorkersLost: Processes were lost more often than `restarts`, or the resources that they need
        are gone.
    """
    with connected(cluster.address, workers) as ray:
        check(ray, cluster, workers)
        losses = 0
        while True:
            try:
                return _attempt(ray, function, cluster.resources, workers, progress)
            except _losses(ray) as error:
                losses += 1
                if losses > restarts:
                    raise WorkersLost(
                        f"workers were lost {losses} times ({reason(error)}); "
                        "the last checkpoint is kept"
                    ) from None
                progress.message(
                    f"a worker was lost ({reason(error)}); "
                    "all workers restart from the last checkpoint"
                )
                _wait_for_resources(ray, cluster, workers)
            except ray.exceptions.GetTimeoutError:
                message = (
                    f"`ray` {cluster.address}: the workers did not start within "
                    f"{_STARTED_S:.0f} s; is it busy?"
                )
                raise (WorkersLost if losses else ValueError)(message) from None


def _attempt(
    ray: Any,
    function: Callable[[Progress], T],
    resources: WorkerResources,
    workers: int,
    progress: Progress,
) -> T:
    """Start all processes and wait until they end or one is lost; none is left behind."""
    kind = ray.remote(**resources.options, max_restarts=0, max_concurrency=2)(_Process)
    actors = [kind.remote() for _ in range(workers)]
    runs: list[Any] = []
    try:
        version = package_version()
        facts = ray.get([actor.about.remote() for actor in actors], timeout=_STARTED_S)
        for workers_version, _ in facts:
            if workers_version != version:
                raise ValueError(
                    f"workers run mnv4-nas {workers_version}, this is {version}; "
                    "install the same version everywhere"
                )
        coordinator = ray.get(actors[0].free_address.remote(), timeout=_STARTED_S)
        hosts = collections.Counter(host for _, host in facts)
        progress.message(
            f"{workers} workers: " + ", ".join(f"{n} on {host}" for host, n in hosts.items())
        )
        members = shared.pack(ray.cloudpickle.dumps)
        work = (function, members, resources, os.getcwd(), workers, coordinator)
        runs = [actor.run.remote(*work, rank) for rank, actor in enumerate(actors)]
        waiting = list(runs)
        known = 0
        last = None
        while waiting:
            finished, waiting = ray.wait(waiting, timeout=_POLL_S)
            # `ray.get` of its run reports a loss better.
            with contextlib.suppress(*_losses(ray)):
                step, events = ray.get(actors[0].progress.remote(known))
                for name, arguments in events:
                    getattr(progress, name)(*arguments)
                known += len(events)
                if step and step != last:
                    progress.update(*step)
                    last = step
            ray.get(finished)
        return ray.get(runs[0])
    except ray.exceptions.RayTaskError as error:
        # A process that computes with a lost one fails too, perhaps before the loss is known.
        _raise_if_lost(ray, runs)
        raise cause(error) from None
    finally:
        for actor in actors:
            ray.kill(actor)


def _losses(ray: Any) -> tuple[type[Exception], ...]:
    """Ray's errors for a process that is gone."""
    return ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError


def _raise_if_lost(ray: Any, runs: Sequence[Any]) -> None:
    """Raise the loss, if there is one among the runs that end now."""
    if not runs:
        return
    finished, _ = ray.wait(list(runs), num_returns=len(runs), timeout=_LOST_S)
    for run in finished:
        with contextlib.suppress(ray.exceptions.RayTaskError):
            ray.get(run)


def _wait_for_resources(ray: Any, cluster: ClusterSpec, workers: int) -> None:
    """Wait for a lost machine to return; raise WorkersLost if the cluster then has too little."""
    end = time.monotonic() + _STARTED_S
    amounts = cluster.resources.amounts
    while time.monotonic() < end:
        free = ray.available_resources()
        if all(free.get(name, 0) >= workers * amount for name, amount in amounts.items()):
            return
        time.sleep(_POLL_S)
    try:
        check(ray, cluster, workers)
    except ValueError as error:
        raise WorkersLost(f"{error}; the last checkpoint is kept") from None


class _Process:
    """One of the processes, as a Ray actor: `run` in one thread, questions in another.

    It is the `Progress` of the function that it runs.
    """

    def __init__(self) -> None:
        self._step: tuple[int, str] | None = None
        self._events: list[tuple[str, tuple[Any, ...]]] = []

    def about(self) -> tuple[str, str]:
        """(version of this package, name of the machine)."""
        return package_version(), socket.gethostname()

    def free_address(self) -> str:
        """Free host:port on this machine, at the address by which the cluster knows it."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"{host}:{probe.getsockname()[1]}"

    def run(
        self,
        function: Callable[[Progress], T],
        members: tuple[shared.Member, ...],
        resources: WorkerResources,
        folder: str,
        count: int,
        coordinator: str,
        rank: int,
    ) -> T:
        """Set up the process, join the others, and call the function."""
        resources.enter(folder)
        if count > 1:
            import jax

            bind = coordinator if rank == 0 else None
            jax.distributed.initialize(coordinator, count, rank, coordinator_bind_address=bind)
        shared.unpack(members)
        return function(self)

    def update(self, step: int, text: str) -> None:
        """See `Progress`."""
        self._step = (step, text)

    def message(self, text: str) -> None:
        """See `Progress`."""
        self._events.append(("message", (text,)))

    def start_phase(self, name: str, total: int) -> None:
        """See `Progress`."""
        self._step = None
        self._events.append(("start_phase", (name, total)))

    def progress(
        self, known: int
    ) -> tuple[tuple[int, str] | None, list[tuple[str, tuple[Any, ...]]]]:
        """The last reported step, and the messages and phases after the first `known` ones."""
        return self._step, self._events[known:]
