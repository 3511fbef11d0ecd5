"""Independent tasks on a cluster."""

from __future__ import annotations

import collections
import itertools
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from nas.host import shared
from nas.host.cluster.connection import connected
from nas.host.cluster.spec import (
    ClusterSpec,
    WorkersLost,
    cause,
    check,
    machines,
    package_version,
    reason,
)

T = TypeVar("T")
R = TypeVar("R")

_WAIT_S = 30.0
"""Time without a result after which the cluster's resources are checked again."""


def map_unordered(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    cluster: ClusterSpec,
    dedicated_core: bool = False,
    exclusive_machine: bool = False,
) -> Iterator[R]:
    """Results of independent tasks as soon as they are ready, in any order.

    Args:
      function: See `nas.host.parallel.WorkerPool.map_unordered`.
      items: See there.
      cluster: Cluster, and the resources of each task.
      dedicated_core: See there.
      exclusive_machine: See there.

    Yields:
      The result of one item.

    Raises:
      ValueError: There is no cluster, it has too few resources, or it has another version of this
        package.
      WorkersLost: A task was lost again and again, or the resources that it needs are gone.
    """
    resources = cluster.resources
    with connected(cluster.address) as ray:
        check(ray, cluster, 1)

        folder = os.getcwd()
        version = package_version()
        members = shared.pack(ray.cloudpickle.dumps)

        def task(item: T) -> R:
            if package_version() != version:
                raise ValueError(
                    f"a worker runs mnv4-nas {package_version()}, this is {version}; "
                    "install the same version everywhere"
                )
            resources.enter(folder, dedicated_core=dedicated_core)
            shared.unpack(members)
            try:
                return function(item)
            except KeyboardInterrupt:
                # The machine is being taken away, and the task has saved. Ray retries a task that
                # crashes.
                os._exit(1)

        # Claimed cores and JAX's devices belong to a process: with a dedicated core each item gets
        # a new one.
        calls = 1 if dedicated_core else 0
        remote = ray.remote(max_retries=3, max_calls=calls, **resources.options)(task)
        if exclusive_machine:
            slots = [
                _only_on(node["NodeID"], node["Resources"]["CPU"])
                for node in machines(ray, resources)
            ]
        else:
            # Submit a few items ahead, not all of them: there may be a million.
            ahead = 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
            slots = [{} for _ in range(ahead)]
        free = collections.deque(slots)
        remaining = iter(items)
        waiting: dict[Any, tuple[dict[str, Any], T]] = {}
        while True:
            for item in itertools.islice(remaining, len(free)):
                slot = free.popleft()
                waiting[remote.options(**slot).remote(item)] = slot, item
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting), timeout=_WAIT_S)
            if not ready:
                _check_again(ray, cluster)
                continue
            first = ready[0]
            slot, item = waiting.pop(first)
            try:
                result = ray.get(first)
            except ray.exceptions.RayTaskError as error:
                raise cause(error) from None
            except ray.exceptions.RayError as error:
                # Either all retries failed, or no machine is left.
                if not slot or not (free or waiting):
                    name = str(getattr(item, "name", item))
                    name = textwrap.shorten(name, 60, placeholder=" ...")
                    raise WorkersLost(f"{name}: lost again and again ({reason(error)})") from None
                # This machine is gone; another one takes its item.
                remaining = itertools.chain([item], remaining)
                continue
            free.append(slot)
            yield result


def _check_again(ray: Any, cluster: ClusterSpec) -> None:
    """Raise WorkersLost if the resources of a task are gone; Ray would wait for them for ever."""
    try:
        check(ray, cluster, 1)
    except ValueError as error:
        raise WorkersLost(str(error)) from None


def _only_on(node: str, cpus: float) -> dict[str, Any]:
    """Options of a task that runs on one machine and uses all its CPUs."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {
        "num_cpus": cpus,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
