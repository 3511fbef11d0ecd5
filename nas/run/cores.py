"""Cores of this machine: how many there are, and some of its own for a process."""

from __future__ import annotations

import os
import socket

_claims: list[socket.socket] = []  # held until this process ends


def count() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def claim(number: int) -> bool:
    """Keep this thread, and those that it starts, on cores that no other process has claimed; whether that worked.

    A claim ends with its process, however that ends. Where there are not enough free ones (or the system cannot say),
    nothing changes. Processes that compute side by side on the same cores take far longer than in turn.
    """
    if not hasattr(os, "sched_getaffinity"):
        return False
    allowed, taken = sorted(os.sched_getaffinity(0)), {}
    for core in allowed:
        if len(taken) == number:
            break
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0mnv4-nas core {core}")  # a name without a file: the kernel forgets it with the process
        except OSError:
            lock.close()
        else:
            taken[core] = lock
    if len(taken) < number:
        for lock in taken.values():
            lock.close()
        return False
    _claims.extend(taken.values())
    os.sched_setaffinity(0, taken)
    return True
