"""Independent tasks on a cluster."""

from __future__ import annotations

import collections
import itertools
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nas.run.cluster.connection import connected
from nas.run.cluster.place import Lost, Place, cause, check, machines, own_version, why

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S = 30.0


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
        check(ray, place, 1)

        folder, version = os.getcwd(), own_version()

        def task(item: T) -> R:
            if own_version() != version:
                raise ValueError(
                    f"a worker runs mnv4-nas {own_version()}, this is {version}; install the same everywhere"
                )
            needs.settle(folder, own_core=own_core)
            try:
                return function(item)
            except KeyboardInterrupt:  # its machine is being taken away, and it has saved: Ray tries again what crashes
                os._exit(1)

        # its own process for each item: cores that are claimed, and JAX's devices, are of a process
        remote = ray.remote(max_retries=3, max_calls=1 if own_core else 0, **needs.options)(task)
        if own_machine:
            slots = [_only_there(node["NodeID"], node["Resources"]["CPU"]) for node in machines(ray, needs)]
        else:
            ahead = 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)  # not all: there may be a million
            slots = [{} for _ in range(ahead)]
        free, rest = collections.deque(slots), iter(items)
        waiting: dict[Any, tuple[dict[str, Any], T]] = {}
        while True:
            for item in itertools.islice(rest, len(free)):
                slot = free.popleft()
                waiting[remote.options(**slot).remote(item)] = slot, item
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting), timeout=_LOOK_S)
            if not ready:
                _check_still(ray, place)
                continue
            first = ready[0]
            slot, item = waiting.pop(first)
            try:
                result = ray.get(first)
            except ray.exceptions.RayTaskError as error:
                raise cause(error) from None
            except ray.exceptions.RayError as error:
                if not slot or not (free or waiting):  # `max_retries` were in vain, or no machine is left
                    what = textwrap.shorten(str(getattr(item, "name", item)), 60, placeholder=" ...")
                    raise Lost(f"{what}: lost again and again ({why(error)})") from None
                rest = itertools.chain([item], rest)  # that machine is gone; another one takes its item
                continue
            free.append(slot)
            yield result


def _check_still(ray: Any, place: Place) -> None:
    """Raises Lost where what a task needs is gone: Ray would wait for it for ever."""
    try:
        check(ray, place, 1)
    except ValueError as error:
        raise Lost(str(error)) from None


def _only_there(node: str, cpus: float) -> dict[str, Any]:
    """Options of a task that has a machine to itself."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": cpus, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
