"""`nas-search describe`."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

import search_spaces
from nas.cli import search


def test_a_known_network(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    page = tmp_path / "layers.html"
    search.main(["describe", "mnv4-hybrid-m", "--html", str(page)])
    out = capsys.readouterr().out
    assert "11,074,648 parameters, 1,229.2 M MACs + 41.9 M in attention products" in out
    assert f"written: {page}" in out and page.read_text().startswith("<!doctype html>")


def test_without_a_name_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    search.main(["describe"])
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [*search_spaces.base_names(), *search_spaces.zoo_names()]


def test_a_space_by_its_largest_network(
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    tiny_space: search_spaces.SearchSpace,
) -> None:
    path = tmp_path / "space.yaml"
    search_spaces.dump(tiny_space.spec, path)
    search.main(["describe", str(path)])
    out = capsys.readouterr().out
    assert out.startswith("space tiny: 6 decisions; its largest network:")
    largest = search_spaces.freeze(
        tiny_space, [decision.largest for decision in tiny_space.decisions]
    )
    assert f"{search_spaces.params(largest):,} parameters" in out


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mnv4-conf-s", ["no network called 'mnv4-conf-s'", "did you mean 'mnv4-conv-s'?"]),
        ("absent.yaml", ["absent.yaml: no such file"]),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], name: str, parts: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        search.main(["describe", name])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.count("\n") == 1
    assert err.startswith("nas-search describe: error: ")
    assert all(part in err for part in parts)


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "nas.cli.search", "describe", "mnv4-hybrid-l"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(60) == 0
