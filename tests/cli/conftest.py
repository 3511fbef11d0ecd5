"""Commands in the process of the tests: what they print, and how they fail."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable

import pytest

Fails = Callable[..., str]


@pytest.fixture
def elsewhere(
    in_this_process: None, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """The default workdir is a temporary one."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(finished_run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the finished run."""
    return pathlib.Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def contents() -> Callable[[pathlib.Path], dict[str, bytes]]:
    """All files of a folder."""

    def read(folder: pathlib.Path) -> dict[str, bytes]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read


@pytest.fixture
def search_fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """The one line of a user's mistake with `nas-search`."""
    from nas.cli import search

    def fails(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            search.main(arguments)
        out, err = capsys.readouterr()
        assert caught.value.code == 2 and out == ""
        assert err.startswith("nas-search: error: ") and err.count("\n") == 1
        assert err.endswith("\n") and "Traceback" not in err
        return err

    return fails
