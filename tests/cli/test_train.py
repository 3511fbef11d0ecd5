"""`nas-train`: what it prints, and how it fails."""

from __future__ import annotations

import pathlib

import pytest

from nas.cli import train

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
