"""CONTRIBUTING's table "to add / do" is true: each row is followed for one member, in a copy."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from . import descriptions, engine
from .edits import ROOT

PACKAGES = ("search_spaces", "latency_tables", "rewards", "nas", "experiments")

FOLLOWED = {
    "block": descriptions.add_block,
    "stage": descriptions.add_stage,
    "base or a known network": descriptions.add_known_network,
    "device": descriptions.add_device,
    "kind of device": descriptions.add_kind_of_device,
    "importer of latency data": descriptions.add_importer,
    "reward": descriptions.add_reward,
    "searcher": engine.add_searcher,
    "data source": engine.add_source,
    "teacher's file format": engine.add_teacher,
    "augmentation recipe": engine.add_recipe,
    "optimiser": engine.add_optimiser,
    "task": engine.add_task,
    "configuration": engine.add_configuration,
    "recipe of trainings": engine.add_training_recipe,
    "export format": engine.add_format,
    "command": engine.add_command,
}
"""{row: edits the copy as the row says, and returns code that must run there}."""

RUN = """
import json, sys, traceback
sys.path.insert(0, sys.argv[1])
problems = {}
for row, code in json.load(sys.stdin).items():
    try:
        exec(code, {"__name__": row})
    except BaseException:
        problems[row] = traceback.format_exc()
print(json.dumps(problems))
"""


def table() -> dict[str, str]:
    """{to add: do} of CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (an? .*?) \| (.*) \|$", text, re.M)
    return {what.removeprefix("a ").removeprefix("an "): do for what, do in rows}


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """{row: traceback}, of all rows followed in one copy, without the large data."""
    copy = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "embedded", "results")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    codes = {row: textwrap.dedent(follow(copy)) for row, follow in FOLLOWED.items()}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(copy)],
        input=json.dumps(codes),
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_row_is_followed() -> None:
    assert set(FOLLOWED) == set(table())


@pytest.mark.parametrize("row", FOLLOWED)
def test_a_row_is_enough(row: str, problems: dict[str, str]) -> None:
    assert row not in problems, problems[row]


def test_files_and_names_of_every_row_exist() -> None:
    """Paths are there, and a row's table is defined in the file that it names."""
    for do in table().values():
        for path in re.findall(r"`([\w/]+(?:/|\.py|\.yaml))`", do):
            assert (ROOT / path).exists(), path
        for name, path in re.findall(r"`([A-Z_]{4,})` of `([\w/]+\.py)`", do):
            text = pathlib.Path(ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^{name}\b", text, re.M), (name, path)
