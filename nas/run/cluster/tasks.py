"""Independent tasks on a cluster."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nas.run.cluster.connection import connected
from nas.run.cluster.place import Lost, Place, check, first_line, machines

T = TypeVar("T")
R = TypeVar("R")


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

        def task(item: T) -> R:
            if own_core:
                needs.claim()
            return function(item)

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
            (first, *_), _ = ray.wait(list(waiting))
            slot, item = waiting.pop(first)
            try:
                result = ray.get(first)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # not its twin, whose text is a traceback
            except ray.exceptions.RayError as error:
                if not slot or not (free or waiting):  # `max_retries` were in vain, or no machine is left
                    raise Lost(f"a task was lost again and again: {first_line(error)}") from None
                rest = itertools.chain([item], rest)  # that machine is gone; another one takes its item
                continue
            free.append(slot)
            yield result


def _only_there(node: str, cpus: float) -> dict[str, Any]:
    """Options of a task that has a machine to itself."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": cpus, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
