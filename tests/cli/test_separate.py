"""Many targets from one supernet, and what can be asked of it afterwards, as people do it."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import statistics
import subprocess
import sys

import pytest

import latency_tables
import search_spaces
from nas.cli import report, search
from nas.run import backend
from nas.search import diagnose

TARGETS = {"params": 0.001, "macs": 0.012}
STEPS = 12


@pytest.fixture(scope="module")
def run(
    tiny_recipe: pathlib.Path, search_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """A one-stage search with a policy for each of two targets; the tests below add to it."""
    workdir = tmp_path_factory.mktemp("separate") / "run"
    devices = [part for name, value in TARGETS.items() for part in ("--device", f"{name}:{value}M")]
    command = [sys.executable, "-m", "nas.cli.search", "--stage", "one-stage", "--config", str(tiny_recipe)]
    command += ["--workdir", str(workdir), "--separate", "--set", f"search.steps.one_stage={STEPS}", *devices]
    done = subprocess.run(command, env=search_environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("found tiny-one-stage: ") == 2
    return workdir


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "prepare", lambda replicas: None)


def test_a_network_for_each_target(run: pathlib.Path) -> None:
    for name, value in TARGETS.items():
        spec = search_spaces.load(run / name / "one-stage" / "architecture.yaml")
        assert spec.found and list(spec.found.cost) == [name]
        cost = spec.found.cost[name]
        assert abs(cost.value / value - 1) <= min(
            abs((cost.most_likely or 0) / value - 1), 0.35
        )  # so far apart are they
        assert cost.value == pytest.approx(latency_tables.estimate(spec, name).value, rel=1e-5)


@pytest.mark.slow
def test_both_stages(tiny_recipe: pathlib.Path, search_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    """Without --stage, the coarse result of each target has a fine stage of its own."""
    targets = {"params": "params:0.0008M", "macs": "macs:0.01M"}  # which the fine spaces reach
    command = [sys.executable, "-m", "nas.cli.search", "--config", str(tiny_recipe), "--workdir", str(tmp_path / "run")]
    command += ["--separate", *(part for target in targets.values() for part in ("--device", target))]
    first, second = (
        subprocess.run(command, env=search_environment, capture_output=True, text=True, timeout=600) for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout.count("found tiny-coarse: ") == first.stdout.count("found tiny-fine: ") == 2
    for name in targets:
        spec = search_spaces.load(tmp_path / "run" / name / "fine" / "architecture.yaml")
        assert spec.found and list(spec.found.cost) == [name]
    assert second.stdout == "" and second.stderr.count("found already") == 3


def test_both_policies_are_logged(run: pathlib.Path) -> None:
    rows = [json.loads(line) for line in (run / "one-stage" / "policy.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [9, STEPS - 1]
    assert all(len(row["probabilities"]) == 2 for row in rows)
    for policy in rows[-1]["probabilities"]:
        assert all(sum(options) == pytest.approx(1, abs=1e-3) for options in policy)
    assert rows[-1]["probabilities"][0] != rows[-1]["probabilities"][1]


@pytest.mark.parametrize("by", ["random", "evolution"])
def test_another_target_from_the_same_supernet(
    by: str, run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["derive", "--stage", "one-stage", "--workdir", str(run), "--out", str(tmp_path), "--by", by]
    search.main([*given, "--device", "macs:0.015M", "--evaluations", "20"])
    assert "macs: 0.01" in capsys.readouterr().out
    spec = search_spaces.load(tmp_path / "architecture.yaml")
    with (tmp_path / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert spec.found and 1 <= len(rows) <= 20
    networks = [tuple(row.items())[3:] for row in rows]
    assert len(set(networks)) == len(networks)  # none is judged twice
    rewards = [float(row["reward"]) for row in rows]
    assert rewards == sorted(rewards, reverse=True)
    assert spec.found.quality["reward"] == pytest.approx(rewards[0], abs=1e-4)


def test_the_best_candidates_are_trained_one_by_one(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["derive", "--stage", "one-stage", "--workdir", str(run), "--out", str(tmp_path), "--by", "random"]
    given += ["--device", "macs:0.011M", "--evaluations", "20", "--finalists", "3", "--batch", "8", "--workers", "1"]
    given += ["--seeds", "2"]
    search.main([*given, "--steps", "2"])
    said = capsys.readouterr().out
    spec, trained = search_spaces.load(tmp_path / "architecture.yaml"), _trained(tmp_path)
    assert [*map(len, trained.values())] == [2, 2]  # so many cost 0.011032 M, the others less or more; two go on
    best = max(map(statistics.fmean, trained.values()))
    assert spec.found and spec.found.quality["trained_validation_accuracy"] == pytest.approx(best, abs=1e-4)
    assert statistics.fmean(trained["-".join(map(str, spec.found.decisions.values()))]) == best
    assert f", {best:.3f} trained alone" in said
    rows = (tmp_path / "trained" / "trained.csv").read_text()
    search.main([*given, "--steps", "2"])
    assert capsys.readouterr().out == said and (tmp_path / "trained" / "trained.csv").read_text() == rows
    record = (tmp_path / "trained" / "config.yaml").read_text()
    for change, other in (("--steps", "3"), ("--learning-rate", "0.3")):
        with pytest.raises(SystemExit):
            search.main([*given, "--steps", "2", change, other])
        assert "holds other trainings (- " in capsys.readouterr().err
    (tmp_path / "trained" / "config.yaml").write_text(re.sub("space: .*", "space: another", record))
    with pytest.raises(SystemExit):
        search.main([*given, "--steps", "2"])
    assert "holds other trainings (- space: another; + space: " in capsys.readouterr().err
    report.main(["compare", str(tmp_path), str(run / "macs" / "one-stage")])
    lines = capsys.readouterr().out.splitlines()
    assert "trained alone" in lines[0] and f"{best:.3f}" in lines[1] and lines[2].count(" 0.") < lines[1].count(" 0.")


def test_the_policy_of_one_of_separate_targets(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for again, each finds what the search found, by its own policy; the last stage there is meant."""
    for name, value in TARGETS.items():
        given = ["derive", "--workdir", str(run), "--by", "policy", "--device", f"{name}:{value}M"]
        search.main([*given, "--out", str(tmp_path / name)])
        old, new = (
            search_spaces.load(folder / "architecture.yaml") for folder in (run / name / "one-stage", tmp_path / name)
        )
        assert old.blocks == new.blocks and old.found and new.found
        assert (old.found.cost, old.found.quality) == (new.found.cost, new.found.quality)
    assert capsys.readouterr().out.count("found tiny-one-stage") == 2


