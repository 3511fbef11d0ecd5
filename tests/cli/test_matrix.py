"""Many searches from one file."""

from __future__ import annotations

import io
import pathlib

import pytest
from rich.console import Console

import search_spaces
from nas.cli import search
from nas.engine.matrix import Cell, Matrix
from nas.host.remote import Folder
from nas.report.matrix import LiveTable
from nas.run import config_files
from nas.run.config import RunConfig
from nas.run.matrix import Outcome
from search_spaces import yaml_io

TEXT = """\
schema: 1
name: tries
config: {recipe}
stages: [coarse]
seeds: [0, 1]
targets: {{near: ["macs:0.01M"], far: ["macs:5M"]}}
variants:
  short: {{search.steps.coarse: 6}}
"""


@pytest.fixture
def file(tiny_recipe: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "tries.yaml"
    path.write_text(TEXT.format(recipe=tiny_recipe))
    return path


def test_every_combination(file: pathlib.Path) -> None:
    settings = yaml_io.load_model(file, Matrix).settings()
    assert list(settings) == [
        "short-near-seed0",
        "short-near-seed1",
        "short-far-seed0",
        "short-far-seed1",
    ]
    assert settings["short-far-seed1"] == {
        "search.steps.coarse": 6,
        "targets": ["macs:5M"],
        "seed": 1,
    }
    assert list(Matrix(name="a").settings()) == ["seed0"]


def test_runs_all_and_says_which_failed(
    in_this_process: None,
    file: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file.write_text(file.read_text().replace("seeds: [0, 1]", "seeds: [1]"))
    command = ["matrix", str(file), "--workdir", str(tmp_path / "runs"), "--workers", "1"]
    for _ in range(2):  # the second time everything is there
        with pytest.raises(SystemExit) as stopped:
            search.main(command)
        assert stopped.value.code == 1
        out, err = capsys.readouterr()
        assert "2/2  " in err and err.count(": found, ") == 1
        assert err.count("target macs:5M: no architecture of tiny-coarse reaches it") == 1
        assert out.count("short-near-seed") == 1 and (tmp_path / "runs" / "report.html").exists()
    specs = [
        search_spaces.load(path)
        for path in sorted((tmp_path / "runs").glob("*/coarse/architecture.yaml"))
    ]
    assert [spec.found.seed for spec in specs if spec.found] == [1]


def test_table(
    tiny_recipe: pathlib.Path, finished_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = config_files.load(str(tiny_recipe), RunConfig)
    cells = [
        Cell("a", config, Folder(finished_run), ("coarse", "fine")),
        Cell("b", config, Folder(tmp_path), ("coarse",)),
    ]
    console = Console(file=io.StringIO(), width=120)
    with LiveTable(cells, console) as table:
        table.done(Outcome("a", "", 2.0))
        console.print(table.table())
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    rows = [line.split("│") for line in text.splitlines() if "│" in line]
    assert "1/2  a: found, 2 s" in text
    assert [cell.strip() for cell in rows[0][1:5]] == ["a", "found", "fine", "12/12"]
    assert [cell.strip() for cell in rows[1][1:5]] == ["b", "waiting", "coarse", "0/60"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a/b\n", "name: got 'a/b'"),
        ("name: a\nseeds: []\n", "seeds"),
        ("name: a\nsedes: [1]\n", "unknown key"),
    ],
)
def test_mistakes(
    text: str, message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        search.main(["matrix", str(path)])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
