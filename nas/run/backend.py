"""JAX's backend for a run: devices and the compilation cache; to be called before anything uses JAX."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator

from nas.run import cache, cores, memory


def prepare(replicas: int) -> None:
    """On CPU, one device for each core that a replica can use; compiled programs are kept for the next run.

    A replica on a core of its own is faster than all cores sharing every small operation of one replica.
    """
    memory.keep()
    import jax

    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)  # says at each start that there is no TPU
    jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores.count() + 1) if replicas % n == 0))
    jax.config.update("jax_compilation_cache_dir", str(cache.folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Around the first call of what is compiled; the steps that follow find a tidy heap (`nas.run.memory`).

    Python's garbage collection rests: it takes a quarter of the time of tracing a step and finds nothing.
    """
    collects = gc.isenabled()
    gc.disable()
    memory.release_holes()
    try:
        yield
    finally:
        memory.occupy_holes()
        if collects:
            gc.enable()
