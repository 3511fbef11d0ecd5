"""`nas-search` as people use it: every mistake is one line and exit code 2, and nothing is overwritten."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from nas.cli import search
from nas.run import backend

Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """`main` may run here: it must not set up JAX anew, and its default workdir is a temporary one."""
    monkeypatch.setattr(backend, "prepare", lambda replicas: None)
    monkeypatch.chdir(tmp_path)


def contents(folder: pathlib.Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a user's mistake."""
    with pytest.raises(SystemExit) as caught:
        search.main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    assert err.startswith("nas-search: error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert "Traceback" not in err
    return err


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown configuration": (["--config", "quickstrt"], ["'quickstrt'", "known: ", "did you mean 'quickstart'?"]),
    "no such file": (["--config", "absent.yaml"], ["absent.yaml: no such file"]),
    "no such file, but a near one": (["--config", "{folder}/recipes.yaml"], ["no such file; did you mean recipe.yaml"]),
    "unknown key": (["--set", "search.stepz.coarse=5"], ["search.stepz: unknown key", "did you mean 'steps'"]),
    "unknown section": (["--set", "serach.batch=5"], ["serach: unknown key", "did you mean 'search'"]),
    "key below a value": (["--set", "name.x=5"], ["--set 'name.x=5': 'name' is a value"]),
    "resource without a number": (["--ray", "local", "--worker-resource", "TPU"], ["'TPU': expected NAME=N"]),
    "less than no core": (["--ray", "local", "--worker-cpus", "-1"], ["--worker-cpus: got -1, expected at least 0"]),
    "needs without a cluster": (["--worker-gpus", "1"], ["--worker-resource go with --ray"]),
    "replicas not shared evenly": (["--ray", "local", "--workers", "3"], ["--workers 3: they share", "replicas 2"]),
    "no equals sign": (["--set", "seed"], ["--set 'seed': expected key.path=value"]),
    "no key": (["--set", "=5"], ["--set '=5': expected key.path=value"]),
    "value that is no YAML": (["--set", "seed=[1"], ["--set 'seed=[1'", "not valid YAML"]),
    "value of another type": (["--set", "search.batch=many"], ["search.batch: got 'many'"]),
    "value out of range": (["--set", "policy.delay=1.5"], ["policy.delay: got 1.5"]),
    "warm-up longer than delay": (["--set", "policy.warmup=0.5"], ["warmup: got 0.5, expected at most delay (0.25)"]),
    "negative seed": (["--seed", "-1"], ["seed: got -1"]),
    "unknown device": (
        ["--device", "pixel-6-cpu:2ms"],
        ["no device called 'pixel-6-cpu'", "did you mean 'pixel6-cpu'"],
    ),
    "wrong unit": (["--device", "pixel6-cpu:200M"], ["pixel6-cpu costs are in ms, got 'M'"]),
    "a table for another input size": (
        ["--device", "{extra}/strict.yaml:0.3ms"],
        ["device 'strict': table x86-64-int8 has no rows for 14 operations", "fallback: interpolate"],
    ),
    "two targets on one device": (
        ["--device", "macs:0.008M", "--device", "macs:0.009M"],
        ["targets macs:0.008M, macs:0.009M: one target for each device"],
    ),
    "a file as workdir": (["--workdir", "{folder}/recipe.yaml"], ["--workdir", "is a file; choose a folder"]),
    "malformed target": (["--device", "pixel6-cpu"], ["'pixel6-cpu': expected device:value"]),
    "target out of reach": (
        ["--device", "macs:500M"],
        ["target macs:500M: no architecture of tiny-coarse reaches it", "cheapest costs 0.006", "dearest 0.01"],
    ),
    "targets that contradict each other": (
        ["--device", "macs:0.0105M", "--device", "params:0.0009M"],
        ["targets ", "contradict each other: an architecture of tiny-coarse that costs", "--separate"],
    ),
    "target below reach": (["--device", "macs:0.0001M"], ["no architecture of tiny-coarse reaches it"]),
    "unknown kind of data": (["--data", "zip:x"], ["data source 'zip:x': expected builtin:... or npz:..."]),
    "unknown builtin data": (
        ["--data", "builtin:fashion-cluter"],
        ["no builtin data set 'fashion-cluter'", "did you mean 'fashion-clutter'"],
    ),
    "no such data": (["--data", "npz:absent.npz"], ["npz:absent.npz: no such file"]),
    "data that are no npz": (["--data", "npz:{folder}/recipe.yaml"], ["recipe.yaml: cannot be read"]),
    "images of another size": (
        ["--data", "npz:{extra}/large.npz"],
        ["takes images of (8, 8, 3)", "large.npz has (9, 9, 3)"],
    ),
    "another number of classes": (
        ["--data", "npz:{extra}/four.npz"],
        ["has 3 classes, but npz:", "four.npz has 4", "--set space.classes=4"],
    ),
    "no teacher": (["--set", "data.labels=soft"], ["no teacher probabilities", "data.labels: hard"]),
    "unknown base": (["--set", "space.base=small-33"], ["no network called 'small-33'", "'small-32'"]),
    "no such base": (["--set", "space.base=absent.yaml"], ["absent.yaml: no such file"]),
    "damaged configuration": (["--config", "{extra}/damaged.yaml"], ["damaged.yaml:3: not valid YAML"]),
    "configuration that is a list": (["--config", "{extra}/list.yaml"], ["list.yaml:1: expected keys and values"]),
    "mistake in a file": (["--config", "{extra}/mistake.yaml"], ["mistake.yaml:3: seed: got 'x'"]),
    "fine without coarse": (["--stage", "fine"], ["fine stage starts from the coarse result", "--stage coarse"]),
    "hybrid without fine": (["--stage", "hybrid"], ["hybrid stage starts from the fine result", "--stage fine"]),
}


