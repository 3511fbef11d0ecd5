"""Cores of this machine: how many there are, and some of its own for a process."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import socket
import time

_QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")
_THREADS = "PJRT_NPROC"  # XLA on CPU: how many threads, whatever the affinity says
_AGAIN_S = 0.2
_claims: list[socket.socket] = []  # held until this process ends


def count() -> int:
    """That this process may use: by its affinity, by the quota of its container, and by what it claimed."""
    claimed = os.environ.get(_THREADS, "")
    most = int(claimed) if claimed.isdecimal() else math.inf
    return max(math.ceil(min(len(_allowed()), _quota(), most)), 1)


def claim(number: int, patience: float = 5.0) -> bool:
    """Keep this thread, and those that it starts, on cores that no other process has claimed; whether that worked.

    Processes that compute side by side on the same cores take far longer than in turn. A claim ends with its process,
    however that ends. No core is claimed where the system cannot say, where a container has a quota (others may run on
    any of the cores that it sees), or where not so many are free. The process counts and computes with that many all
    the same, since sums, and so what is trained, depend on the number of threads; so claim before JAX starts.

    Args:
      number: of cores; all that are allowed, if those are fewer.
      patience: seconds, for a process that is about to end.
    """
    allowed = _allowed()
    os.environ[_THREADS] = str(min(number, len(allowed)))
    if not hasattr(os, "sched_setaffinity") or _quota() < len(allowed):
        return False
    end = time.monotonic() + patience
    while not (taken := _take(min(number, len(allowed)), allowed)):
        if time.monotonic() > end:
            return False
        time.sleep(_AGAIN_S)
    _claims.extend(taken.values())
    os.sched_setaffinity(0, taken)
    # a thread that wakes does not interrupt one that computes: a collective's listener spins on what the other sends
    # while the sender holds the lock that it needs (gloo; 6 % of a step of two processes)
    with contextlib.suppress(OSError):  # some containers forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    return True


def _take(number: int, allowed: list[int]) -> dict[int, socket.socket]:
    """{core: its claim}; all or none. A claim is a name without a file: the kernel forgets it with the process."""
    taken: dict[int, socket.socket] = {}
    for core in allowed:
        if len(taken) == number:
            break
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0mnv4-nas core {core}")
        except OSError:
            lock.close()
        else:
            taken[core] = lock
    if len(taken) == number:
        return taken
    for lock in taken.values():
        lock.close()
    return {}


def _allowed() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _quota() -> float:
    """Cores' worth of time that the container gets; infinite without a limit (cgroup version 2)."""
    try:
        share, period = _QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if share == "max" else int(share) / int(period)
