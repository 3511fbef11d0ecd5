"""JAX's backend for a run: number of CPU devices, compilation cache, memory while compiling."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import warnings
from collections.abc import Iterator

from nas.host import cache, cores, memory


def prepare(replicas: int) -> int:
    """Set the number of CPU devices and the compilation cache; call this before anything uses JAX.

    devices = largest divisor of `replicas` that is at most the number of cores

    A replica on a device of its own, one core each, is faster than all cores sharing every small
    operation of one replica. Compiled programs are kept for the next run.

    Where JAX was used before (a notebook's kernel), it keeps the devices that it has. If these are
    fewer, a UserWarning states the cure, once.

    Args:
      replicas: Number of replicas that this process computes in a step.

    Returns:
      Number of devices that this process has, or will have when it uses JAX on CPU.
    """
    memory.retain_freed_memory()
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    # It reports at each start that there is no TPU.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    jax.config.update("jax_compilation_cache_dir", str(cache.folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # JAX decides at its first compilation whether there is a cache; where that was before, let it
    # decide again.
    compilation_cache.reset_cache()
    wanted = max(n for n in range(1, cores.count() + 1) if replicas % n == 0)
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:  # JAX has started its backends
        existing = jax.local_device_count()
        if existing < wanted and jax.default_backend() == "cpu":
            _warn_once(existing, wanted)
        return existing
    return wanted


@functools.cache
def _warn_once(existing: int, wanted: int) -> None:
    devices = "1 device" if existing == 1 else f"{existing} devices"
    warnings.warn(
        f"JAX was used before: {devices} instead of {wanted}, so a search is slower; to use all "
        f"cores set jax.config.update('jax_num_cpu_devices', {wanted}) before anything else, "
        "or start a fresh kernel",
        stacklevel=3,
    )


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Context for the first call of a compiled function; reserves the heap's fragments at its end.

    The steps that follow then find a tidy heap, see `nas.host.memory`. Python's garbage collector
    is off meanwhile: it takes a quarter of the time of tracing a step, and finds nothing.
    """
    collects = gc.isenabled()
    gc.disable()
    memory.release_fragments()
    try:
        yield
    finally:
        memory.reserve_fragments()
        if collects:
            gc.enable()
