"""`nas-search derive`: other networks from a supernet with two policies, as people ask for them."""

from __future__ import annotations

import csv
import pathlib
import re
import shutil
import statistics
from collections.abc import Callable

import pytest

import search_spaces
from nas.cli import report, search

pytestmark = pytest.mark.usefixtures("in_this_process")

TARGETS = {"params": 0.001, "macs": 0.012}


@pytest.fixture
def derive(separate_run: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Derive from the one-stage search into a folder; what is printed."""

    def run(out: pathlib.Path, *options: str) -> str:
        fixed = ["--stage", "one-stage", "--workdir", str(separate_run), "--out", str(out)]
        search.main(["derive", *fixed, *options])
        return capsys.readouterr().out

    return run


@pytest.fixture
def derive_fails(
    separate_run: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """The one line of a user's mistake."""

    def run(out: pathlib.Path, *options: str) -> str:
        fixed = ["--stage", "one-stage", "--workdir", str(separate_run), "--out", str(out)]
        with pytest.raises(SystemExit) as stopped:
            search.main(["derive", *fixed, *options])
        err = capsys.readouterr().err
        assert stopped.value.code == 2 and err.count("error: ") == 1
        return err

    return run


@pytest.mark.parametrize("by", ["random", "evolution"])
def test_another_target_from_the_same_supernet(
    by: str, derive: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    out = derive(tmp_path, "--by", by, "--device", "macs:0.015M", "--evaluations", "20")
    assert "macs: 0.01" in out
    spec = search_spaces.load(tmp_path / "architecture.yaml")
    with (tmp_path / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert spec.found and 1 <= len(rows) <= 20
    networks = [tuple(row.items())[3:] for row in rows]
    assert len(set(networks)) == len(networks)  # none is evaluated twice
    rewards = [float(row["reward"]) for row in rows]
    assert rewards == sorted(rewards, reverse=True)
    assert spec.found.metrics["reward"] == pytest.approx(rewards[0], abs=1e-4)


def test_the_best_candidates_are_trained_one_by_one(
    separate_run: pathlib.Path,
    derive: Callable[..., str],
    derive_fails: Callable[..., str],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--by", "random", "--device", "macs:0.011M", "--evaluations", "20"]
    given += ["--finalists", "3", "--batch", "8", "--workers", "1", "--seeds", "2", "--steps", "2"]
    printed = derive(tmp_path, *given)
    spec, trained = search_spaces.load(tmp_path / "architecture.yaml"), _trained(tmp_path)
    # Two networks cost 0.011032 M, the others less or more; both are trained again.
    assert [*map(len, trained.values())] == [2, 2]
    best = max(map(statistics.fmean, trained.values()))
    assert spec.found
    assert spec.found.metrics["trained_validation_accuracy"] == pytest.approx(best, abs=1e-4)
    assert statistics.fmean(trained["-".join(map(str, spec.found.decisions.values()))]) == best
    assert f", {best:.3f} stand-alone" in printed
    rows = (tmp_path / "trained" / "trained.csv").read_text()
    assert derive(tmp_path, *given) == printed
    assert (tmp_path / "trained" / "trained.csv").read_text() == rows
    record = (tmp_path / "trained" / "config.yaml").read_text()
    for change, other in (("--steps", "3"), ("--learning-rate", "0.3")):
        line = derive_fails(tmp_path, *given, change, other)
        assert "holds other trainings (- " in line and "; choose another --out" in line
    (tmp_path / "trained" / "config.yaml").write_text(re.sub("space: .*", "space: another", record))
    line = derive_fails(tmp_path, *given)
    assert "holds other trainings (- space: another; + space: " in line
    report.main(["compare", str(tmp_path), str(separate_run / "macs" / "one-stage")])
    lines = capsys.readouterr().out.splitlines()
    assert "stand-alone accuracy" in lines[0] and f"{best:.3f}" in lines[1]
    assert lines[2].count(" 0.") < lines[1].count(" 0.")


def _trained(folder: pathlib.Path) -> dict[str, list[float]]:
    """{vector: accuracies} of the finalists."""
    accuracies: dict[str, list[float]] = {}
    with (folder / "trained" / "trained.csv").open() as file:
        for row in csv.DictReader(file):
            accuracies.setdefault(row["vector"], []).append(float(row["accuracy"]))
    return accuracies


def test_the_policy_of_one_of_separate_targets(
    separate_run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked again, each finds what the search found; the last stage there is meant."""
    for name, value in TARGETS.items():
        given = ["derive", "--workdir", str(separate_run), "--by", "policy"]
        given += ["--device", f"{name}:{value}M"]
        search.main([*given, "--out", str(tmp_path / name)])
        old, new = (
            search_spaces.load(folder / "architecture.yaml")
            for folder in (separate_run / name / "one-stage", tmp_path / name)
        )
        assert old.blocks == new.blocks and old.found and new.found
        assert (old.found.cost, old.found.metrics) == (new.found.cost, new.found.metrics)
    assert capsys.readouterr().out.count("found tiny-one-stage") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--finalists", "-1"], "--finalists must be at least 0"),
        (["--seeds", "2"], "--seeds goes with --finalists: without, nothing is trained"),
        (["--steps", "9"], "--steps goes with --finalists: without, nothing is trained"),
        (["--workers", "2"], "--workers goes with --finalists"),
        (["--ray", "local"], "--ray goes with --finalists"),
        (
            ["--by", "policy", "--evaluations", "9"],
            "--evaluations goes with --by random or evolution",
        ),
        (["--by", "evolutoin"], "no searcher called 'evolutoin'; known: random, evolution"),
        (
            ["--evaluations", "0", "--device", "macs:0.015M"],
            "nas-search derive: error: derive: evaluations: got 0",
        ),
        (
            ["--device", "macs:0.015M", "--by", "policy"],
            "--by policy: it was trained for params:0.001M or macs:0.012M only",
        ),
        ([], "was run with --separate; say which target by --device"),
        (["--device", "macs:5M"], "no architecture of tiny-one-stage reaches it"),
        (
            ["--device", "macs:0.015M", "--stage", "fine"],
            "holds no fine stage; give --stage one-stage",
        ),
    ],
)
def test_mistakes(
    given: list[str], message: str, derive_fails: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    assert message in derive_fails(tmp_path / "out", *given)
    assert not (tmp_path / "out").exists()


def test_a_stage_is_not_overwritten(
    separate_run: pathlib.Path,
    derive_fails: Callable[..., str],
    contents: Callable[[pathlib.Path], dict[str, bytes]],
) -> None:
    before = contents(separate_run)
    for folder in (separate_run / "one-stage", separate_run / "macs" / "one-stage"):
        line = derive_fails(folder, "--device", "macs:0.015M")
        assert "holds a search's own result, which would be lost" in line
    assert contents(separate_run) == before


def test_a_damaged_last_checkpoint_is_said_and_nothing_is_renamed(
    finished_run: pathlib.Path,
    in_this_process: None,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = pathlib.Path(shutil.copytree(finished_run, tmp_path / "run"))
    last = max((run / "coarse" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    (last / "sha256.json").write_text("{")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    command = ["derive", "--workdir", str(run), "--stage", "coarse", "--evaluations", "4"]
    search.main([*command, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert f"checkpoint {last.name} in " in said and "is damaged (sha256.json" in said
    found = search_spaces.load(tmp_path / "out" / "architecture.yaml").found
    assert found and found.metrics["supernet_step"] < int(last.name)  # the warning is kept
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    for path in (run / "coarse" / "checkpoints").rglob("sha256.json"):
        path.write_text("[]")
    for again in (command, ["diagnose", "--workdir", str(run), "--stage", "coarse"]):
        out = ["--out", str(tmp_path / "none")] if again[0] == "derive" else []
        with pytest.raises(SystemExit) as caught:
            search.main([*again, *out])
        assert caught.value.code == 2
        assert "no checkpoint is whole; restore a copy" in capsys.readouterr().err
    assert not (run / "coarse" / "diagnose").exists()  # before anything was trained
