"""Instruction set of the processor; the last bits of compiled programs depend on it."""

from __future__ import annotations

import functools
import pathlib
import platform

_CPUINFO = pathlib.Path("/proc/cpuinfo")
_KNOWN = ("amx_tile", "avx512f", "avx2", "avx", "asimd")
"""Names in Linux's list of processor flags, the widest first."""


@functools.cache
def instruction_set() -> str:
    """Widest vector instructions of this processor.

    Returns:
      Linux's name of them, or the architecture on other systems.
    """
    try:
        text = _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    flags = {
        word
        for line in text.splitlines()
        if line.lower().startswith(("flags", "features"))
        for word in line.partition(":")[2].split()
    }
    return next((name for name in _KNOWN if name in flags), platform.machine())
