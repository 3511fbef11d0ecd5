"""`nas-train`: what it prints, and how it fails."""

from __future__ import annotations

import pathlib
import re
import shutil

import pytest

import search_spaces
from nas.cli import train
from search_spaces import yaml_io

pytestmark = pytest.mark.usefixtures("in_this_process")


def test_a_found_network(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(finished_run), "--workdir", str(tmp_path / "t"), "--set", "epochs=1"]
    given += ["--set", "batch=16"]
    train.main([*given, "--dry-run"])
    out = capsys.readouterr().out
    assert "3 steps of 16 images with sgd, from scratch" in out and "48 train" in out
    assert not (tmp_path / "t").exists()
    train.main(given)
    out = capsys.readouterr().out
    assert "best network, of step " in out and out.count("accuracy ") == 2
    assert f"report: {tmp_path}/t/report.html" in out
    train.main(given)  # again: only said
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--recipe", "smal"], "no recipe called 'smal'"),
        (["--set", "batch"], "--set 'batch': expected key.path=value"),
        (["--set", "batch=10", "--set", "replicas=3"], "--batch"),
        (["--init", "supernet", "--fit-classes", "--data", "npz:none.npz"], "none.npz"),
    ],
)
def test_mistakes_are_one_line(
    given: list[str],
    message: str,
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train.main([str(finished_run), "--workdir", str(tmp_path), *given])
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and message in err and err.count("\n") == 1


def test_a_checkpoint_of_another_network_is_one_line_with_names_and_shapes(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its record says that it is the same training: somebody has copied the checkpoints."""
    settings = ["--set", "epochs=1", "--set", "batch=16"]
    wider = yaml_io.to_yaml(search_spaces.base(str(finished_run.parent / "tiny" / "base.yaml")))
    (tmp_path / "wider.yaml").write_text(wider.replace("filters: 16", "filters: 24"))
    data = f"npz:{finished_run.parent / 'tiny' / 'tiny.npz'}"
    other = [str(tmp_path / "wider.yaml"), "--data", data, "--workdir", str(tmp_path / "b")]
    train.main([*other, *settings])
    shutil.copytree(tmp_path / "b" / "checkpoints", tmp_path / "a" / "checkpoints")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train.main([str(finished_run), "--workdir", str(tmp_path / "a"), *settings])
    last = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and last.startswith("nas-train: error: ")
    assert re.search(r"the checkpoint has \.params\[.* as \(.*24.*\), this run needs \(", last)
    assert "more; it was made with another" in last and "give another --workdir" in last
