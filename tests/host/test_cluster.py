"""Processes and tasks on a real Ray cluster, some of which are really lost."""

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

from nas.host import cluster
from nas.host.cluster import ClusterSpec, WorkerResources, connection
from nas.host.cluster.processes import _POLL_S
from nas.host.progress import Progress

LOCAL = ClusterSpec(cluster.LOCAL)

# Ray forks this process, where another test may have loaded JAX.
pytestmark = [
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.usefixtures("machine_alone"),
]


class Recorder:
    """A progress that keeps its reports."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, str]] = []
        self.messages: list[str] = []

    def update(self, step: int, text: str) -> None:
        self.steps.append((step, text))

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start_phase(self, name: str, total: int) -> None:
        raise AssertionError(name)


def add_up(folder: pathlib.Path, progress: Progress) -> tuple[int, float]:
    """(processes, sum of their numbers); the first is lost once, before it computes."""
    import jax
    from jax.experimental import multihost_utils

    _die_once(folder / "tried", jax.process_index() == 0)
    progress.update(jax.process_index(), "here")
    every = multihost_utils.process_allgather(jax.numpy.array(10.0 + jax.process_index()))
    time.sleep(2 * _POLL_S)
    return jax.process_count(), float(every.sum())


def add_up_slowly(folder: pathlib.Path, progress: Progress) -> float:
    """Twenty sums; the second process is lost once in the middle, while the first waits for it."""
    import jax
    from jax.experimental import multihost_utils

    total = 0.0
    for number in range(20):
        _die_once(folder / "tried", number == 10 and jax.process_index() == 1)
        total += float(multihost_utils.process_allgather(jax.numpy.array(float(number))).sum())
    return total


def fail(progress: Progress) -> None:
    raise ValueError("a user's mistake, found by a worker")


def where(folder: pathlib.Path, number: int) -> tuple[int, int, int]:
    """(number, process ID, number of cores that it may use); the third task is lost once."""
    _die_once(folder / "tried", number == 2)
    return number, os.getpid(), len(os.sched_getaffinity(0))


def refuse(number: int) -> int:
    raise ValueError(f"{number}: not that one")


def _die_once(mark: pathlib.Path, now: bool) -> None:
    if now and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
class TestRunDistributed:
    def test_two_processes_of_which_one_is_lost_once(self, tmp_path: pathlib.Path) -> None:
        progress = Recorder()
        assert cluster.run_distributed(
            functools.partial(add_up, tmp_path), cluster=LOCAL, workers=2, progress=progress
        ) == (2, 21.0)
        assert progress.steps == [(0, "here")]
        started, lost, restarted = progress.messages
        assert (
            started == restarted == f"2 workers: 2 on {socket.gethostname()}"
            and "a worker was lost" in lost
        )

    def test_a_process_lost_in_the_middle_of_a_computation(self, tmp_path: pathlib.Path) -> None:
        progress, work = Recorder(), functools.partial(add_up_slowly, tmp_path)
        assert cluster.run_distributed(work, cluster=LOCAL, workers=2, progress=progress) == 2 * 190
        assert sum("a worker was lost" in text for text in progress.messages) == 1

    def test_an_error_of_a_worker_ends_the_run(self) -> None:
        with pytest.raises(ValueError, match="a user's mistake, found by a worker"):
            cluster.run_distributed(fail, cluster=LOCAL, workers=1, progress=Recorder())

    def test_processes_lost_too_often(self, tmp_path: pathlib.Path) -> None:
        work = functools.partial(add_up, tmp_path)
        with pytest.raises(
            cluster.WorkersLost,
            match=r"workers were lost 1 times \(.*\); the last checkpoint is kept",
        ):
            cluster.run_distributed(work, cluster=LOCAL, workers=1, progress=Recorder(), restarts=0)

    @pytest.mark.parametrize(
        ("workers", "resources", "message"),
        [
            (
                3,
                WorkerResources(200, resources={"TPU": 4}),
                ", 0 TPU; asked for: 3 of 200 CPU, 4 TPU each",
            ),
            (1, WorkerResources(200), "; asked for: 200 CPU"),
        ],
    )
    def test_too_few_resources(
        self, workers: int, resources: WorkerResources, message: str
    ) -> None:
        with pytest.raises(
            ValueError, match=f"^`ray` local: the cluster has [0-9]+ CPU{re.escape(message)}$"
        ):
            cluster.run_distributed(
                fail,
                cluster=ClusterSpec(cluster.LOCAL, resources),
                workers=workers,
                progress=Recorder(),
            )


@pytest.mark.slow
class TestMapUnordered:
    def test_every_item_once_in_its_own_process_and_on_its_own_core(
        self, tmp_path: pathlib.Path
    ) -> None:
        work = functools.partial(where, tmp_path)
        results = sorted(cluster.map_unordered(work, range(4), cluster=LOCAL, dedicated_core=True))
        # The lost task is there, too, and only once.
        assert [number for number, _, _ in results] == [0, 1, 2, 3]
        assert len({process for _, process, _ in results}) == 4
        assert {count for _, _, count in results} == {1}

    def test_an_error_of_a_task_ends_the_iteration(self) -> None:
        with pytest.raises(ValueError, match=r"^[0-9]: not that one$"):
            list(cluster.map_unordered(refuse, range(3), cluster=LOCAL))


def test_an_address_where_nothing_answers_is_an_error_within_seconds() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # bound, but nothing listens
        begun = time.monotonic()
        with pytest.raises(ValueError, match=f"`ray` {address}: nothing answers there"):
            cluster.run_distributed(
                fail, cluster=ClusterSpec(address), workers=1, progress=Recorder()
            )
    assert time.monotonic() - begun < 25


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["another server", "silence"]
)
def test_another_server_at_the_address_is_an_error(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        with pytest.raises(
            ValueError, match=f"`ray` {address}: the server at this address is not a Ray head"
        ):
            cluster.run_distributed(
                fail, cluster=ClusterSpec(address), workers=1, progress=Recorder()
            )
        serving.join()


@pytest.mark.slow
def test_a_server_that_starts_like_ray_and_then_stays_silent() -> None:
    """In another process, because Ray reads its time limits when it is imported."""
    code = "import sys; from nas.host.cluster import connected\nwith connected(sys.argv[1]): pass"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    held[-1].sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))  # an empty SETTINGS frame

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        address, begun = f"127.0.0.1:{server.getsockname()[1]}", time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=120
        )
        assert f"ValueError: `ray` {address}: cannot join a cluster there" in done.stderr
        assert time.monotonic() - begun < 30
    for connection_ in held:
        connection_.close()
