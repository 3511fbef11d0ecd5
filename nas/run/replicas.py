"""Replicas: what data-parallel programs share about devices and processes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

AXIS = "replica"
"""Name of the mesh axis over which replicas are sharded.

Collectives inside `over_devices` use it.
"""


@dataclasses.dataclass(frozen=True)
class Replicas:
    """Equal shares of every step, and the devices that compute them.

    A device computes its replicas one after the other. On CPU a device is a core, which is worth
    more than two cores that share each small operation.

    Attributes:
      count: Number of replicas.
    """

    count: int

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """As many devices as divide the replicas evenly, the same number in each process.

        Raises:
          ValueError: There are more processes than that.
        """
        processes = jax.process_count()
        usable = [
            n for n in range(1, jax.local_device_count() + 1) if self.count % (n * processes) == 0
        ]
        if not usable:
            raise ValueError(
                f"`replicas`: got {self.count}, which {processes} processes cannot share evenly; "
                f"use {-(-self.count // processes) * processes}"
            )
        devices = np.array(jax.devices()).reshape(processes, -1)[:, : max(usable)]
        return jax.sharding.Mesh(devices.ravel(), (AXIS,))

    @property
    def local(self) -> slice:
        """The replicas whose images this process reads; all of them in a single process."""
        share = self.count // jax.process_count()
        return slice(jax.process_index() * share, (jax.process_index() + 1) * share)

    @property
    def local_count(self) -> int:
        """Number of replicas of this process."""
        return self.count // jax.process_count()

    @property
    def replicated(self) -> jax.sharding.NamedSharding:
        """Sharding of arrays that every device has whole."""
        return jax.sharding.NamedSharding(self.mesh, jax.P())

    def replicate(self, arrays: Any) -> Any:
        """Put arrays on every device, with the sharding that steps return.

        One compilation serves all calls.

        Args:
          arrays: Tree of arrays, the same in every process.

        Returns:
          The tree on the devices.
        """
        if jax.process_count() == 1:
            return jax.device_put(arrays, self.replicated)
        return jax.tree.map(self._from_host, arrays)

    def _from_host(self, leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, self.replicated, lambda index: host[index])

    def root_key(self, seed: int) -> jax.Array:
        """The random key from which the keys of all steps are derived.

        Args:
          seed: Random seed.

        Returns:
          A key on every device.
        """
        return jax.jit(jax.random.key, static_argnums=0, out_shardings=self.replicated)(seed)

    def shard(self, arrays: Any) -> Any:
        """Put each replica of a batch on the device that computes it.

        Args:
          arrays: Tree of arrays with a leading axis over the replicas of this process (`local`).

        Returns:
          The tree with a leading axis over all replicas.
        """
        sharding = jax.sharding.NamedSharding(self.mesh, jax.P(AXIS))
        if jax.process_count() == 1:
            return jax.device_put(arrays, sharding)
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), arrays
        )

    def over_devices(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Run a function on every device with its share of the replicas.

        Args:
          function: From (replicated arrays, arrays with a leading axis over the device's replicas)
            to arrays that are equal on all devices, because it reduces or gathers over `AXIS`.

        Returns:
          The function of arrays over all replicas, for use inside `jax.jit`.
        """
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(jax.P(), jax.P(AXIS)),
            out_specs=jax.P(),
            check_vma=False,
        )


def slots(arrays: Any) -> Iterator[Any]:
    """The replicas of one device, one after the other.

    A Python loop rather than `jax.lax.scan`: XLA compiles convolutions inside loops badly.

    Args:
      arrays: Tree of arrays with a leading axis over the device's replicas.

    Yields:
      The tree without that axis.
    """
    for index in range(len(jax.tree.leaves(arrays)[0])):
        yield jax.tree.map(lambda leaf, index=index: leaf[index], arrays)
