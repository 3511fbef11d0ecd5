from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from nas.run import backend
if sys.argv[1] == "keep":
    assert backend.keep_memory()
def faults():
    for _ in range(20):
        np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults()
before = faults()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_kept() -> None:
    """20 arrays of 64 MiB, one after the other: 32 huge pages or 16,384 small ones each, if each is mapped anew."""

    def faults(argument: str) -> int:
        done = subprocess.run([sys.executable, "-c", CODE, argument], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert 10 * faults("keep") < faults("default")
