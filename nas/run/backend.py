"""JAX's backend for a run: devices and the compilation cache; to be called before anything uses JAX."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
from collections.abc import Iterator

from nas.run import cache, cores


def prepare(replicas: int) -> None:
    """On CPU, one device for each core that a replica can use; compiled programs are kept for the next run.

    A replica on a core of its own is faster than all cores sharing every small operation of one replica.
    """
    keep_memory()
    import jax

    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)  # says at each start that there is no TPU
    jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores.count() + 1) if replicas % n == 0))
    jax.config.update("jax_compilation_cache_dir", str(cache.folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Without Python's garbage collection, which takes a quarter of the time of tracing a step and finds nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""Parameters of glibc's `mallopt`. Source: malloc.h."""


def keep_memory() -> bool:
    """Keep freed memory in the process (glibc only); whether that worked. To be called before threads start.

    A step allocates and frees hundreds of buffers of megabytes. By default glibc maps each anew and returns it to the
    kernel, which then clears every page again: 40,000 page faults a step of the quickstart, a fifth of its CPU time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
