"""What `Replicas` computes, in this process and as `main` on two devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas.run.replicas import AXIS, Replicas, slots

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
"""[replicas, 3]."""


def _reduced(weights: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum over all replicas of weights * row, and the sum of each row."""
    products = [weights * row for row in slots(rows)]
    total = jax.lax.psum(sum(products[1:], start=products[0]), AXIS)
    sums = jnp.stack([row.sum() for row in slots(rows)])
    return total, jax.lax.all_gather(sums, AXIS, tiled=True)


def results() -> dict[str, Any]:
    """Sizes of meshes, rows of each device, and results over all devices."""
    replicas = Replicas(4)
    weights = replicas.replicate(np.array([1.0, 10.0, 100.0], np.float32))
    rows = replicas.shard(VALUES)
    total, sums = jax.jit(replicas.over_devices(_reduced))(weights, rows)
    first_rows = [shard.index[0].start or 0 for shard in rows.addressable_shards]
    return {
        "devices": jax.local_device_count(),
        "meshes": [Replicas(count).mesh.size for count in (1, 2, 3, 4, 6)],
        "first_rows": sorted(first_rows),
        "copies": len(weights.addressable_shards),
        "rows": np.asarray(rows),
        "total": np.asarray(total),
        "sums": np.asarray(sums),
        "key": jax.random.key_data(replicas.root_key(5)),
        "key_copies": len(replicas.root_key(5).addressable_shards),
    }


def main(path: str) -> None:
    """Write the results into a file."""
    np.savez(path, **results())
