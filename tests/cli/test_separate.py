"""Many targets from one supernet, as people search them, and what is reported of it."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

import latency_tables
import search_spaces
from nas.cli import report, search
from nas.engine import diagnose

pytestmark = pytest.mark.usefixtures("in_this_process")

TARGETS = {"params": 0.001, "macs": 0.012}
STEPS = 12


def test_a_network_for_each_target(separate_run: pathlib.Path) -> None:
    for name, value in TARGETS.items():
        spec = search_spaces.load(separate_run / name / "one-stage" / "architecture.yaml")
        assert spec.found and list(spec.found.cost) == [name]
        cost = spec.found.cost[name]
        # Costs of the space are that far apart.
        most = min(abs((cost.most_likely or 0) / value - 1), 0.35)
        assert abs(cost.value / value - 1) <= most
        assert cost.value == pytest.approx(latency_tables.estimate(spec, name).value, rel=1e-5)


@pytest.mark.slow
def test_both_stages(
    tiny_recipe: pathlib.Path, search_environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """Without --stage, the coarse result of each target has a fine stage of its own."""
    targets = {"params": "params:0.0008M", "macs": "macs:0.01M"}  # which the fine spaces reach
    command = [sys.executable, "-m", "nas.cli.search", "--config", str(tiny_recipe), "--separate"]
    command += ["--workdir", str(tmp_path / "run")]
    command += [part for target in targets.values() for part in ("--device", target)]
    first, second = (
        subprocess.run(command, env=search_environment, capture_output=True, text=True, timeout=600)
        for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout.count("found tiny-coarse: ") == first.stdout.count("found tiny-fine: ") == 2
    for name in targets:
        spec = search_spaces.load(tmp_path / "run" / name / "fine" / "architecture.yaml")
        assert spec.found and list(spec.found.cost) == [name]
    assert second.stdout == "" and second.stderr.count("found already") == 3


def test_both_policies_are_logged(separate_run: pathlib.Path) -> None:
    text = (separate_run / "one-stage" / "policy.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == [9, STEPS - 1]
    assert all(len(row["probabilities"]) == 2 for row in rows)
    for policy in rows[-1]["probabilities"]:
        assert all(sum(options) == pytest.approx(1, abs=1e-3) for options in policy)
    assert rows[-1]["probabilities"][0] != rows[-1]["probabilities"][1]


@pytest.mark.slow
def test_diagnosis(
    separate_run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted in the middle of a line, it resumes, and trains nothing again that is there."""
    run = pathlib.Path(shutil.copytree(separate_run, tmp_path / "run"))
    command = ["diagnose", "--workdir", str(run), "--stage", "one-stage", "--workers", "1"]
    command += ["--architectures", "5", "--steps", "2", "--batch", "8"]
    search.main(command)
    first = capsys.readouterr().out
    folder = run / "one-stage" / "diagnose"
    trained = (folder / "trained.csv").read_text()
    assert len(trained.splitlines()) == 1 + 2 * 5
    (folder / "trained.csv").write_text(trained[:-4])
    search.main(command)
    assert capsys.readouterr().out == first
    again = (folder / "trained.csv").read_text()
    without_seconds = [
        [line.split(",")[:3] for line in text.splitlines()] for text in (again, trained)
    ]
    assert without_seconds[0] == without_seconds[1]
    diagnosis = json.loads((folder / "diagnosis.json").read_text())
    assert diagnosis["networks"] == 5 and diagnosis["verdict"] in first
    with pytest.raises(SystemExit):
        search.main([*command, "--learning-rate", "0.2"])
    assert "holds a diagnosis with other settings" in capsys.readouterr().err
    # More seeds of the same networks are added to what is there.
    search.main([*command, "--seeds", "3"])
    assert len((folder / "trained.csv").read_text().splitlines()) == 1 + 3 * 5
    page = (run / "macs" / "one-stage" / "report.html").read_text()
    assert "<h2>Ranking diagnosis" in page and page.count("<svg") == 6


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "finished trainings are kept; rerun the same command to resume"),
        (
            ValueError("training network (0,): the loss is nan"),
            2,
            "nas-search diagnose: error: training network (0,)",
        ),
    ],
)
def test_a_diagnosis_that_stops(
    error: BaseException,
    code: int,
    message: str,
    separate_run: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(diagnose, "run", stop)
    with pytest.raises(SystemExit) as stopped:
        search.main(["diagnose", "--workdir", str(separate_run), "--stage", "one-stage"])
    assert stopped.value.code == code and message in capsys.readouterr().err


def test_reports(
    separate_run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pathlib.Path(shutil.copytree(separate_run, tmp_path / "run"))
    for page in run.rglob("report.html"):
        page.unlink()
    report.main([str(run)])
    assert capsys.readouterr().out.count("written: ") == 3
    both = (run / "one-stage" / "report.html").read_text()
    assert "Networks compared" in both and both.count("<table") == 3 and both.count("<svg") == 1
    page = (run / "params" / "one-stage" / "report.html").read_text()
    for text in (
        "<b>params: ",
        "<h2>Architecture",
        "<h2>Search",
        "<h2>Candidates",
        "Policy probabilities over time",
        "seed: 0",
    ):
        assert text in page, text
    assert "<script" not in page and "https://" not in page.replace("https://matplotlib.org", "")
    report.main(["compare", str(run), "--html", str(tmp_path / "c.html")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["run", "accuracy", "macs", "params"] and len(lines) == 4
    # Each network costs something on both devices, and was searched for one of them.
    assert all(" M" in line and line.count("%") == 1 for line in lines[1:3])
    assert (tmp_path / "c.html").read_text().count("<table") == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [(["{folder}"], "holds neither a stage"), (["compare"], "give the folders")],
)
def test_report_mistakes(
    given: list[str], message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        report.main([text.format(folder=tmp_path) for text in given])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
