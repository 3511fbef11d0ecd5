"""One function on many items, in this process and in others."""

from __future__ import annotations

import operator
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from nas.host.parallel import WorkerPool


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_item_once(workers: int) -> None:
    assert sorted(WorkerPool(workers).map_unordered(operator.neg, list(range(7)))) == list(
        range(-6, 1)
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_the_iteration(workers: int) -> None:
    function: Callable[[int], float] = (1).__truediv__
    with pytest.raises(TypeError):
        list(WorkerPool(workers).map_unordered(operator.index, [1, "2", 3]))  # pyright: ignore[reportArgumentType]
    assert list(WorkerPool(workers).map_unordered(function, [])) == []


def _process(_: int) -> int:
    return os.getpid()


def test_a_single_item_gets_a_dedicated_core_too() -> None:
    """The last training of a resumed diagnosis used all cores once, and had another result."""
    assert list(WorkerPool(2).map_unordered(_process, [0])) == [os.getpid()]
    (process,) = WorkerPool(2).map_unordered(_process, [0], dedicated_core=True)
    assert process != os.getpid()
    assert list(WorkerPool(2).map_unordered(_process, [], dedicated_core=True)) == []


_SLEEP = """
import time
from nas.host.parallel import WorkerPool
if __name__ == "__main__":
    list(WorkerPool(2).map_unordered(time.sleep, [600.0] * 9))
"""


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/environ").exists(), reason="processes are counted by Linux's /proc"
)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_pool_leaves_no_process_behind(
    how: signal.Signals, processes_with: Callable[[str], int], tmp_path: pathlib.Path
) -> None:
    script, mark = tmp_path / "sleep.py", f"MNV4_NAS_TEST={tmp_path}"
    script.write_text(_SLEEP)
    environment = {**os.environ, "MNV4_NAS_TEST": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL
    )
    # The script, two workers that sleep, and perhaps helpers of multiprocessing.
    _until(lambda: processes_with(mark) >= 3)
    time.sleep(1)
    process.send_signal(how)
    assert process.wait(20) != 0
    _until(lambda: processes_with(mark) == 0)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
