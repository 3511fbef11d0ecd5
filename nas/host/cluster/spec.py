"""Description of a cluster and of the resources that each process needs; check that it has them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from nas.host import cores, memory

_ACCELERATORS = ("GPU", "TPU", "NPU", "HPU", "neuron_cores")
"""Ray's names of accelerators. Source: `ray._private.accelerators`."""


class WorkersLost(RuntimeError):
    """Error for processes that were lost more often than allowed, or whose resources are gone."""


@dataclasses.dataclass(frozen=True)
class WorkerResources:
    """Resources that one process needs.

    Attributes:
      cpus: CPUs as Ray counts them.
      gpus: GPUs as Ray counts them.
      resources: Amounts of other resources, e.g. {"TPU": 4}.
    """

    cpus: float = 1
    gpus: float = 0
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def amounts(self) -> dict[str, float]:
        """{resource: amount} of the resources that are needed; amounts of 0 are left out."""
        every = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in every.items() if amount}

    @property
    def on_cpu(self) -> bool:
        """Whether no accelerator is requested."""
        return not any(name in _ACCELERATORS for name in self.amounts)

    @property
    def options(self) -> dict[str, Any]:
        """Options of a Ray task or actor.

        Without a requested accelerator, JAX is limited to CPU: Ray hides no accelerator from such a
        process.
        """
        amounts = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "resources": dict(self.resources) or None,
        }
        environment = memory.ENVIRONMENT | ({"JAX_PLATFORMS": "cpu"} if self.on_cpu else {})
        return {**amounts, "runtime_env": {"env_vars": environment}}

    def enter(self, folder: str, *, dedicated_core: bool = True) -> None:
        """Set up a process of a cluster before it does anything else.

        Args:
          folder: Working folder of the command, for relative paths in its configuration. Ignored
            where it does not exist.
          dedicated_core: Pin the process to cores of its own, if it computes on CPU.
        """
        with contextlib.suppress(OSError):
            os.chdir(folder)
        if dedicated_core and self.on_cpu:
            cores.pin_to_free_cores(max(int(self.cpus), 1))


@dataclasses.dataclass(frozen=True)
class ClusterSpec:
    """A cluster, and the resources that each process needs there.

    Attributes:
      address: "auto", host:port, or "local": a cluster on 127.0.0.1 that belongs to this process
        and ends with it.
      resources: Resources of each process.
    """

    address: str
    resources: WorkerResources = WorkerResources()


def check(ray: Any, cluster: ClusterSpec, count: int) -> None:
    """Check that a cluster has enough resources.

    Args:
      ray: The module, connected.
      cluster: Address and resources of each process.
      count: Number of processes.

    Raises:
      ValueError: The cluster has too little, or no machine has enough for one process.
    """
    each = cluster.resources.amounts
    available = ray.cluster_resources()
    if any(available.get(name, 0) < count * amount for name, amount in each.items()):
        wanted = f"{count} of {_format(each)} each" if count > 1 else _format(each)
        raise ValueError(
            f"`ray` {cluster.address}: the cluster has {_format(available, each)}; "
            f"asked for: {wanted}"
        )
    if not machines(ray, cluster.resources):
        every = sorted(
            (_format(machine["Resources"], each) for machine in machines(ray)), reverse=True
        )
        raise ValueError(
            f"`ray` {cluster.address}: no machine has {_format(each)}, only: {'; '.join(every)}"
        )


def machines(ray: Any, resources: WorkerResources | None = None) -> list[dict[str, Any]]:
    """Machines of the cluster that are alive, as Ray describes them.

    Args:
      ray: The module, connected.
      resources: Keep only machines that have this much, and a CPU at all.

    Returns:
      A description of each machine.
    """
    amounts = {"CPU": 1e-9, **resources.amounts} if resources else {}
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [
        node
        for node in alive
        if all(node["Resources"].get(name, 0) >= n for name, n in amounts.items())
    ]


def _format(amounts: Mapping[str, float], names: Iterable[str] = ()) -> str:
    return ", ".join(f"{amounts.get(name, 0):g} {name}" for name in names or amounts)


def package_version() -> str:
    """Version of mnv4-nas."""
    return importlib.metadata.version("mnv4-nas")


def reason(error: Exception) -> str:
    """Ray's description of a loss, in one line of at most 300 characters.

    Args:
      error: Error of Ray.

    Returns:
      Its text, or its type's name if it has none.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return textwrap.shorten("; ".join(lines), 300, placeholder=" ...") or type(error).__name__


def cause(error: Any) -> BaseException:
    """The error that was raised on the cluster, without Ray's wrapper, whose text is a traceback.

    Args:
      error: A RayTaskError.

    Returns:
      The original error, or a ValueError with a cure if a package is missing there.
    """
    original = error.cause
    if isinstance(original, ModuleNotFoundError) or "failed to import" in str(original):
        return ValueError(
            f"a machine of the cluster lacks a package: {reason(original)}; "
            "install the same packages everywhere"
        )
    return original
