"""Processes that compute together on a Ray cluster: with real processes, and a real loss of one."""

from __future__ import annotations

import functools
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from nas.run import cluster
from nas.run.cluster import Line, Workers


class Lines:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, str]] = []
        self.said: list[str] = []

    def show(self, step: int, text: str) -> None:
        self.shown.append((step, text))

    def say(self, text: str) -> None:
        self.said.append(text)


def add_up(folder: pathlib.Path, line: Line) -> tuple[int, float]:
    """(processes, sum over all of them of their numbers); the first one is lost once, before it computes."""
    import jax
    from jax.experimental import multihost_utils

    first_try = folder / "tried"
    if jax.process_index() == 0 and not first_try.exists():
        first_try.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    line.show(jax.process_index(), "here")
    every = multihost_utils.process_allgather(jax.numpy.array(10.0 + jax.process_index()))
    time.sleep(2 * cluster._POLL_S)
    return jax.process_count(), float(every.sum())


def add_up_slowly(folder: pathlib.Path, line: Line) -> float:
    """A sum of twenty; in the middle the second process is lost once, while the first one waits for it."""
    import jax
    from jax.experimental import multihost_utils

    total = 0.0
    for number in range(20):
        if number == 10 and jax.process_index() == 1 and not (folder / "tried").exists():
            (folder / "tried").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        total += float(multihost_utils.process_allgather(jax.numpy.array(float(number))).sum())
    return total


def fail(line: Line) -> None:
    raise ValueError("a user's mistake, found by a worker")


@pytest.mark.slow
class TestTogether:
    def test_two_processes_one_of_which_is_lost_once(self, tmp_path: pathlib.Path) -> None:
        line = Lines()
        work = functools.partial(add_up, tmp_path)
        found = cluster.together(work, address=cluster.LOCAL, workers=Workers(2), line=line, cpus=2)
        assert found == (2, 21.0)
        assert line.shown == [(0, "here")]
        assert len(line.said) == 1 and "a worker was lost" in line.said[0]

    def test_one_lost_in_the_middle_of_computing_together(self, tmp_path: pathlib.Path) -> None:
        line = Lines()
        work = functools.partial(add_up_slowly, tmp_path)
        assert cluster.together(work, address=cluster.LOCAL, workers=Workers(2), line=line, cpus=2) == 2 * 190
        assert len(line.said) == 1 and "a worker was lost" in line.said[0]

    def test_what_a_worker_raises_ends_the_run(self) -> None:
        with pytest.raises(ValueError, match="a user's mistake, found by a worker"):
            cluster.together(fail, address=cluster.LOCAL, workers=Workers(1), line=Lines(), cpus=1)

    def test_lost_too_often(self, tmp_path: pathlib.Path) -> None:
        work = functools.partial(add_up, tmp_path)
        with pytest.raises(cluster.Lost, match="workers were lost 1 times; the last checkpoint is kept"):
            cluster.together(work, address=cluster.LOCAL, workers=Workers(1, restarts=0), line=Lines(), cpus=1)

    def test_too_few_resources(self) -> None:
        workers = Workers(3, cpus=2, resources={"TPU": 4})
        message = "--ray local: the cluster has 2 CPU, 0 TPU; 3 workers ask for 6 CPU, 12 TPU"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            cluster.together(fail, address=cluster.LOCAL, workers=workers, line=Lines(), cpus=2)


def test_nothing_at_the_address_is_said_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # bound, but nothing listens
        begun = time.monotonic()
        with pytest.raises(ValueError, match=f"--ray {address}: nothing answers there"):
            cluster.together(fail, address=address, workers=Workers(1), line=Lines(), cpus=1)
    assert time.monotonic() - begun < 25


@pytest.mark.slow
def test_a_search_in_two_processes_is_that_of_one(
    tiny_recipe: pathlib.Path, search_environment: dict[str, str], finished_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """To the bit here, where a process has the device that a core has otherwise; in general to rounding."""
    command = [sys.executable, "-m", "nas.cli.search", "--stage", "coarse", "--config", str(tiny_recipe)]
    command += ["--workdir", str(tmp_path), "--ray", "local", "--workers", "2"]
    done = subprocess.run(command, env=search_environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for name in ("metrics.jsonl", "policy.jsonl", "candidates.csv"):
        assert (tmp_path / "coarse" / name).read_bytes() == (finished_run / "coarse" / name).read_bytes()