@pytest.fixture(scope="session")
def extra(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Files with mistakes."""
    folder = tmp_path_factory.mktemp("extra")
    (folder / "damaged.yaml").write_text("name: a\ntargets: [\n")
    (folder / "list.yaml").write_text("- a\n")
    (folder / "mistake.yaml").write_text("name: a\ntargets: ['macs:1M']\nseed: x\n")
    (folder / "strict.yaml").write_text(
        "kind: table\nname: strict\ntable: x86-64-int8\nfallback: error\nsource: a test\ndate: '2026'\n"
    )
    for name, size, classes in (("large", 9, 3), ("four", 8, 4)):
        arrays = {}
        for split in ("train", "validation", "test"):
            arrays[f"{split}_images"] = np.zeros((classes, size, size, 3), np.uint8)
            arrays[f"{split}_images"][0] = 9
            arrays[f"{split}_labels"] = np.arange(classes)
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


@pytest.mark.parametrize(("arguments", "parts"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    tiny_recipe: pathlib.Path,
    extra: pathlib.Path,
    arguments: list[str],
    parts: list[str],
) -> None:
    given = [text.format(folder=tiny_recipe.parent, extra=extra) for text in arguments]
    config = [] if "--config" in given else ["--config", str(tiny_recipe)]
    line = fails(capsys, *config, *given)
    for part in parts:
        assert part in line
    assert list(tmp_path.iterdir()) == []  # nothing is written


@pytest.mark.parametrize(
    "arguments",
    [
        ["--stage", "medium"],
        ["--frobnicate"],
        ["--seed", "x"],
        ["--workers", "2"],
        ["--plan", "h100:1"],
    ],
    ids=" ".join,
)
def test_unknown_options(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        search.main(arguments)
    assert caught.value.code == 2 and "nas-search: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--dry-run"], ["matrix", "tries.yaml"]),
        (["--set", "seed=3"], ["derive", "--out", "other"]),
        (["--workdir", "runs/a"], ["diagnose"]),
        (["--stage", "fine"], ["derive", "--out", "other"]),
    ],
)
def test_options_before_a_command_are_not_lost(
    capsys: pytest.CaptureFixture[str], before: list[str], after: list[str]
) -> None:
    with pytest.raises(SystemExit):
        search.main([*before, *after])
    assert f"error: {before[0]} before `{after[0]}` does nothing" in capsys.readouterr().err


class TestWorkdirOfAFinishedRun:
    @pytest.fixture
    def run(self, tiny_recipe: pathlib.Path, finished_run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
        return pathlib.Path(shutil.copytree(finished_run, tmp_path / "run"))

    @pytest.fixture
    def command(self, tiny_recipe: pathlib.Path, run: pathlib.Path) -> list[str]:
        return ["--config", str(tiny_recipe), "--workdir", str(run)]

    def test_is_not_overwritten(
        self, capsys: pytest.CaptureFixture[str], run: pathlib.Path, command: list[str]
    ) -> None:
        before = contents(run)
        search.main(command)
        out, err = capsys.readouterr()
        assert out == "" and err.count("found already; for another run choose another --workdir") == 2
        assert contents(run) == before

    def test_is_refused_to_another_config(
        self, capsys: pytest.CaptureFixture[str], run: pathlib.Path, command: list[str]
    ) -> None:
        before = contents(run)
        line = fails(capsys, *command, "--set", "search.batch=5", "--seed", "4")
        assert "coarse holds a run with another configuration" in line and "choose another --workdir" in line
        assert "- seed: 0; + seed: 4" in line
        assert contents(run) == before

    def test_unfinished_is_refused_to_another_config_too(
        self, capsys: pytest.CaptureFixture[str], run: pathlib.Path, command: list[str]
    ) -> None:
        (run / "coarse" / "architecture.yaml").unlink()
        before = contents(run)
        assert "- seed: 0; + seed: 4" in fails(capsys, *command, "--seed", "4")
        assert contents(run) == before

    def test_damaged_records_are_one_line(
        self, capsys: pytest.CaptureFixture[str], run: pathlib.Path, command: list[str]
    ) -> None:
        (run / "coarse" / "config.yaml").write_text("config: [")
        assert "config.yaml:1: not valid YAML" in fails(capsys, *command)

    def test_damaged_coarse_result_is_one_line(
        self, capsys: pytest.CaptureFixture[str], run: pathlib.Path, command: list[str]
    ) -> None:
        (run / "coarse" / "architecture.yaml").write_text("name: x\nblocks: {\n")
        assert "architecture.yaml:3: not valid YAML" in fails(capsys, *command, "--stage", "fine")

    def test_fine_on_another_coarse_result_is_refused(
        self, capsys: pytest.CaptureFixture[str], run: pathlib.Path, command: list[str]
    ) -> None:
        path = run / "coarse" / "architecture.yaml"
        path.write_text(path.read_text().replace("name: tiny", "name: other", 1))
        before = contents(run)
        assert "fine holds a run with another configuration" in fails(capsys, *command, "--stage", "fine")
        assert contents(run) == before

    def test_dry_run_describes_both_stages_and_writes_nothing(
        self, capsys: pytest.CaptureFixture[str], run: pathlib.Path, command: list[str]
    ) -> None:
        before = contents(run)
        search.main([*command, "--dry-run"])
        out = capsys.readouterr().out
        assert "space tiny-coarse: 2 decisions" in out and "space tiny-fine: " in out
        assert contents(run) == before


def test_dry_run_of_both_stages_before_there_is_a_coarse_result(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, tiny_recipe: pathlib.Path
) -> None:
    search.main(["--config", str(tiny_recipe), "--workdir", str(tmp_path / "run"), "--dry-run"])
    out = capsys.readouterr().out
    assert "space tiny-coarse" in out and "the fine stage follows" in out
    assert not (tmp_path / "run").exists()


def test_dry_run_writes_nothing(
    capsys: pytest.CaptureFixture[str], tiny_recipe: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    search.main(["--stage", "coarse", "--config", str(tiny_recipe), "--dry-run", "--set", "search.steps.coarse=77"])
    out, err = capsys.readouterr()
    assert "coarse: 77" in out and "target macs:0.01M: reachable" in out and err == ""
    assert list(tmp_path.iterdir()) == []


def test_operations_that_a_table_lacks_are_named(capsys: pytest.CaptureFixture[str], tiny_recipe: pathlib.Path) -> None:
    """The table was measured on 32 px and more; this search has 8 px."""
    search.main(["--stage", "coarse", "--config", str(tiny_recipe), "--dry-run", "--device", "x86-64-cpu:0.011ms"])
    out = capsys.readouterr().out
    assert "operations of the space have no row in its table and are estimated" in out


def test_options_become_settings(capsys: pytest.CaptureFixture[str], tiny_recipe: pathlib.Path) -> None:
    command = ["--stage", "coarse", "--config", str(tiny_recipe), "--dry-run", "--seed", "5"]
    search.main([*command, "--device", "macs:0.009M", "--device", "params:0.0007M"])
    out = capsys.readouterr().out
    assert "seed: 5" in out and "target macs:0.009M: reachable" in out and "target params:0.0007M: reachable" in out


def test_ctrl_c_and_divergence_end_with_their_codes(
    capsys: pytest.CaptureFixture[str], tiny_recipe: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.search import stages

    def raising(error: BaseException) -> Callable[..., None]:
        def run(*arguments: object, **more: object) -> None:
            raise error

        return run

    endings = [
        (KeyboardInterrupt(), 130, "stopped and saved in runs/tiny/coarse; to go on: nas-search"),
        (stages.loop.NotFinite("the loss is nan at step 3"), 1, "error: the loss is nan at step 3; the last good"),
    ]
    for error, code, message in endings:
        monkeypatch.setattr(stages, "run", raising(error))
        with pytest.raises(SystemExit) as caught:
            search.main(["--stage", "coarse", "--config", str(tiny_recipe)])
        assert caught.value.code == code and message in capsys.readouterr().err


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys, json\nfrom nas.cli import search\n"
        "try:\n    search.main(['--help'])\nexcept SystemExit as stop:\n"
        "    print(json.dumps([stop.code, sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "usage: nas-search" in done.stdout and "nas-search --stage fine" in done.stdout
    code_of_exit, modules = json.loads(done.stderr)
    assert code_of_exit in (0, None)
    assert not {"jax", "pydantic", "numpy", "flax", "yaml", "rich"} & set(modules)
