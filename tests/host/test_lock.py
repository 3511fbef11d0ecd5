"""A folder belongs to one process: the second one is refused, and told which one holds it."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from nas.host import lock

HOLDER = (
    "import sys, time\n"
    "from nas.host import lock\n"
    "with lock.exclusive(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


def holder(folder: pathlib.Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_it(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "new" / "run"
    process = holder(folder)
    try:
        with pytest.raises(ValueError) as caught, lock.exclusive(folder):
            pass
    finally:
        process.kill()
        process.communicate()
    who = rf"process {process.pid} on \S+ since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\S*"
    assert re.fullmatch(
        rf"{folder}: is being written by {who}; wait for it, or choose another folder",
        str(caught.value),
    )
    # The lock dies with its process; what it has left does not stand in the way.
    assert (folder / lock.FILE).exists()
    with lock.exclusive(folder):
        assert f"process {os.getpid()} " in (folder / lock.FILE).read_text()
    assert list(folder.iterdir()) == []


def test_the_same_process_may_enter_again(tmp_path: pathlib.Path) -> None:
    with lock.exclusive(tmp_path), lock.exclusive(tmp_path):
        assert (tmp_path / lock.FILE).exists()
    assert not (tmp_path / lock.FILE).exists()


def test_half_written_files_of_killed_processes_are_removed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".rows.csv.x7.partial").write_text("1,")
    (tmp_path / "a" / "rows.csv").write_text("1,2\n")
    with lock.exclusive(tmp_path):
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["rows.csv"]


def test_an_error_inside_frees_it_and_leaves_no_new_folder(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "a" / "b"
    with pytest.raises(KeyError), lock.exclusive(folder):
        raise KeyError
    assert not (tmp_path / "a").exists()
    with lock.exclusive(folder):
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_file_in_its_place_is_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="cannot be written") as caught, lock.exclusive(folder):
            pass
        assert "\n" not in str(caught.value)


def test_a_file_system_without_locks_is_said(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import errno
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with lock.exclusive(tmp_path):
        pass
    assert "its file system has no locks" in caplog.text
