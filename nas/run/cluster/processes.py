"""Processes that compute together on a cluster, started again when one is lost."""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nas.run.cluster.connection import connected
from nas.run.cluster.place import Lost, Needs, Place, cause, check, own_version, why
from nas.run.log import Line

T = TypeVar("T")

_STARTED_S, _LOST_S = 30.0, 20.0
_POLL_S = 2.0  # between two looks at the progress; every half second they cost 5 % of a step of 80 ms


def together(function: Callable[[Line], T], *, place: Place, workers: int, line: Line, restarts: int = 3) -> T:
    """What `function` returns in the first of several processes that compute together (`jax.distributed`).

    Every process calls it. Where one is lost, all are stopped and started again: so the function must go on from what
    it has saved. What it raises ends the run.

    Args:
      function: of a module that every machine has; gets a line for its progress (only that of the first is shown).
      place: where; a local cluster has a CPU for each worker, however few cores there are.
      workers: how many processes.
      line: shows what the first process shows.
      restarts: how often all are started again after one was lost, each time from the last checkpoint.

    Raises:
      ValueError: no cluster, too few resources, or workers with another version of this package.
      Lost: processes were lost more often than `restarts`, or what they need is gone.
    """
    with connected(place.address, workers) as ray:
        check(ray, place, workers)
        losses = 0
        while True:
            try:
                return _attempt(ray, function, place.needs, workers, line)
            except _losses(ray) as error:
                losses += 1
                if losses > restarts:
                    text = f"workers were lost {losses} times ({why(error)}); the last checkpoint is kept"
                    raise Lost(text) from None
                line.say(f"a worker was lost ({why(error)}); all start again from the last checkpoint")
                _wait_for_resources(ray, place, workers)
            except ray.exceptions.GetTimeoutError:
                text = f"--ray {place.address}: the workers did not start within {_STARTED_S:.0f} s; is it busy?"
                raise (Lost if losses else ValueError)(text) from None


def _attempt(ray: Any, function: Callable[[Line], T], needs: Needs, workers: int, line: Line) -> T:
    """One start of all processes, until they end or one is lost; none is left behind."""
    kind = ray.remote(**needs.options, max_restarts=0, max_concurrency=2)(_Process)
    actors = [kind.remote() for _ in range(workers)]
    runs: list[Any] = []
    try:
        own = own_version()
        about = ray.get([actor.about.remote() for actor in actors], timeout=_STARTED_S)
        for version, _ in about:
            if version != own:
                raise ValueError(f"workers run mnv4-nas {version}, this is {own}; install the same version everywhere")
        coordinator = ray.get(actors[0].free_address.remote(), timeout=_STARTED_S)
        hosts = collections.Counter(host for _, host in about)
        line.say(f"{workers} workers: " + ", ".join(f"{n} on {host}" for host, n in hosts.items()))
        work = (function, needs, os.getcwd(), workers, coordinator)
        runs = [actor.run.remote(*work, rank) for rank, actor in enumerate(actors)]
        waiting, said, last = list(runs), 0, None
        while waiting:
            done, waiting = ray.wait(waiting, timeout=_POLL_S)
            with contextlib.suppress(*_losses(ray)):  # `ray.get` of its run says it better
                shown, texts = ray.get(actors[0].progress.remote(said))
                for text in texts:
                    line.say(text)
                said += len(texts)
                if shown and shown != last:
                    line.show(*shown)
                    last = shown
            ray.get(done)
        return ray.get(runs[0])
    except ray.exceptions.RayTaskError as error:
        _raise_if_lost(ray, runs)  # whoever computes with a process that is lost fails too, perhaps first
        raise cause(error) from None
    finally:
        for actor in actors:
            ray.kill(actor)


def _losses(ray: Any) -> tuple[type[Exception], ...]:
    """What Ray raises for a process that is gone."""
    return ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError


def _raise_if_lost(ray: Any, runs: Sequence[Any]) -> None:
    """Raises the loss, if there is one among the runs that end now."""
    for run in ray.wait(list(runs), num_returns=max(len(runs), 1), timeout=_LOST_S)[0] if runs else ():
        with contextlib.suppress(ray.exceptions.RayTaskError):
            ray.get(run)


def _wait_for_resources(ray: Any, place: Place, workers: int) -> None:
    """A lost machine may come back; what the cluster still has must be enough in the end."""
    end = time.monotonic() + _STARTED_S
    while time.monotonic() < end:
        free = ray.available_resources()
        if all(free.get(name, 0) >= workers * amount for name, amount in place.needs.asked.items()):
            return
        time.sleep(_POLL_S)
    try:
        check(ray, place, workers)
    except ValueError as error:
        raise Lost(f"{error}; the last checkpoint is kept") from None


class _Process:
    """One of the processes, as a Ray actor: `run` in one thread, questions in another."""

    def __init__(self) -> None:
        self._step: tuple[int, str] | None = None
        self._said: list[str] = []

    def about(self) -> tuple[str, str]:
        """(version, name of the machine)."""
        return own_version(), socket.gethostname()

    def free_address(self) -> str:
        """host:port that is free here, at the address by which the cluster knows this machine."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"{host}:{probe.getsockname()[1]}"

    def run(
        self, function: Callable[[Line], T], needs: Needs, folder: str, count: int, coordinator: str, rank: int
    ) -> T:
        needs.settle(folder)
        if count > 1:
            import jax

            bind = coordinator if rank == 0 else None
            jax.distributed.initialize(coordinator, count, rank, coordinator_bind_address=bind)
        return function(self)

    def show(self, step: int, text: str) -> None:
        self._step = (step, text)

    def say(self, text: str) -> None:
        self._said.append(text)

    def progress(self, known: int) -> tuple[tuple[int, str] | None, list[str]]:
        """The last step shown, and what was said beyond the first `known` lines."""
        return self._step, self._said[known:]
