"""The processor: its name, and its instruction set, on which the last bits of programs depend."""

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


def processor() -> str:
    """Name of this machine's processor, from the operating system."""
    try:
        for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
