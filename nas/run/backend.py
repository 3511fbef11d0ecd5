"""JAX's backend for a run: devices and the compilation cache; to be called before anything uses JAX."""

from __future__ import annotations

import logging
import os

from nas.run import cache


def prepare(replicas: int) -> None:
    """On CPU, one device for each core that a replica can use; compiled programs are kept for the next run.

    A replica on a core of its own is faster than all cores sharing every small operation of one replica.
    """
    import jax

    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)  # says at each start that there is no TPU
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores + 1) if replicas % n == 0))
    jax.config.update("jax_compilation_cache_dir", str(cache.folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