def _trained(folder: pathlib.Path) -> dict[str, list[float]]:
    """{vector: accuracies} of the finalists."""
    accuracies: dict[str, list[float]] = {}
    with (folder / "trained" / "trained.csv").open() as file:
        for row in csv.DictReader(file):
            accuracies.setdefault(row["vector"], []).append(float(row["accuracy"]))
    return accuracies


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--finalists", "-1"], "--finalists must be at least 0"),
        (["--seeds", "2"], "--seeds goes with --finalists"),
        (["--workers", "2"], "--workers goes with --finalists"),
        (["--ray", "local"], "--ray goes with --finalists"),
        (["--by", "policy", "--evaluations", "9"], "--evaluations goes with --by random or evolution"),
        (["--evaluations", "0", "--device", "macs:0.015M"], "nas-search derive: evaluations: got 0"),
        (
            ["--device", "macs:0.015M", "--by", "policy"],
            "knows only the targets that it was trained for (params:0.001M or",
        ),
        ([], "was run with --separate; say which target by --device"),
        (["--device", "macs:5M"], "no architecture of tiny-one-stage reaches it"),
        (["--device", "macs:0.015M", "--stage", "fine"], "holds no fine stage; give --stage one-stage"),
    ],
)
def test_derive_mistakes(
    given: list[str], message: str, run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ["derive", "--workdir", str(run), "--out", str(tmp_path / "out"), "--stage", "one-stage"]
    with pytest.raises(SystemExit) as stopped:
        search.main([*fixed, *given])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_derive_does_not_overwrite_a_stage(run: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for folder in (run / "one-stage", run / "macs" / "one-stage"):
        with pytest.raises(SystemExit):
            search.main(["derive", "--workdir", str(run), "--device", "macs:0.015M", "--out", str(folder)])
        assert "holds a search's own result, which would be lost" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_diagnosis(run: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Interrupted in the middle of a line, it goes on, and does not train again what is there."""
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
    without_seconds = [[line.split(",")[:3] for line in text.splitlines()] for text in (again, trained)]
    assert without_seconds[0] == without_seconds[1]
    found = json.loads((folder / "diagnosis.json").read_text())
    assert found["networks"] == 5 and found["verdict"] in first
    with pytest.raises(SystemExit):
        search.main([*command, "--learning-rate", "0.2"])
    assert "holds a diagnosis with other settings" in capsys.readouterr().err
    search.main([*command, "--seeds", "3"])  # more seeds of the same networks are added to what is there
    assert len((folder / "trained.csv").read_text().splitlines()) == 1 + 3 * 5
    page = (run / "macs" / "one-stage" / "report.html").read_text()
    assert "Can the ranking be trusted?" in page and page.count("<svg") == 6


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "finished trainings are kept; the same command goes on"),
        (ValueError("training network (0,): the loss is nan"), 2, "nas-search diagnose: error: training network (0,)"),
    ],
)
def test_a_diagnosis_that_stops(
    error: BaseException,
    code: int,
    message: str,
    run: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(diagnose, "run", stop)
    with pytest.raises(SystemExit) as stopped:
        search.main(["diagnose", "--workdir", str(run), "--stage", "one-stage"])
    assert stopped.value.code == code and message in capsys.readouterr().err


def test_reports(run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(run)])
    assert capsys.readouterr().out.count("written: ") == 3
    both = (run / "one-stage" / "report.html").read_text()
    assert "Networks compared" in both and both.count("<table") == 3 and both.count("<svg") == 1
    page = (run / "params" / "one-stage" / "report.html").read_text()
    for text in ("<b>params: ", "The network", "The search", "Candidates", "What the policy came to prefer", "seed: 0"):
        assert text in page, text
    assert "<script" not in page and "https://" not in page.replace("https://matplotlib.org", "")
    report.main(["compare", str(run), "--html", str(tmp_path / "c.html")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["run", "accuracy", "macs", "params"] and len(lines) == 4
    assert all(" M" in line and line.count("%") == 1 for line in lines[1:3])  # each costs something on both
    assert (tmp_path / "c.html").read_text().count("<table") == 3


@pytest.mark.parametrize(("given", "message"), [(["{folder}"], "holds no stage"), (["compare"], "give the folders")])
def test_report_mistakes(
    given: list[str], message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        report.main([text.format(folder=tmp_path) for text in given])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
