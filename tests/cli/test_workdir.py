"""`nas-search` in a folder that holds a run: nothing is overwritten; and dry runs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from nas.cli import search

Contents = Callable[[pathlib.Path], dict[str, bytes]]
Fails = Callable[..., str]


pytestmark = pytest.mark.usefixtures("elsewhere")


class TestWorkdirOfAFinishedRun:
    @pytest.fixture
    def command(self, tiny_recipe: pathlib.Path, run: pathlib.Path) -> list[str]:
        return ["--config", str(tiny_recipe), "--workdir", str(run)]

    def test_is_not_overwritten(
        self,
        capsys: pytest.CaptureFixture[str],
        contents: Contents,
        run: pathlib.Path,
        command: list[str],
    ) -> None:
        before = contents(run)
        search.main(command)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("found already; for another run choose another --workdir") == 2
        assert contents(run) == before

    def test_is_refused_to_another_config(
        self, search_fails: Fails, contents: Contents, run: pathlib.Path, command: list[str]
    ) -> None:
        before = contents(run)
        line = search_fails(*command, "--set", "search.batch=5", "--seed", "4")
        assert "coarse holds a run with another configuration" in line
        assert "choose another --workdir" in line
        assert "- seed: 0; + seed: 4" in line
        assert contents(run) == before

    def test_unfinished_is_refused_to_another_config_too(
        self, search_fails: Fails, contents: Contents, run: pathlib.Path, command: list[str]
    ) -> None:
        (run / "coarse" / "architecture.yaml").unlink()
        before = contents(run)
        assert "- seed: 0; + seed: 4" in search_fails(*command, "--seed", "4")
        assert contents(run) == before

    def test_damaged_records_are_one_line(
        self, search_fails: Fails, run: pathlib.Path, command: list[str]
    ) -> None:
        (run / "coarse" / "config.yaml").write_text("config: [")
        assert "config.yaml:1: not valid YAML" in search_fails(*command)

    def test_damaged_coarse_result_is_one_line(
        self, search_fails: Fails, run: pathlib.Path, command: list[str]
    ) -> None:
        (run / "coarse" / "architecture.yaml").write_text("name: x\nblocks: {\n")
        line = search_fails(*command, "--stage", "fine")
        assert "architecture.yaml:3: not valid YAML" in line

    def test_fine_on_another_coarse_result_is_refused(
        self, search_fails: Fails, contents: Contents, run: pathlib.Path, command: list[str]
    ) -> None:
        path = run / "coarse" / "architecture.yaml"
        path.write_text(path.read_text().replace("name: tiny", "name: other", 1))
        before = contents(run)
        line = search_fails(*command, "--stage", "fine")
        assert "fine holds a run with another configuration" in line
        assert contents(run) == before

    def test_dry_run_describes_both_stages_and_writes_nothing(
        self,
        capsys: pytest.CaptureFixture[str],
        contents: Contents,
        run: pathlib.Path,
        command: list[str],
    ) -> None:
        before = contents(run)
        search.main([*command, "--dry-run"])
        out = capsys.readouterr().out
        assert "space tiny-coarse: 2 decisions" in out and "space tiny-fine: " in out
        assert contents(run) == before


class TestDryRun:
    def test_of_both_stages_before_there_is_a_coarse_result(
        self, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, tiny_recipe: pathlib.Path
    ) -> None:
        search.main(["--config", str(tiny_recipe), "--workdir", str(tmp_path / "run"), "--dry-run"])
        out = capsys.readouterr().out
        assert "space tiny-coarse" in out and "space of the fine stage follows" in out
        assert not (tmp_path / "run").exists()

    @pytest.fixture
    def dry_run(
        self, capsys: pytest.CaptureFixture[str], tiny_recipe: pathlib.Path
    ) -> Callable[..., str]:
        """What a dry run of the coarse stage prints."""

        def run(*options: str) -> str:
            search.main(["--stage", "coarse", "--config", str(tiny_recipe), "--dry-run", *options])
            out, err = capsys.readouterr()
            assert err == ""
            return out

        return run

    def test_writes_nothing(self, dry_run: Callable[..., str], tmp_path: pathlib.Path) -> None:
        out = dry_run("--set", "search.steps.coarse=77")
        assert "coarse: 77" in out and "target macs:0.01M is feasible" in out
        assert list(tmp_path.iterdir()) == []

    def test_names_the_operations_that_a_table_lacks(self, dry_run: Callable[..., str]) -> None:
        """The table was measured on 32 px and more; this search has 8 px."""
        out = dry_run("--device", "x86-64-cpu:0.011ms")
        assert "operations of the space have no row in its table and are estimated" in out

    def test_options_become_settings(self, dry_run: Callable[..., str]) -> None:
        out = dry_run("--seed", "5", "--device", "macs:0.009M", "--device", "params:0.0007M")
        assert "seed: 5" in out
        assert "target macs:0.009M is feasible" in out
        assert "target params:0.0007M is feasible" in out
