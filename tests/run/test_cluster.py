"""Processes and tasks on a Ray cluster: real ones, of which some are really lost."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from nas.run import cluster
from nas.run.cluster import Needs, Place, connection
from nas.run.cluster.processes import _POLL_S
from nas.run.log import Line

LOCAL = Place(cluster.LOCAL)

# Ray starts its processes from here, where another test may have loaded JAX
pytestmark = [
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.usefixtures("machine_alone"),
]


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

    _die_once(folder / "tried", jax.process_index() == 0)
    line.show(jax.process_index(), "here")
    every = multihost_utils.process_allgather(jax.numpy.array(10.0 + jax.process_index()))
    time.sleep(2 * _POLL_S)
    return jax.process_count(), float(every.sum())


def add_up_slowly(folder: pathlib.Path, line: Line) -> float:
    """A sum of twenty; in the middle the second process is lost once, while the first one waits for it."""
    import jax
    from jax.experimental import multihost_utils

    total = 0.0
    for number in range(20):
        _die_once(folder / "tried", number == 10 and jax.process_index() == 1)
        total += float(multihost_utils.process_allgather(jax.numpy.array(float(number))).sum())
    return total


def fail(line: Line) -> None:
    raise ValueError("a user's mistake, found by a worker")


def where(folder: pathlib.Path, number: int) -> tuple[int, int, int]:
    """(number, process, cores that it may use); the third is lost once."""
    _die_once(folder / "tried", number == 2)
    return number, os.getpid(), len(os.sched_getaffinity(0))


def refuse(number: int) -> int:
    raise ValueError(f"{number}: not that one")


def _die_once(mark: pathlib.Path, now: bool) -> None:
    if now and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
class TestTogether:
    def test_two_processes_one_of_which_is_lost_once(self, tmp_path: pathlib.Path) -> None:
        line = Lines()
        assert cluster.together(functools.partial(add_up, tmp_path), place=LOCAL, workers=2, line=line) == (2, 21.0)
        assert line.shown == [(0, "here")]
        started, lost, again = line.said
        assert started == again == f"2 workers: 2 on {socket.gethostname()}" and "a worker was lost" in lost

    def test_one_lost_in_the_middle_of_computing_together(self, tmp_path: pathlib.Path) -> None:
        line, work = Lines(), functools.partial(add_up_slowly, tmp_path)
        assert cluster.together(work, place=LOCAL, workers=2, line=line) == 2 * 190
        assert sum("a worker was lost" in text for text in line.said) == 1

    def test_what_a_worker_raises_ends_the_run(self) -> None:
        with pytest.raises(ValueError, match="a user's mistake, found by a worker"):
            cluster.together(fail, place=LOCAL, workers=1, line=Lines())

    def test_lost_too_often(self, tmp_path: pathlib.Path) -> None:
        work = functools.partial(add_up, tmp_path)
        with pytest.raises(cluster.Lost, match=r"workers were lost 1 times \(.*\); the last checkpoint is kept"):
            cluster.together(work, place=LOCAL, workers=1, line=Lines(), restarts=0)

    @pytest.mark.parametrize(
        ("workers", "needs", "message"),
        [
            (3, Needs(200, resources={"TPU": 4}), ", 0 TPU; asked for: 3 of 200 CPU, 4 TPU each"),
            (1, Needs(200), "; asked for: 200 CPU"),
        ],
    )
    def test_too_few_resources(self, workers: int, needs: Needs, message: str) -> None:
        with pytest.raises(ValueError, match=f"^--ray local: the cluster has [0-9]+ CPU{re.escape(message)}$"):
            cluster.together(fail, place=Place(cluster.LOCAL, needs), workers=workers, line=Lines())


@pytest.mark.slow
class TestEach:
    def test_every_item_once_in_a_process_and_on_a_core_of_its_own(self, tmp_path: pathlib.Path) -> None:
        work = functools.partial(where, tmp_path)
        found = sorted(cluster.each(work, range(4), place=LOCAL, own_core=True))
        assert [number for number, _, _ in found] == [0, 1, 2, 3]  # the one that was lost too, and not twice
        assert len({process for _, process, _ in found}) == 4
        assert {count for _, _, count in found} == {1}

    def test_an_error_ends_it(self) -> None:
        with pytest.raises(ValueError, match=r"^[0-9]: not that one$"):
            list(cluster.each(refuse, range(3), place=LOCAL))


def test_nothing_at_the_address_is_said_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # bound, but nothing listens
        begun = time.monotonic()
        with pytest.raises(ValueError, match=f"--ray {address}: nothing answers there"):
            cluster.together(fail, place=Place(address), workers=1, line=Lines())
    assert time.monotonic() - begun < 25


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["another server", "silence"])
def test_another_server_at_the_address_is_told_apart(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_REACHED_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            with server.accept()[0] as client, contextlib.suppress(ConnectionError):
                client.sendall(answer)
                while client.recv(100):
                    pass

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(ValueError, match=f"--ray {address}: what answers there is no Ray cluster"):
            cluster.together(fail, place=Place(address), workers=1, line=Lines())
        serving.join()


@pytest.mark.slow
def test_a_server_that_begins_as_ray_does_and_then_says_nothing() -> None:
    """In a process of its own, since Ray reads its time limits when it is imported."""
    code = "import sys; from nas.run.cluster import connected\nwith connected(sys.argv[1]): pass"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    held[-1].sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))  # an empty SETTINGS frame

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        address, begun = f"127.0.0.1:{server.getsockname()[1]}", time.monotonic()
        done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, timeout=120)
        assert f"ValueError: --ray {address}: cannot join a cluster there" in done.stderr
        assert time.monotonic() - begun < 30
    for connection_ in held:
        connection_.close()
