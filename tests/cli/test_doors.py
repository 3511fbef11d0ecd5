"""Commands with damaged files, occupied folders and outputs that cannot be written: one line."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from nas.cli import latency, report, search
from nas.host import lock

Fails = Callable[..., str]


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of any command; exit code 2."""

    def check(main: Callable[[list[str]], None], *arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, arguments)))
        err = capsys.readouterr().err
        lines = [line for line in err.splitlines() if "error: " in line]
        assert caught.value.code == 2 and len(lines) == 1 and "Traceback" not in err
        assert err.splitlines()[-1] == lines[0] and "\x1b" not in err
        return lines[0]

    return check


SETTINGS = {
    "a tag": ('seed=!!int ""', "the tag 'tag:yaml.org,2002:int'"),
    "too deep": ("seed=" + "[" * 5000, "nested too deeply"),
    "a truth value": ("weights.learning_rate=true", "got True"),
    "a quoted number": ('weights.clip_norm="5"', "got '5'"),
    "infinite": ("weights.l2=.inf", "got inf: input should be a finite number"),
    "infinite in a list": ("space.coarse.multipliers=[.inf]", "got inf"),
    "a huge number": ("space.coarse.multipliers=[1.0e+300]", "less than or equal to 1000"),
    "a key twice inside": ("weights={l2: 0.1, l2: 0.2}", "l2: given twice"),
}


@pytest.mark.parametrize(("setting", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings(setting: str, message: str, search_fails: Fails) -> None:
    assert message in search_fails("--dry-run", "--set", setting)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("seed=1", "seed=2"),
        ("weights.l2=0.1", "weights={l2: 0.2}"),
        ("weights={l2: 0.2}", "weights.l2=0.1"),
    ],
)
def test_a_setting_twice(first: str, second: str, search_fails: Fails) -> None:
    assert "given twice" in search_fails("--dry-run", "--set", first, "--set", second)


def test_an_infinite_target(search_fails: Fails) -> None:
    line = search_fails("--stage", "coarse", "--dry-run", "--device", "ridge-sweep:mnv4-conv-s*inf")
    assert "'inf' is not a number, or not finite" in line


