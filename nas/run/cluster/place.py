"""What processes need of a cluster, and whether it has that."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from nas.run import cores, memory

_ACCELERATORS = ("GPU", "TPU", "NPU", "HPU", "neuron_cores")
"""What Ray calls them. Source: `ray._private.accelerators`."""


class Lost(RuntimeError):
    """Processes were lost again and again."""


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
    def on_cpu(self) -> bool:
        """No accelerator is asked for."""
        return not any(name in _ACCELERATORS for name in self.asked)

    @property
    def options(self) -> dict[str, Any]:
        """As Ray wants them. Who asks for no accelerator must not take one: Ray hides none from them."""
        amounts = {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources) or None}
        environment = memory.ENVIRONMENT | ({"JAX_PLATFORMS": "cpu"} if self.on_cpu else {})
        return {**amounts, "runtime_env": {"env_vars": environment}}

    def settle(self, folder: str, *, own_core: bool = True) -> None:
        """What a process of a cluster does first.

        Args:
          folder: of the command, for the relative paths in its configuration; left where it is if there is none such.
          own_core: keep to cores of its own, if it computes on cores at all.
        """
        with contextlib.suppress(OSError):
            os.chdir(folder)
        if own_core and self.on_cpu:
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


def check(ray: Any, place: Place, count: int) -> None:
    """Raises ValueError if the cluster, or for one process its largest machine, has too little."""
    each, there = place.needs.asked, ray.cluster_resources()
    if any(there.get(name, 0) < count * amount for name, amount in each.items()):
        asked = f"{count} of {_text(each)} each" if count > 1 else _text(each)
        raise ValueError(f"--ray {place.address}: the cluster has {_text(there, each)}; asked for: {asked}")
    if not machines(ray, place.needs):
        every = "; ".join(sorted((_text(machine["Resources"], each) for machine in machines(ray)), reverse=True))
        raise ValueError(f"--ray {place.address}: no machine has {_text(each)}, only: {every}")


def machines(ray: Any, needs: Needs | None = None) -> list[dict[str, Any]]:
    """Those that are there, or those of them that have what a process needs, and a core at all."""
    asked = {"CPU": 1e-9, **needs.asked} if needs else {}
    there = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in there if all(node["Resources"].get(name, 0) >= n for name, n in asked.items())]


def _text(amounts: Mapping[str, float], names: Iterable[str] = ()) -> str:
    return ", ".join(f"{amounts.get(name, 0):g} {name}" for name in names or amounts)


def own_version() -> str:
    """Of this package."""
    return importlib.metadata.version("mnv4-nas")


def why(error: Exception) -> str:
    """What Ray says of a loss, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return textwrap.shorten("; ".join(lines), 300, placeholder=" ...") or type(error).__name__


def cause(error: Any) -> BaseException:
    """What was raised on the cluster, rather than Ray's twin of it, whose text is a traceback."""
    found = error.cause
    if isinstance(found, ModuleNotFoundError) or "failed to import" in str(found):
        return ValueError(f"a machine of the cluster lacks a package: {why(found)}; install the same everywhere")
    return found
