"""Work on a Ray cluster; the one module that knows Ray, which starts processes and tells when one is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "local"
_REACHED_S, _STARTED_S, _LOST_S, _POLL_S = 10.0, 30.0, 5.0, 0.5


class Lost(RuntimeError):
    """Processes were lost again and again."""


class Line(Protocol):
    """Where a run shows its progress, as `nas.run.log.LiveLine` does."""

    def show(self, step: int, text: str) -> None:
        """Show that `step` steps are done, and `text`."""
        ...

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        ...


@dataclasses.dataclass(frozen=True)
class Workers:
    """Processes that compute together.

    Attributes:
      count: of processes.
      cpus, gpus: of each, as Ray counts them.
      resources: others of each, e.g. {"TPU": 4}.
      restarts: how often all are started again after one was lost, each time from the last checkpoint.
    """

    count: int
    cpus: float = 1
    gpus: float = 0
    resources: dict[str, float] = dataclasses.field(default_factory=dict)
    restarts: int = 3

    @property
    def asked(self) -> dict[str, float]:
        """{resource: amount} of all together."""
        each = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        return {name: self.count * amount for name, amount in each.items() if amount}


@contextlib.contextmanager
def connected(address: str, cpus: int) -> Iterator[Any]:
    """Ray, connected to a cluster; left alone if it is already.

    Args:
      address: "auto", host:port, or "local": a cluster of this process's own, on 127.0.0.1.
      cpus: of a local one.

    Raises:
      ValueError: no cluster there, within seconds.
    """
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "num_cpus": cpus}
    else:
        _check_reachable(address)
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"--ray {address}: no cluster there ({why}); start one with `ray start --head`") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", which looks on this machine and answers at once
    try:
        socket.create_connection((host, int(port)), timeout=_REACHED_S).close()
    except OSError as error:
        raise ValueError(f"--ray {address}: nothing answers there ({error}); is the head running?") from None


def each(function: Callable[[T], R], items: Sequence[T], *, address: str, cpus: int) -> Iterator[R]:
    """Results of independent tasks as they are ready, in any order; see `nas.run.parallel.each`."""
    with connected(address, cpus) as ray:

        @ray.remote(max_retries=3)
        def task(item: T) -> R:
            return function(item)

        rest, waiting = iter(items), []
        ahead = 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        while True:
            for item in rest:
                waiting.append(task.remote(item))
                if len(waiting) >= ahead:
                    break
            if not waiting:
                return
            (first, *_), waiting = ray.wait(waiting)
            try:
                yield ray.get(first)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # not its twin, whose text is a traceback


def together(function: Callable[[Line], T], *, address: str, workers: Workers, line: Line, cpus: int) -> T:
    """What `function` returns in the first of several processes that compute together (`jax.distributed`).

    Every process calls it. Where one is lost, all are stopped and started again: so the function must go on from what
    it has saved. What it raises ends the run.

    Args:
      function: of a module that every machine has; gets a line for its progress (only that of the first is shown).
      address, cpus: see `connected`.
      workers: how many, and what each needs.
      line: shows what the first process shows.

    Raises:
      ValueError: no cluster, too few resources, or workers with another version of this package.
      Lost: processes were lost more often than `workers.restarts`.
    """
    with connected(address, cpus) as ray:
        _check_resources(ray, address, workers)
        for attempt in range(workers.restarts + 1):
            try:
                return _attempt(ray, function, workers, line)
            except ray.exceptions.RayActorError as error:
                why = (str(error).strip() or type(error).__name__).splitlines()[0]
                if attempt == workers.restarts:
                    break
                line.say(f"a worker was lost ({why}); all start again from the last checkpoint")
                _wait_for_resources(ray, address, workers)
        raise Lost(f"workers were lost {workers.restarts + 1} times; the last checkpoint is kept")


def _attempt(ray: Any, function: Callable[[Line], T], workers: Workers, line: Line) -> T:
    """One start of all processes, until they end or one is lost; none is left behind."""
    # so many processes of one machine must not take each other's accelerators, nor look for what is not asked for
    platform = {} if workers.gpus or workers.resources else {"JAX_PLATFORMS": "cpu"}
    kind = ray.remote(
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
        resources=workers.resources or None,
        max_restarts=0,
        max_concurrency=2,
        runtime_env={"env_vars": platform} if platform else None,
    )(_Process)
    actors = [kind.remote() for _ in range(workers.count)]
    runs: list[Any] = []
    try:
        own = _version()
        for version in ray.get([actor.version.remote() for actor in actors], timeout=_STARTED_S):
            if version != own:
                raise ValueError(f"workers run mnv4-nas {version}, this is {own}; install the same version everywhere")
        coordinator = ray.get(actors[0].free_address.remote(), timeout=_STARTED_S)
        runs = [actor.run.remote(function, rank, workers.count, coordinator) for rank, actor in enumerate(actors)]
        waiting, said, last = list(runs), 0, None
        while waiting:
            done, waiting = ray.wait(waiting, timeout=_POLL_S)
            with contextlib.suppress(ray.exceptions.RayActorError):  # `ray.get` of its run says it better
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
        raise error.cause from None  # not its twin, whose text is a traceback
    except ray.exceptions.GetTimeoutError:
        raise ValueError(f"the workers did not start within {_STARTED_S:.0f} s; see `ray status`") from None
    finally:
        for actor in actors:
            ray.kill(actor)


def _raise_if_lost(ray: Any, runs: Sequence[Any]) -> None:
    for run in runs:
        try:
            ray.get(run, timeout=_LOST_S)
        except ray.exceptions.RayActorError:
            raise
        except (ray.exceptions.RayTaskError, ray.exceptions.GetTimeoutError):
            continue


def _check_resources(ray: Any, address: str, workers: Workers) -> None:
    there = ray.cluster_resources()
    short = [name for name, amount in workers.asked.items() if there.get(name, 0) < amount]
    if short:
        has = ", ".join(f"{there.get(name, 0):g} {name}" for name in workers.asked)
        wants = ", ".join(f"{amount:g} {name}" for name, amount in workers.asked.items())
        raise ValueError(f"--ray {address}: the cluster has {has}; {workers.count} workers ask for {wants}")


def _wait_for_resources(ray: Any, address: str, workers: Workers) -> None:
    """A lost machine may come back; what the cluster still has must be enough in the end."""
    end = time.monotonic() + _STARTED_S
    while time.monotonic() < end:
        free = ray.available_resources()
        if all(free.get(name, 0) >= amount for name, amount in workers.asked.items()):
            return
        time.sleep(_POLL_S)
    _check_resources(ray, address, workers)


def _version() -> str:
    return importlib.metadata.version("mnv4-nas")


class _Process:
    """One of the processes, as a Ray actor: `run` in one thread, questions in another."""

    def __init__(self) -> None:
        self._step: tuple[int, str] | None = None
        self._said: list[str] = []

    def version(self) -> str:
        return _version()

    def free_address(self) -> str:
        """host:port that is free here, at the address by which the cluster knows this machine."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"{host}:{probe.getsockname()[1]}"

    def run(self, function: Callable[[Line], T], rank: int, count: int, coordinator: str) -> T:
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
