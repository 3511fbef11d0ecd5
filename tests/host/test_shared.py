"""Members that users add to a family are known in the worker processes too."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import pytest

from nas.host import shared
from search_spaces.families import Family

SHAPES: Family[object] = Family("shape", {"circle": 0})

# A script of a user's, with a module of its own beside it.
_FAMILIES = """
from search_spaces.families import Family
SHAPES = Family("shape", {"circle": 0})
def corners(name):
    return SHAPES.get(name)
"""
_MINE = "def triangle():\n    return 3\n"
_SCRIPT = """
from nas.host import shared
from nas.host.cluster import ClusterSpec
from nas.host.parallel import WorkerPool
import families, mine

if __name__ == "__main__":
    shared.share("families", "SHAPES")
    {define}
    families.SHAPES.register("registered", {member})
    name = families.SHAPES.name_of({member}) if {custom} else "registered"
    names = [name, "circle", name]
    pool = WorkerPool(2, {cluster})
    print(*sorted(map(str, pool.map_unordered(families.corners, names))))
"""


@pytest.fixture
def no_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """No family is shared at first, whatever other tests did."""
    monkeypatch.setattr(shared, "_shipped", {})


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch, no_family: None) -> Family[object]:
    """A shared family, new for each test."""
    monkeypatch.setattr(sys.modules[__name__], "SHAPES", Family("shape", {"circle": 0}))
    shared.share(__name__, "SHAPES")
    return SHAPES


def _run(folder: pathlib.Path, **parts: object) -> subprocess.CompletedProcess[str]:
    (folder / "families.py").write_text(_FAMILIES)
    (folder / "mine.py").write_text(_MINE)
    (folder / "script.py").write_text(_SCRIPT.format(**{"cluster": None, **parts}))
    command = [sys.executable, str(folder / "script.py")]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)


@pytest.mark.parametrize("custom", [True, False])
def test_worker_processes_know_members_of_a_module(custom: bool, tmp_path: pathlib.Path) -> None:
    done = _run(tmp_path, define="", member="mine.triangle", custom=custom)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0] == "0" and words.count("<function") == 2


def test_what_a_worker_process_cannot_import_is_an_error_with_the_cure(
    tmp_path: pathlib.Path,
) -> None:
    """As in a notebook: there is no file that another process could import."""
    define = "exec('def local(): return 4')"
    done = _run(tmp_path, define=define, member="local", custom=False)
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("ValueError: shape 'registered': cannot be sent to another process (")
    assert error.endswith(
        "it must be importable from a module: put it into a file and import it from there"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("machine_alone")
def test_ray_tasks_know_members_without_a_module_too(tmp_path: pathlib.Path) -> None:
    local = "ClusterSpec('local')"
    done = _run(tmp_path, define="", member="lambda: 4", custom=False, cluster=local)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "0" and done.stdout.count("<lambda>") == 2


def test_what_cannot_be_pickled_is_an_error_before_a_process_starts(
    shapes: Family[object],
) -> None:
    shapes.register("local", lambda: 1)
    with pytest.raises(ValueError, match=r"^shape 'local': cannot be sent to another process \("):
        shared.pack()


def test_only_what_was_added_is_sent_and_it_arrives_once(
    shapes: Family[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shared.pack() == ()
    shapes.register("square", 4)
    custom = shapes.name_of(textwrap.dedent)
    members = shared.pack()
    assert [member.name for member in members] == ["square", custom]
    shared.unpack(members)  # known here
    fresh: Family[object] = Family("shape", {"circle": 0})
    monkeypatch.setattr(sys.modules[__name__], "SHAPES", fresh)
    for _ in range(2):
        shared.unpack(members)
    assert dict(fresh) == {"circle": 0, "square": 4, custom: textwrap.dedent}


def test_a_family_that_is_shared_late_sends_its_custom_members(no_family: None) -> None:
    name = SHAPES.name_of(textwrap.indent)
    for _ in range(2):
        shared.share(__name__, "SHAPES")
    assert [member.name for member in shared.pack()] == [name]
