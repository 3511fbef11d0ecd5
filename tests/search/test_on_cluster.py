"""A search in several processes of a cluster ends where an undisturbed one in one process does."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nas.run.log import read_log

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.usefixtures("machine_alone"),
]

FILES = ("metrics.jsonl", "policy.jsonl", "candidates.csv")
STEPS = "search.steps.coarse=1500"  # a quarter of a minute: time to lose something in the middle

_SMALL = {"object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}

SEARCH = [sys.executable, "-m", "nas.cli.search", "--stage", "coarse"]

Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def environment(search_environment: dict[str, str]) -> dict[str, str]:
    """Without warnings as errors: Ray's own processes have some."""
    return {key: value for key, value in search_environment.items() if key != "PYTHONWARNINGS"}


@pytest.fixture
def command(tiny_recipe: pathlib.Path) -> Command:
    """The command of a search in a workdir."""
    start = [*SEARCH, "--config", str(tiny_recipe)]
    return lambda workdir, *more: [*start, "--workdir", str(workdir), *more]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines with one CPU each and a head without any: three raylets of this machine."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, **_SMALL}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=1, **_SMALL)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def undisturbed(
    tiny_recipe: pathlib.Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """The stage of a longer search, in one process."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    command = [*SEARCH, "--config", str(tiny_recipe), "--workdir", str(workdir), "--set", STEPS]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    return workdir / "coarse"


def _same(one: pathlib.Path, other: pathlib.Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def _wait_until(step: int, stage: pathlib.Path, process: subprocess.Popen[str]) -> None:
    """Until the search has checkpoints and has passed a step."""
    end = time.monotonic() + 120
    while not (rows := read_log(stage / "metrics.jsonl")) or rows[-1]["step"] < step:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.1)


@pytest.mark.parametrize("scheme", ["", "file://"], ids=["a path", "a URL"])
def test_two_processes_are_as_one(
    scheme: str,
    command: Command,
    environment: dict[str, str],
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    """To the bit here, where a process has the device of a core; in general to rounding."""
    arguments = command(f"{scheme}{tmp_path}", "--ray", "local", "--workers", "2")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    _same(tmp_path / "coarse", finished_run / "coarse")


def test_a_machine_is_lost(
    cluster: Any,
    command: Command,
    environment: dict[str, str],
    undisturbed: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    arguments = command(tmp_path, "--ray", cluster.address, "--workers", "2", "--set", STEPS)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(arguments, env=environment, **pipes)
    _wait_until(300, tmp_path / "coarse", process)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    time.sleep(3)
    cluster.add_node(num_cpus=1, **_SMALL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (out + err).count("a worker was lost") == 1
    _same(tmp_path / "coarse", undisturbed)


def test_the_driver_is_killed_and_started_again(
    cluster: Any,
    command: Command,
    environment: dict[str, str],
    undisturbed: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    arguments = command(tmp_path, "--ray", cluster.address, "--workers", "2", "--set", STEPS)
    process = subprocess.Popen(arguments, env=environment, text=True, stderr=subprocess.PIPE)
    _wait_until(300, tmp_path / "coarse", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    _same(tmp_path / "coarse", undisturbed)


def test_a_task_sees_relative_paths_as_the_command_does(
    cluster: Any, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    code = _EACH.format(
        address=cluster.address, function="os.path.abspath", items="['a', 'b']", machine=False
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.split() == [str(tmp_path / "a"), str(tmp_path / "b")], done.stderr


def test_a_machine_that_is_lost_gives_its_task_to_another(
    cluster: Any, environment: dict[str, str]
) -> None:
    code = _EACH.format(
        address=cluster.address, function="time.sleep", items="[6.0] * 3", machine=True
    )
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)
    time.sleep(8)  # each of the two machines sleeps
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    out, err = process.communicate(timeout=120)
    cluster.add_node(num_cpus=1, **_SMALL)
    assert out.splitlines()[-1].split() == ["None"] * 3, err  # above it Ray tells of the machine


_EACH = """
import os, time
from nas.host.cluster import ClusterSpec, map_unordered
spec = ClusterSpec("{address}")
results = map_unordered({function}, {items}, cluster=spec, exclusive_machine={machine})
print(*sorted(map(str, results)))
"""


def test_too_few_machines_is_said_at_once(
    cluster: Any, command: Command, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    cluster.wait_for_nodes()  # one that was lost is counted for some seconds
    begun = time.monotonic()
    arguments = command(tmp_path, "--ray", cluster.address, "--worker-cpus", "2")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no machine has 2 CPU, only: 1 CPU; 1 CPU; 0 CPU" in done.stderr
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing_and_is_open_to_nobody(
    how: signal.Signals,
    command: Command,
    environment: dict[str, str],
    processes_with: Callable[[str], int],
    tmp_path: pathlib.Path,
) -> None:
    mark = f"MNV4_NAS_TEST={tmp_path}"
    environment = {**environment, **dict([mark.split("=", 1)])}
    before = _listening()
    arguments = command(
        tmp_path, "--ray", "local", "--workers", "2", "--set", "search.steps.coarse=100000"
    )
    process = subprocess.Popen(arguments, env=environment, text=True, stderr=subprocess.PIPE)
    _wait_until(10, tmp_path / "coarse", process)
    assert processes_with(mark) > 3  # the driver, two workers, and Ray's own
    assert {where for where in _listening() - before if not where.startswith(_LOOPBACK)} == set()
    process.send_signal(how)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the last checkpoint is in" in error and "to resume: nas-search" in error
    end = time.monotonic() + 30
    while processes_with(mark) and time.monotonic() < end:
        time.sleep(0.5)
    assert processes_with(mark) == 0


_LOOPBACK = ("0100007F:", "0000000000000000FFFF00000100007F:", "00000000000000000000000001000000:")
"""127.0.0.1, the same in IPv6, and ::1, as Linux writes them."""


def _listening() -> set[str]:
    """Addresses that this machine listens on (TCP), as in /proc/net."""
    texts = [
        pathlib.Path("/proc/net", name).read_text(encoding="ascii") for name in ("tcp", "tcp6")
    ]
    rows = [line.split() for text in texts for line in text.splitlines()]
    return {row[1] for row in rows if row[3] == "0A"}
