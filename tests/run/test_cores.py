"""Cores of its own for a process."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from nas.run import cores

_CLAIM = (
    "import os; from nas.run import cores; "
    "print(cores.claim({}, 1.0), os.sched_getscheduler(0), *os.sched_getaffinity(0), flush=True); input()"
)
pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin")


def _claiming(number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CLAIM.format(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=30)


@pytest.mark.usefixtures("machine_alone")
def test_every_process_its_own_and_they_are_free_again_after_it() -> None:
    allowed = os.sched_getaffinity(0)
    first = _claiming(1)
    assert first.stdout
    worked, scheduler, *core = first.stdout.readline().split()
    if worked == "False":  # another run of these tests, or a search, has them all
        _end(first)
        pytest.skip("no core is free")
    second = _claiming(len(allowed))
    assert second.stdout
    nothing_changed = ["False", str(os.SCHED_OTHER), *map(str, sorted(allowed))]  # one core is taken
    assert second.stdout.readline().split() == nothing_changed
    assert int(scheduler) == os.SCHED_BATCH
    assert len(core) == 1 and int(core[0]) in allowed
    for process in (first, second):
        _end(process)
    third = _claiming(1)
    assert third.stdout
    assert third.stdout.readline().split()[0] == "True"
    _end(third)


@pytest.mark.parametrize(
    ("text", "count"), [("max 100000", 64), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 64)]
)
def test_count_of_a_container(text: str, count: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
    assert cores.count() == count
    if count < 64:
        assert not cores.claim(1)  # others may run on any core that it sees
