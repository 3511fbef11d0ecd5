from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from nas.run import memory

CODE = """
import resource, sys
import numpy as np
from nas.run import memory
if sys.argv[1] == "keep":
    assert memory.keep()
def faults():
    for _ in range(20):
        np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults()
before = faults()
print(faults() - before)
"""


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

HOLES = """
import numpy as np
from nas.run import memory
assert memory.keep()
sizes = np.random.default_rng(0).integers(2 << 10, 60 << 10, 4000)
pieces = [np.empty(n, np.uint8) for n in sizes]
large = [np.empty(200_000, np.uint8) for _ in range(20)]
freed = sum(map(len, pieces[::2])) + sum(map(len, large[::2]))
del pieces[::2], large[::2]
libc = memory._libc()
end = libc.sbrk(0)
taken = memory.occupy_holes()
addresses = list(memory._occupied)
memory.release_holes()
again = memory.occupy_holes()
print(freed, taken, again, sum(address < end for address in addresses), len(addresses))
"""


@glibc
def test_small_holes_are_taken_and_given_back() -> None:
    """2,000 holes of 2 to 60 KiB and ten larger ones, which stay free."""
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    freed, taken, again, below, count = map(int, done.stdout.split())
    assert taken == pytest.approx(freed - 10 * 200_000, rel=0.1)
    assert again == pytest.approx(taken, rel=0.05)
    assert below == count >= 2000


@glibc
def test_freed_memory_is_kept() -> None:
    """20 arrays of 64 MiB, one after the other: 32 huge pages or 16,384 small ones each, if each is mapped anew."""

    def faults(argument: str, **environment: str) -> int:
        command = [sys.executable, "-c", CODE, argument]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    default = faults("default")
    assert 10 * faults("keep") < default
    assert 10 * faults("default", **memory.ENVIRONMENT) < default