def test_a_second_search_in_a_workdir_is_refused(
    run: pathlib.Path, tiny_recipe: pathlib.Path, search_fails: Fails, contents: Callable[..., dict]
) -> None:
    code = (
        "import sys, time\nfrom nas.host import lock\n"
        "with lock.exclusive(sys.argv[1]):\n    print(1, flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline()
        before = contents(run)
        line = search_fails("--config", str(tiny_recipe), "--workdir", str(run))
        assert f"{run}: is being written by process {holder.pid} on " in line and " since " in line
        assert contents(run) == before
    finally:
        holder.kill()
        holder.communicate()
    search.main(["--config", str(tiny_recipe), "--workdir", str(run), "--stage", "coarse"])
    assert not (run / lock.FILE).exists()


def test_a_report_that_a_kill_prevented_is_written(
    run: pathlib.Path, tiny_recipe: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run / "coarse" / "report.html"
    whole = page.read_bytes()
    page.unlink()
    search.main(["--config", str(tiny_recipe), "--workdir", str(run), "--stage", "coarse"])
    assert page.read_bytes() == whole
    assert f"report: {page}" in capsys.readouterr().out


Damage = tuple[str, str, str]
REPORTS: dict[str, tuple[Damage, str]] = {
    "no entropy": (
        ("metrics.jsonl", '"entropy"', '"entropx"'),
        r"metrics\.jsonl:1: entropy: lacks it",
    ),
    "a text for a number": (
        ("metrics.jsonl", r'"reward": [-0-9.e]+', '"reward": "x"'),
        r"metrics\.jsonl:1: reward: got 'x', expected a number",
    ),
    "no row": (("metrics.jsonl", r"^.*$", "5"), r"metrics\.jsonl:1: expected a JSON object"),
    "no target": (("architecture.yaml", r"target: [0-9.]+", "target: 0"), "target: got 0"),
    "no accuracy": (
        ("architecture.yaml", r"supernet_validation_accuracy: [0-9.]+, ", ""),
        "found.quality lacks supernet_validation_accuracy",
    ),
    "other policy": (("policy.jsonl", r"^.*$", '{"step": 1}'), "policy.jsonl:1: probabilities"),
    "markup": (("architecture.yaml", "unit: M", "unit: '<script>alert(1)</script>'"), "unit: got"),
    "control characters": (
        ("architecture.yaml", r"cost:\n( *)macs:", r'cost:\n\1"ev\\e[31mil":'),
        r"ev\\x1b\[31mil",
    ),
    "candidates": (("candidates.csv", r"^reward", "rewart"), "candidates.csv:1: got columns"),
    "a decimal comma": (
        ("candidates.csv", r"\n0\.([0-9]+),", r"\n0,\1,"),
        r"candidates\.csv:2: expected \d+ values, got",
    ),
    "duplicate key": (("architecture.yaml", r"\A", "name: x\n"), "name: given twice"),
}


@pytest.mark.parametrize(("damage", "message"), REPORTS.values(), ids=REPORTS)
def test_a_report_of_damaged_files(
    damage: Damage, message: str, run: pathlib.Path, fails: Callable[..., str]
) -> None:
    file, pattern, new = damage
    path = run / "coarse" / file
    text = path.read_text()
    damaged = re.sub(pattern, new, text, count=1, flags=re.MULTILINE)
    assert damaged != text
    path.write_text(damaged)
    (run / "fine" / "config.yaml").unlink()
    (run / "coarse" / "report.html").unlink()
    assert re.search(message, fails(report.main, run))
    assert not (run / "coarse" / "report.html").exists()


@pytest.mark.parametrize(
    "line", ["{}", "5", "[]", "null", '{"step": null}', '{"step": true}', "[" * 9999]
)
def test_a_damaged_log_of_an_unfinished_run(
    line: str, run: pathlib.Path, tiny_recipe: pathlib.Path, fails: Callable[..., str]
) -> None:
    (run / "coarse" / "architecture.yaml").unlink()
    log = run / "coarse" / "metrics.jsonl"
    text = f"{line}\n{log.read_text()}"
    log.write_text(text)
    arguments = ("--config", tiny_recipe, "--workdir", run, "--stage", "coarse")
    said = fails(search.main, *arguments)
    assert f"{log}:1: " in said and "restore the file from a copy" in said
    assert log.read_text() == text


class TestOutputs:
    """A folder or file in the way, a read-only or full disk."""

    def test_a_folder_in_the_way(self, tmp_path: pathlib.Path, fails: Callable[..., str]) -> None:
        (tmp_path / "d.svg").mkdir()
        line = fails(
            latency.main, "estimate", "small-32", "--device", "macs", "--plot", tmp_path / "d.svg"
        )
        assert f"{tmp_path / 'd.svg'}: cannot be written (is a folder); choose another" in line
        line = fails(search.main, "describe", "small-32", "--html", tmp_path / "d.svg")
        assert "cannot be written (is a folder)" in line
        assert [path.name for path in tmp_path.iterdir()] == ["d.svg"]

    def test_a_file_in_the_way(
        self, tmp_path: pathlib.Path, tiny_recipe: pathlib.Path, fails: Callable[..., str]
    ) -> None:
        (tmp_path / "file").touch()
        out = tmp_path / "file" / "x.svg"
        line = fails(latency.main, "estimate", "small-32", "--device", "macs", "--plot", out)
        assert f"{out}: cannot be written" in line
        line = fails(search.main, "--config", tiny_recipe, "--workdir", tmp_path / "file" / "run")
        assert "cannot be written" in line
        line = fails(search.main, "--config", tiny_recipe, "--workdir", tmp_path / ("n" * 300))
        assert "File name too long" in line

    def test_a_full_disk_in_the_middle_of_a_search(
        self, tmp_path: pathlib.Path, tiny_recipe: pathlib.Path, search_environment: dict[str, str]
    ) -> None:
        """No file may grow beyond some kB: SIGXFSZ is ignored, writes fail as on a full disk."""
        program = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "import nas.cli.search, nas.api.session, nas.model.layers.native\n"
            "from orbax.checkpoint import v1\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))\n"
            "nas.cli.search.main(sys.argv[1:])\n"
        )
        arguments = ["--config", str(tiny_recipe), "--workdir", str(tmp_path / "run")]
        arguments += ["--stage", "coarse", "--set", "search.steps.coarse=20"]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**search_environment, "JAX_ENABLE_COMPILATION_CACHE": "false"},  # limited, too
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 1, done.stderr
        # Threads of the checkpoint library may print before it and after it.
        line = done.stderr[done.stderr.index("nas-search: error: ") :].splitlines()[0]
        assert "nas/cli" not in done.stderr
        assert "cannot be written" in line and "rerun the same command to resume" in line, line
        assert not (tmp_path / "run" / "coarse" / "architecture.yaml").exists()
