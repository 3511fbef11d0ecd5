"""Many trainings from one file."""

from __future__ import annotations

import csv
import pathlib
import re

import pytest

import nas
from nas.cli import train
from nas.run.folder import TrainFolder

pytestmark = pytest.mark.usefixtures("in_this_process")

TEXT = """\
schema: 1
name: tries
networks: {{found: {run}}}
seeds: [0, 1]
variants:
  plain: {{epochs: 2, batch: 16}}
  lost: {{epochs: 2, batch: 16, init: nowhere}}
"""


@pytest.fixture
def file(finished_run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "tries.yaml"
    path.write_text(TEXT.format(run=finished_run))
    return path


def test_trains_all_says_which_failed_and_compares(
    file: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    command = ["matrix", str(file), "--workdir", str(folder), "--workers", "1"]
    with pytest.raises(SystemExit) as stopped:
        train.main(command)
    out, err = capsys.readouterr()
    assert stopped.value.code == 1
    assert "4/4  " in err and err.count(": trained, ") == 2
    assert err.count("nowhere: holds no trained network") == 2
    assert "found    plain    2" in out and f"report: {folder}/report.html" in out
    with (folder / "trainings.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["folder"] for row in rows] == [
        "found-plain-seed0",
        "found-plain-seed1",
        "found-lost-seed0",
        "found-lost-seed1",
    ]
    accuracies = [float(row["test_accuracy"]) for row in rows[:2]]
    assert rows[2]["test_accuracy"] == ""
    with (folder / "summary.csv").open(newline="") as opened:
        (summary,) = csv.DictReader(opened)
    assert float(summary["test_accuracy"]) == pytest.approx(sum(accuracies) / 2)
    # Of two values the standard error is half their distance; t(1) = 12.706.
    half = 12.706 * abs(accuracies[0] - accuracies[1]) / 2
    assert float(summary["test_half_width"]) == pytest.approx(half, abs=1e-5)
    page = (folder / "report.html").read_text()
    assert "2 of 4 trainings are not finished" in page and "found-plain-seed1/report.html" in page
    assert "<svg" in page

    # Only the failed ones are run again, now with a start that they have.
    done = TrainFolder(folder / "found-plain-seed0").result
    before = done.stat().st_mtime_ns
    file.write_text(file.read_text().replace("init: nowhere", "init: supernet"))
    matrix = nas.train_matrix(file, workdir=folder, workers=1)
    assert len(matrix.results) == 4 and done.stat().st_mtime_ns == before
    assert [(one.variant, one.seeds) for one in matrix.summary] == [
        ("plain", (0, 1)),
        ("lost", (0, 1)),
    ]
    assert matrix.results["found-lost-seed1"].record.init.startswith("supernet of fine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds: [0, 1]", "seeds: []"), "seeds"),
        (("seeds", "sedes"), "sedes: unknown key"),
        (
            ("epochs: 2, batch: 16}", "epochs: 2, batches: 16}"),
            "seed0: .*batches: unknown key",
        ),
        (("epochs: 2, batch: 16}", "recipe: smal}"), "found-plain-seed0: no recipe called 'smal'"),
        (
            ("networks: {", "networks: {base: small-32, "),
            "small-32 is a network alone",
        ),
        (
            ("variants", "data: builtin:fashion-clutter\nvariants"),
            "10 classes .*--fit-classes",
        ),
    ],
)
def test_mistakes_are_one_line(
    change: tuple[str, str],
    message: str,
    file: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(SystemExit) as stopped:
        train.main(["matrix", str(file), "--workdir", str(tmp_path / "runs")])
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.count("\n") == 1
    assert re.search(message, err), err
    assert not (tmp_path / "runs").exists()
