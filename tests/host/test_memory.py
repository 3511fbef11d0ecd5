"""Settings of glibc's allocator, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from nas.host import memory

CODE = """
import resource, sys
import numpy as np
from nas.host import memory
if sys.argv[1] == "retain":
    assert memory.retain_freed_memory()
def faults():
    for _ in range(20):
        np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults()
before = faults()
print(faults() - before)
"""


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

FRAGMENTS = """
import numpy as np
from nas.host import memory
assert memory.retain_freed_memory()
sizes = np.random.default_rng(0).integers(2 << 10, 60 << 10, 4000)
pieces = [np.empty(n, np.uint8) for n in sizes]
large = [np.empty(200_000, np.uint8) for _ in range(20)]
freed = sum(map(len, pieces[::2])) + sum(map(len, large[::2]))
del pieces[::2], large[::2]
libc = memory._libc()
end = libc.sbrk(0)
taken = memory.reserve_fragments()
addresses = list(memory._reserved)
memory.release_fragments()
again = memory.reserve_fragments()
print(freed, taken, again, sum(address < end for address in addresses), len(addresses))
"""


@glibc
def test_small_fragments_are_reserved_and_released() -> None:
    """2,000 free pieces of 2 to 60 KiB, and ten larger ones, which stay free."""
    done = subprocess.run(
        [sys.executable, "-c", FRAGMENTS], capture_output=True, text=True, check=True
    )
    freed, taken, again, below, count = map(int, done.stdout.split())
    assert taken == pytest.approx(freed - 10 * 200_000, rel=0.1)
    assert again == pytest.approx(taken, rel=0.05)
    assert below == count >= 2000


@glibc
def test_freed_memory_is_retained() -> None:
    """20 arrays of 64 MiB in a row: if each is mapped again, 32 huge or 16,384 small pages each."""

    def faults(argument: str, **environment: str) -> int:
        command = [sys.executable, "-c", CODE, argument]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    default = faults("default")
    assert 10 * faults("retain") < default
    assert 10 * faults("default", **memory.ENVIRONMENT) < default
