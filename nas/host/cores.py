"""CPU cores: count them, and pin a process to cores that no other process has claimed."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import socket
import time

_QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")
_THREADS = "PJRT_NPROC"
"""Environment variable that sets XLA's number of threads on CPU, whatever the affinity is."""
_RETRY_S = 0.2
_claims: list[socket.socket] = []
"""Claims of this process; they last until it ends."""


def count() -> int:
    """Number of cores that this process may use, at least 1.

    Returns:
      The smallest of: cores in its affinity, CPU quota of its container (rounded up), cores that it
      claimed.
    """
    claimed = os.environ.get(_THREADS, "")
    most = int(claimed) if claimed.isdecimal() else math.inf
    return max(math.ceil(min(len(_allowed()), _quota(), most)), 1)


def pin_to_free_cores(number: int, patience: float = 5.0) -> bool:
    """Pin this thread, and the threads that it starts, to cores that no other process has claimed.

    Processes that compute side by side on the same cores take far longer than one after the other.
    A claim ends with its process, however the process ends.

    No core is claimed if the system has no affinity, if a container has a quota (other processes
    may run on any core that it sees), or if too few cores are free. In these cases, too, the
    process counts and computes with `number` cores: sums, and therefore trained weights, depend on
    the number of threads. Call this before JAX starts.

    Args:
      number: Number of cores; all allowed cores if there are fewer.
      patience: Seconds to wait for a process that is about to end.

    Returns:
      Whether the cores were claimed and the process is pinned to them.
    """
    allowed = _allowed()
    os.environ[_THREADS] = str(min(number, len(allowed)))
    if not hasattr(os, "sched_setaffinity") or _quota() < len(allowed):
        return False
    end = time.monotonic() + patience
    while not (claimed := _claim(min(number, len(allowed)), allowed)):
        if time.monotonic() > end:
            return False
        time.sleep(_RETRY_S)
    _claims.extend(claimed.values())
    os.sched_setaffinity(0, claimed)
    # Under SCHED_BATCH a thread that wakes does not preempt one that computes. Otherwise the
    # listener of a collective (gloo) spins on the sender's data while the sender waits for the
    # lock: 6 % of a step of two processes. Some containers forbid the call.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    return True


def _claim(number: int, allowed: list[int]) -> dict[int, socket.socket]:
    """{core: its claim} of `number` cores, or {} if too few are free.

    A claim is a socket with an abstract name (no file): the kernel releases it when the process
    ends.
    """
    claimed: dict[int, socket.socket] = {}
    for core in allowed:
        if len(claimed) == number:
            break
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0mnv4-nas core {core}")
        except OSError:
            lock.close()
        else:
            claimed[core] = lock
    if len(claimed) == number:
        return claimed
    for lock in claimed.values():
        lock.close()
    return {}


def _allowed() -> list[int]:
    """Cores in the affinity of this process, or all cores where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _quota() -> float:
    """CPU quota of the container, in cores; infinite without a limit (cgroup version 2)."""
    try:
        share, period = _QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if share == "max" else int(share) / int(period)
