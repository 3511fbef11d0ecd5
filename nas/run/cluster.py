"""Work on a Ray cluster; the one module that knows Ray, which starts processes and tells when one is lost."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.metadata
import itertools
import os
import pathlib
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from nas.run import cores

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
class Needs:
    """What one process needs.

    Attributes:
      cpus, gpus: as Ray counts them.
      resources: others, e.g. {"TPU": 4}.
    """

    cpus: float = 1
    gpus: float = 0
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def asked(self) -> dict[str, float]:
        """{resource: amount}, without what is not needed."""
        every = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in every.items() if amount}

    @property
    def options(self) -> dict[str, Any]:
        """As Ray wants them."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources) or None}

    @property
    def on_cpu(self) -> bool:
        """No accelerator is asked for."""
        return not (self.gpus or self.resources)

    def claim(self) -> None:
        """Keep this process on cores of its own, where it computes on cores at all."""
        if self.on_cpu:
            cores.claim(max(int(self.cpus), 1))


@dataclasses.dataclass(frozen=True)
class Place:
    """A cluster, and what each process needs of it.

    Attributes:
      address: "auto", host:port, or "local": a cluster of this process's own, on 127.0.0.1, which ends with it.
      needs: of each process.
    """

    address: str
    needs: Needs = Needs()


@contextlib.contextmanager
def connected(address: str, cpus: int = 0) -> Iterator[Any]:
    """Ray, connected to a cluster; left alone if it is already.

    Args:
      address: see `Place`.
      cpus: of a local one, at least; it has one for each core in any case.

    Raises:
      ValueError: no cluster there, within seconds; or one of another version.
    """
    if address == LOCAL:
        os.environ[_CLOSED] = "0"
    else:
        _check_reachable(address)
    # before Ray is imported: nothing about its use is sent away; `uv run` ships no working tree to the workers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "num_cpus": max(cpus, cores.count())}
    try:
        with _once_tried(address):
            ray.init(address, **options)
    except Exception as error:  # Ray raises `Exception` itself where a cluster does not start
        raise ValueError(f"--ray {address}: cannot join a cluster there ({_why(error)})") from None
    try:
        with _terminated_as_interrupted():
            yield ray
    finally:
        ray.shutdown()


_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CLOSED = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for systems where it makes no clusters. "0": its processes listen on 127.0.0.1 and take "127.0.0.1"
as it is. Otherwise they listen on all interfaces, and take it for the address by which others know this machine. Read
when Ray is imported. Seen in Ray 2.60."""


def _check_reachable(address: str) -> None:
    """Raises ValueError if nothing answers; Ray would try for minutes. To be called before Ray is imported.

    A cluster that listens on 127.0.0.1 only is told from one that others can reach.
    """
    text = (os.environ.get("RAY_ADDRESS") or _last_started()) if address == "auto" else address
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        return  # Ray knows no cluster on this machine, and says so at once
    hosts, why = [_own_address(), "127.0.0.1"] if host in _LOOPBACK else [host], ""
    for one in hosts:
        try:
            socket.create_connection((one, int(port)), timeout=_REACHED_S).close()
        except OSError as error:
            why = str(error)
            continue
        if one == "127.0.0.1":
            os.environ[_CLOSED] = "0"
        return
    raise ValueError(f"--ray {address}: nothing answers there ({why}); is the head running?")


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, by which `ray job stop` ends a job, is as Ctrl-C; Ray would print the stack of its C++."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _why(error: Exception) -> str:
    """What Ray says, as far as it helps, and a cure."""
    text = str(error.__cause__ or "").strip() or str(error).strip() or type(error).__name__
    text = text.splitlines()[-1].partition(". ")[0].removeprefix("ray.exceptions.")
    if "Authentication" in text:
        return f"{text}; set RAY_AUTH_MODE=token, and copy the head's ~/.ray/auth_token to this machine"
    return f"{text}; start one with `ray start --head`" if isinstance(error, ConnectionError) else text


def _last_started() -> str:
    """Address of the cluster that was last started on this machine; where Ray keeps it."""
    try:
        return pathlib.Path(tempfile.gettempdir(), "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _own_address() -> str:
    """By which other machines know this one: that of the interface that leads outside. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 1))  # RFC 5737: nobody's
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


@contextlib.contextmanager
def _once_tried(address: str) -> Iterator[None]:
    """Where something else than Ray answers, Ray tries twenty times for forty seconds; once is enough."""
    name = "RAY_gcs_server_port_wait_time_s"
    if address == LOCAL or name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


