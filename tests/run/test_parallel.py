"""One function on many items, here and in other processes."""

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

from nas.run.parallel import Workers


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_item_once(workers: int) -> None:
    assert sorted(Workers(workers).each(operator.neg, list(range(7)))) == list(range(-6, 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_it(workers: int) -> None:
    function: Callable[[int], float] = (1).__truediv__
    with pytest.raises(TypeError):
        list(Workers(workers).each(operator.index, [1, "2", 3]))  # pyright: ignore[reportArgumentType]
    assert list(Workers(workers).each(function, [])) == []


def _process(_: int) -> int:
    return os.getpid()


def test_the_last_item_has_a_core_of_its_own_too() -> None:
    """What a resumed diagnosis has left to train was trained on all cores, and came out otherwise."""
    assert list(Workers(2).each(_process, [0])) == [os.getpid()]
    (process,) = Workers(2).each(_process, [0], own_core=True)
    assert process != os.getpid()
    assert list(Workers(2).each(_process, [], own_core=True)) == []


_SLEEP = """
import time
from nas.run.parallel import Workers
if __name__ == "__main__":
    list(Workers(2).each(time.sleep, [600.0] * 9))
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="processes are counted by Linux's /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_it_leaves_nobody_behind(
    how: signal.Signals, processes_with: Callable[[str], int], tmp_path: pathlib.Path
) -> None:
    script, mark = tmp_path / "sleep.py", f"MNV4_NAS_TEST={tmp_path}"
    script.write_text(_SLEEP)
    environment = {**os.environ, "MNV4_NAS_TEST": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    _until(lambda: processes_with(mark) >= 3)  # it, and two that sleep (and what multiprocessing has beside)
    time.sleep(1)
    process.send_signal(how)
    assert process.wait(20) != 0
    _until(lambda: processes_with(mark) == 0)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
