"""A training in several processes ends where an undisturbed one in one process does."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas.run.log import read_log

TRAIN = [sys.executable, "-m", "nas.cli.train"]
SETTINGS = ("replicas=2", "batch=16", "epochs=40", "evaluate_every=6", "checkpoint_every=10")
EARLY = ("patience=2", "learning_rate=0.3")
FILES = ("metrics.jsonl", "summary.csv", "confusion.csv")

Command = Callable[..., list[str]]


def _arrays(path: pathlib.Path) -> dict[str, bytes]:
    with np.load(path) as stored:
        return {name: stored[name].tobytes() for name in stored}


def _same(one: pathlib.Path, other: pathlib.Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("best", "last"):
        weights = [_arrays(folder / name / "weights.npz") for folder in (one, other)]
        assert weights[0] == weights[1], name


def test_two_processes_share_an_evaluation(
    search_environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """Each reads its part of the images, and both get the measures of one process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    code = "import sys; from tests.train import evaluating; evaluating.main(*sys.argv[1:])"
    root = str(pathlib.Path(__file__).parents[2])
    environment = {**search_environment, "PYTHONPATH": root, "PYTHONWARNINGS": "default"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, address, str(rank), str(tmp_path / f"{rank}.npz")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    from . import evaluating

    wanted, _ = evaluating.results()
    reads = []
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as stored:
            found = dict(stored)
        reads.append(set(found.pop("read").tolist()))
        assert {name: value.tolist() for name, value in found.items()} == wanted
    assert reads == [{*range(16)}, {*range(16, 27)}]


@pytest.fixture
def environment(search_environment: dict[str, str]) -> dict[str, str]:
    """Without warnings as errors: Ray's own processes have some."""
    return {key: value for key, value in search_environment.items() if key != "PYTHONWARNINGS"}


@pytest.fixture
def command(finished_run: pathlib.Path) -> Command:
    """The command of a training in a folder."""

    def made(folder: pathlib.Path, *more: str, settings: tuple[str, ...] = ()) -> list[str]:
        changes = [word for text in (*SETTINGS, *settings) for word in ("--set", text)]
        return [*TRAIN, str(finished_run), "--workdir", str(folder), *changes, *more]

    return made


def _run(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("machine_alone")
@pytest.mark.parametrize("settings", [(), EARLY], ids=["to the end", "stopped early"])
def test_two_processes_are_as_one(
    settings: tuple[str, ...], command: Command, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """To the bit here, where a process has the device of a core; in general to rounding."""
    one, two = tmp_path / "one", tmp_path / "two"
    _run(command(one, settings=settings), environment)
    ray = ("--ray", "local", "--workers", "2")
    out = _run(command(two, *ray, settings=settings), environment)
    assert "2 workers: 2 on " in out and (two / "report.html").exists()
    _same(one, two)
    steps = len(read_log(two / "metrics.jsonl"))
    assert (steps < 120) == ("no better accuracy in 2" in out) == bool(settings)


@pytest.mark.slow
@pytest.mark.usefixtures("machine_alone")
def test_a_lost_worker_and_a_stopped_command(
    command: Command, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """A worker is killed, then the command stopped; the next one ends as an undisturbed one."""
    one, two = tmp_path / "one", tmp_path / "two"
    longer = ("epochs=500",)
    _run(command(one, settings=longer), environment)
    arguments = command(two, "--ray", "local", "--workers", "2", settings=longer)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(arguments, env=environment, **pipes)
    _wait_until(60, two, process)
    os.kill(_workers(environment)[-1], signal.SIGKILL)
    reached = read_log(two / "metrics.jsonl")[-1]["step"]
    _wait_until(reached + 200, two, process)
    process.send_signal(signal.SIGINT)
    out = "".join(process.communicate(timeout=60))
    assert process.returncode == 130 and "the last checkpoint is in" in out
    assert out.count("a worker was lost") == 1 and "to resume: nas-train" in out
    _run(arguments, environment)
    _same(one, two)


def _wait_until(step: int, folder: pathlib.Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not (rows := read_log(folder / "metrics.jsonl")) or rows[-1]["step"] < step:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.05)


def _workers(environment: dict[str, str]) -> list[int]:
    """Processes of Ray that run a part of the training, found by the cache folder of this test."""
    mark = f"MNV4_NAS_CACHE={environment['MNV4_NAS_CACHE']}".encode()
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            title, ours = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        if re.match(rb"ray::_Process", title) and mark in ours.split(b"\0"):
            found.append(int(path.name))
    return sorted(found)
