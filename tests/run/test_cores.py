"""Cores of its own for a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nas.run import cores

_CLAIM = "import os; from nas.run import cores; print(cores.claim({}), *os.sched_getaffinity(0), flush=True); input()"
pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin")


def _claiming(number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CLAIM.format(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=30)


def test_every_process_its_own_and_they_are_free_again_after_it() -> None:
    allowed = os.sched_getaffinity(0)
    first = _claiming(1)
    assert first.stdout
    worked, *core = first.stdout.readline().split()
    if worked == "False":  # another run of these tests, or a search, has them all
        _end(first)
        pytest.skip("no core is free")
    second = _claiming(len(allowed))
    assert second.stdout
    assert second.stdout.readline().split() == ["False", *map(str, sorted(allowed))]  # one is taken: nothing changes
    assert len(core) == 1 and int(core[0]) in allowed
    for process in (first, second):
        _end(process)
    third = _claiming(1)
    assert third.stdout
    assert third.stdout.readline().split()[0] == "True"
    _end(third)


def test_count() -> None:
    assert cores.count() == len(os.sched_getaffinity(0))
