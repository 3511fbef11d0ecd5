"""Counting cores, and claiming them for a process."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from nas.host import cores

_CLAIM = (
    "import os; from nas.host import cores; print(cores.pin_to_free_cores({}, 1.0), cores.count(), "
    "os.sched_getscheduler(0), *os.sched_getaffinity(0), flush=True); input()"
)
pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system cannot pin"
)


def _claiming(number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CLAIM.format(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=30)


@pytest.mark.usefixtures("machine_alone")
def test_processes_claim_different_cores_and_free_them_at_their_end() -> None:
    allowed = os.sched_getaffinity(0)
    first = _claiming(1)
    assert first.stdout
    worked, count, scheduler, *core = first.stdout.readline().split()
    if worked == "False":  # another run of these tests, or a search, has them all
        _end(first)
        pytest.skip("no core is free")
    second = _claiming(len(allowed))
    assert second.stdout
    # One core is taken.
    not_pinned = ["False", str(len(allowed)), str(os.SCHED_OTHER), *map(str, sorted(allowed))]
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
from nas.host import backend, cores
if sys.argv[1] == "pinned":
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
elif sys.argv[1] == "not claimed":
    cores._claim = lambda number, allowed: {}
    cores.pin_to_free_cores(1, 0.0)
backend.prepare(1)
import jax, numpy as np
from nas.data import load
from nas.run.train_config import TrainConfig
from nas.training import training
import search_spaces
data = load.load_dataset("builtin:fashion-clutter", 32)
recipe = TrainConfig(steps=6, batch=16)
spec = search_spaces.base("small-32")
trained = training.train(spec, data.train, recipe, mean=data.mean, std=data.std, seed=0)
weights = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trained.params))
print(hashlib.sha256(weights).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(cores.count() < 2, reason="there is one core only")
def test_weights_are_the_same_with_and_without_a_claimed_core() -> None:
    """Without the C++ library, a process that uses all cores gets other weights: it could fail."""
    environment = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    environment["MNV4_NAS_NATIVE"] = "0"  # with it, threads change no bit
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
    ("text", "count"),
    [("max 100000", 64), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 64)],
)
def test_count_of_a_container(
    text: str, count: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setenv("PJRT_NPROC", "")
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
    assert cores.count() == count
    if count < 64:
        # Other containers may run on any core that this one sees.
        assert not cores.pin_to_free_cores(1)
        assert cores.count() == 1
