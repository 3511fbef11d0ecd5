"""Exports in the report of a training: from the records alone, escaped, without JAX."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from latency_tables.comparison import Comparison
from nas.cli import report as command
from nas.exporters.record import ExportRecord
from nas.report import export, training
from nas.run.config import RunConfig
from nas.run.folder import TrainFolder
from nas.run.train_config import TrainConfig
from nas.training.record import TrainRecord
from search_spaces import files, yaml_io

from .test_search import _write_unfinished

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib")


def _record(format: str, **fields: Any) -> ExportRecord:
    given = {
        "format": format,
        "file": f"tiny.{format}",
        "bytes": 334752,
        "sha256": "0" * 64,
        "network": "tiny",
        "classes": ("a", "b"),
        "size": 8,
        "mean": 0.5,
        "std": 0.25,
    }
    return ExportRecord(**{**given, **fields})


INT8 = _record(
    "tflite-int8",
    runtime="LiteRT",
    difference=0.0123,
    images=2000,
    float_accuracy=0.81,
    accuracy=0.806,
    agreement=0.985,
    processor="AMD EPYC",
    milliseconds=0.5,
    float_milliseconds=1.0,
    left_out=("8 SOFTMAX in blocks[2]",),
    predictions=(
        Comparison(
            device="x86-64-cpu", predicted_ms=0.55, low_ms=0.4, high_ms=0.6, measured_ms=0.5
        ),
        Comparison(device="mine", predicted_ms=0.9, low_ms=0.8, high_ms=1.0, measured_ms=0.5),
        Comparison(device="phone", predicted_ms=0.3, note="it predicts for a phone"),
    ),
    warnings=("<b>a doubt</b>",),
)
STABLEHLO = _record("stablehlo", runtime="jax.export", difference=1e-7, images=2000, accuracy=0.81)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> TrainFolder:
    """A training that has begun."""
    found = TrainFolder(tmp_path)
    record = TrainRecord(
        network="tiny",
        architecture="0",
        data="npz:a.npz",
        dataset_hash="1",
        classes=("a", "b"),
        mean=0.5,
        std=0.25,
        recipe=TrainConfig(steps=5),
        seed=0,
        init="scratch",
    )
    files.write_atomically(found.record, yaml_io.to_yaml(record, defaults=True))
    return found


def _write(folder: TrainFolder, name: str, record: ExportRecord) -> None:
    files.write_atomically(folder.exports / name, yaml_io.to_yaml(record, defaults=True))


def _cells(page: str) -> list[list[str]]:
    rows = re.findall("<tr>(.*?)</tr>", page)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows if "<td" in row]


def test_nothing_exported_is_nothing_said(folder: TrainFolder) -> None:
    assert export.section(folder) == ""
    assert "<h2>Export</h2>" not in training.write(folder).read_text()


def test_checks_and_comparisons(folder: TrainFolder) -> None:
    _write(folder, "z/tiny.tflite-int8.yaml", INT8)
    _write(folder, "a.yaml", STABLEHLO)
    page = training.write(folder).read_text()
    rows = _cells(page)
    assert rows[0] == [
        *("tflite-int8", "tiny.tflite-int8", "0.33 MB", "0.8060", "0.8100", "98.5%"),
        *("1.2e-02", "0.5 (0.50)", "1", "8 SOFTMAX in blocks[2]"),
    ]
    assert rows[1][0] == "stablehlo" and rows[1][6:] == ["1.0e-07", "-", "-", "-"]
    assert rows[2][1:5] == ["x86-64-cpu", "0.55", "0.4 to 0.6 (90%)", "0.5"]
    assert [row[-1] for row in rows[2:]] == [
        "the measurement lies inside",
        "the measurement lies outside",
        "not compared (it predicts for a phone)",
    ]
    assert page.count('class="inside"') == page.count('class="outside"') == 1
    assert "CPU time of a thread of AMD EPYC" in page and "2,000 validation images" in page
    assert page.count("<svg") == 1 and "<script" not in page


def test_everything_from_files_is_escaped(folder: TrainFolder) -> None:
    evil = "<img src=x onerror=alert(1)>"
    compared = (Comparison(device=evil, predicted_ms=1.0, measured_ms=1.0, note=evil),)
    fields = {"file": evil, "processor": evil, "left_out": (evil,), "predictions": compared}
    record = INT8.model_copy(update={**fields, "warnings": (evil,)})
    _write(folder, "a.yaml", record)
    page = training.write(folder).read_text()
    assert "<img" not in page and page.count("&lt;img src=x") >= 6
    assert "<b>a doubt" not in page


def test_a_damaged_record_is_named_and_the_others_are_shown(folder: TrainFolder) -> None:
    _write(folder, "good.yaml", INT8)
    (folder.exports / "bad.yaml").write_text("format: <x>\n")
    page = training.write(folder).read_text()
    assert "0.8060" in page and re.search(r"not shown: \S*bad.yaml", page) and "<x>" not in page


def test_the_command_writes_it_without_jax(folder: TrainFolder) -> None:
    _write(folder, "a.yaml", INT8)
    program = "import sys; from nas.cli import report; report.main(sys.argv[1:])\n"
    program += "assert 'jax' not in sys.modules"
    run = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"written: {folder}/report.html\n"
    assert "tflite-int8" in folder.page.read_text()


def test_the_command_writes_the_trainings_of_a_search_too(
    folder: TrainFolder, tiny_recipe: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of the search are not taken for a training, though its record has the same name."""
    run = folder.path / "run"
    _write_unfinished(run, yaml_io.load_model(tiny_recipe, RunConfig))
    of_search = TrainFolder(run / "coarse" / "train-small")
    files.write_atomically(of_search.record, folder.record.read_text())
    command.main([str(run)])
    pages = [f"{run}/coarse/report.html", f"{run}/coarse/train-small/report.html"]
    assert capsys.readouterr().out.splitlines() == [f"written: {page}" for page in pages]
    with pytest.raises(ValueError, match="coarse: holds no training; run `nas-train` first"):
        training.write(TrainFolder(run / "coarse"))


def test_a_folder_of_neither_is_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([str(tmp_path)])
    assert "holds neither a stage of a search nor a training; give the" in capsys.readouterr().err