def each(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    place: Place,
    own_core: bool = False,
    own_machine: bool = False,
) -> Iterator[R]:
    """Results of independent tasks as they are ready, in any order; see `nas.run.parallel.Workers.each`."""
    needs = place.needs
    with connected(place.address) as ray:
        _check_resources(ray, place, 1)

        def task(item: T) -> R:
            if own_core:
                needs.claim()
            return function(item)

        # its own process for each item: cores that are claimed, and JAX's devices, are of a process
        remote = ray.remote(max_retries=3, max_calls=1 if own_core else 0, **needs.options)(task)
        machines = {node["NodeID"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]}
        if own_machine:
            slots = [_only_there(node, cpus) for node, cpus in machines.items() if cpus]
        else:
            slots = [{} for _ in range(2 * max(int(sum(machines.values())), 1))]  # a few ahead, there may be a million
        free, rest = collections.deque(slots), iter(items)
        waiting: dict[Any, tuple[dict[str, Any], T]] = {}
        while True:
            for item in itertools.islice(rest, len(free)):
                slot = free.popleft()
                waiting[remote.options(**slot).remote(item)] = slot, item
            if not waiting:
                return
            (first, *_), _ = ray.wait(list(waiting))
            slot, item = waiting.pop(first)
            try:
                result = ray.get(first)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # not its twin, whose text is a traceback
            except ray.exceptions.RayError as error:
                if not slot or not (free or waiting):  # `max_retries` were in vain, or no machine is left
                    raise Lost(f"a task was lost again and again: {_first_line(error)}") from None
                rest = itertools.chain([item], rest)  # that machine is gone; another one takes its item
                continue
            free.append(slot)
            yield result


def _only_there(node: str, cpus: float) -> dict[str, Any]:
    """Options of a task that has a machine to itself."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": cpus, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


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
        _check_resources(ray, place, workers)
        for attempt in range(restarts + 1):
            try:
                return _attempt(ray, function, place.needs, workers, line)
            except ray.exceptions.RayActorError as error:
                if attempt == restarts:
                    break
                line.say(f"a worker was lost ({_first_line(error)}); all start again from the last checkpoint")
                _wait_for_resources(ray, place, workers)
        raise Lost(f"workers were lost {restarts + 1} times; the last checkpoint is kept")


def _attempt(ray: Any, function: Callable[[Line], T], needs: Needs, workers: int, line: Line) -> T:
    """One start of all processes, until they end or one is lost; none is left behind."""
    # so many processes of one machine must not take each other's accelerators, nor look for what is not asked for
    environment = {"env_vars": {"JAX_PLATFORMS": "cpu"}} if needs.on_cpu else None
    options = {**needs.options, "max_restarts": 0, "max_concurrency": 2, "runtime_env": environment}
    kind = ray.remote(**options)(_Process)
    actors = [kind.remote() for _ in range(workers)]
    runs: list[Any] = []
    try:
        own = _version()
        about = ray.get([actor.about.remote() for actor in actors], timeout=_STARTED_S)
        for version, _ in about:
            if version != own:
                raise ValueError(f"workers run mnv4-nas {version}, this is {own}; install the same version everywhere")
        coordinator = ray.get(actors[0].free_address.remote(), timeout=_STARTED_S)
        hosts = collections.Counter(host for _, host in about)
        line.say(f"{workers} workers: " + ", ".join(f"{n} on {host}" for host, n in hosts.items()))
        work = (function, needs, workers, coordinator)
        runs = [actor.run.remote(*work, rank) for rank, actor in enumerate(actors)]
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


def _check_resources(ray: Any, place: Place, count: int) -> None:
    """Raises ValueError if the cluster, or for one process its largest machine, has too little."""
    each, there = place.needs.asked, ray.cluster_resources()
    if any(there.get(name, 0) < count * amount for name, amount in each.items()):
        asked = f"{count} of {_list(each)} each" if count > 1 else _list(each)
        raise ValueError(f"--ray {place.address}: the cluster has {_list(there, each)}; asked for: {asked}")
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(machine.get(name, 0) >= n for name, n in each.items()) for machine in machines):
        every = "; ".join(sorted((_list(machine, each) for machine in machines), reverse=True))
        raise ValueError(f"--ray {place.address}: no machine has {_list(each)}, only: {every}")


def _list(amounts: Mapping[str, float], names: Iterable[str] = ()) -> str:
    return ", ".join(f"{amounts.get(name, 0):g} {name}" for name in names or amounts)


def _wait_for_resources(ray: Any, place: Place, workers: int) -> None:
    """A lost machine may come back; what the cluster still has must be enough in the end."""
    end = time.monotonic() + _STARTED_S
    while time.monotonic() < end:
        free = ray.available_resources()
        if all(free.get(name, 0) >= workers * amount for name, amount in place.needs.asked.items()):
            return
        time.sleep(_POLL_S)
    try:
        _check_resources(ray, place, workers)
    except ValueError as error:
        raise Lost(f"{error}; the last checkpoint is kept") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _version() -> str:
    return importlib.metadata.version("mnv4-nas")


class _Process:
    """One of the processes, as a Ray actor: `run` in one thread, questions in another."""

    def __init__(self) -> None:
        self._step: tuple[int, str] | None = None
        self._said: list[str] = []

    def about(self) -> tuple[str, str]:
        """(version, name of the machine)."""
        return _version(), socket.gethostname()

    def free_address(self) -> str:
        """host:port that is free here, at the address by which the cluster knows this machine."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"{host}:{probe.getsockname()[1]}"

    def run(self, function: Callable[[Line], T], needs: Needs, count: int, coordinator: str, rank: int) -> T:
        needs.claim()
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
