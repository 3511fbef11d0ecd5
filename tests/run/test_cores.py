"""Cores of its own for a process."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from nas.run import cores

_CLAIM = (
    "import os; from nas.run import cores; print(cores.claim({}, 1.0), cores.count(), "
    "os.sched_getscheduler(0), *os.sched_getaffinity(0), flush=True); input()"
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
    worked, count, scheduler, *core = first.stdout.readline().split()
    if worked == "False":  # another run of these tests, or a search, has them all
        _end(first)
        pytest.skip("no core is free")
    second = _claiming(len(allowed))
    assert second.stdout
    not_pinned = ["False", str(len(allowed)), str(os.SCHED_OTHER), *map(str, sorted(allowed))]  # one core is taken
    assert second.stdout.readline().split() == not_pinned
    third = _claiming(2 * len(allowed))
    assert third.stdout
    assert third.stdout.readline().split()[:2] == ["False", str(len(allowed))]
    _end(third)
    assert int(count) == 1
    assert int(scheduler) == os.SCHED_BATCH
    assert len(core) == 1 and int(core[0]) in allowed
    for process in (first, second):
        _end(process)
    third = _claiming(1)
    assert third.stdout
    assert third.stdout.readline().split()[0] == "True"
    _end(third)


_TRAIN = """
import hashlib, os, sys
from nas.run import backend, cores
if sys.argv[1] == "pinned":
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
elif sys.argv[1] == "not claimed":
    cores._take = lambda number, allowed: {}
    cores.claim(1, 0.0)
backend.prepare(1)
import jax, numpy as np
from nas.data import sources
from nas.run.config import TrainConfig
from nas.train import loop
import search_spaces
data = sources.load("builtin:fashion-clutter", 32)
recipe = TrainConfig(steps=6, batch=16)
trained = loop.train(search_spaces.base("small-32"), data.train, recipe, mean=data.mean, std=data.std, seed=0)
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trained.params))).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(cores.count() < 2, reason="one core is all that there is")
def test_a_process_without_a_core_of_its_own_computes_what_one_with_a_core_does() -> None:
    """Not what a process with all cores does: so the test could fail."""
    environment = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    pinned, not_claimed, free = (
        subprocess.run(
            [sys.executable, "-c", _TRAIN, how],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        ).stdout
        for how in ("pinned", "not claimed", "free")
    )
    assert pinned == not_claimed != free


@pytest.mark.parametrize(
    ("text", "count"), [("max 100000", 64), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 64)]
)
def test_count_of_a_container(text: str, count: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setenv("PJRT_NPROC", "")
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
    assert cores.count() == count
    if count < 64:
        assert not cores.claim(1)  # others may run on any core that it sees
        assert cores.count() == 1
