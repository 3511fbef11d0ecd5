"""Exports from Python: devices to compare with, and the one report of the training."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

import nas
from latency_tables import parse_targets
from nas.api import exporting
from nas.api.train_result import TrainResult
from nas.cli import report
from nas.run.folder import RunRecord, StageFolder
from search_spaces import CostRecord, files, yaml_io

from ..measure.test_table import RecordedProgress

pytestmark = pytest.mark.usefixtures("in_this_process")
SHORT = {"epochs": 1, "batch": 16}


class Progress(RecordedProgress):
    """A progress that keeps its messages too."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start_phase(self, name: str, total: int) -> None:
        assert (name, total) == ("export", 4)


@pytest.fixture(scope="module")
def trained(
    finished_run: pathlib.Path,
    search_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> TrainResult:
    from nas.host import backend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "prepare", lambda replicas: None)
        folder = tmp_path_factory.mktemp("exporting") / "t"
        return nas.train(finished_run, workdir=folder, settings=SHORT)


def test_an_export_joins_the_report_of_its_training(
    trained: TrainResult, tmp_path: pathlib.Path
) -> None:
    done = nas.export(trained, format="stablehlo", progress=Progress())
    page = trained.folder.page.read_text()
    assert done.path.parent == trained.folder.exports and "stablehlo" in page
    assert "<h2>Confusion matrix, test images</h2>" in page and page.count("<figure") == 8
    nas.export(trained, format="pytorch", out=tmp_path, progress=Progress())
    again = trained.folder.page.read_text()
    assert "model.safetensors" in again and "<td>stablehlo</td>" in again
    [copy] = (trained.folder.exports / "elsewhere").iterdir()
    assert copy.read_text().startswith("format: pytorch\n")


@pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
def test_a_given_device_stands_beside_the_time(trained: TrainResult) -> None:
    done = nas.export(
        trained, allow_loss=1.0, device="pixel6-cpu", images=8, samples=8, progress=Progress()
    )
    [one] = done.record.predictions
    assert one.device == "pixel6-cpu" and one.measured_ms is None and done.record.processor
    assert "it predicts for CPU of the Pixel 6" in trained.folder.page.read_text()


def test_unknown_devices_are_refused_before_anything_is_written(
    trained: TrainResult, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match="no device called 'pixel6'"):
        nas.export(trained, device="pixel6", out=tmp_path)
    with pytest.raises(ValueError, match="`device` macs: counts M; expected one that predicts ms"):
        nas.export(trained, device="macs", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_devices_of_a_search_are_its_targets_in_ms(
    trained: TrainResult, finished_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Those of its record, which may be files, or shipped ones; others are only named."""
    device = tmp_path / "box.yaml"
    device.write_text(
        "kind: roofline\nname: box\nsource: s\ndate: '2026'\nridge_point: 9\nbandwidth_gb_s: 2\n"
    )
    search = StageFolder(tmp_path / "fine")
    record = yaml_io.load_model(finished_run / "fine" / "config.yaml", RunRecord)
    config = record.config.model_copy(update={"targets": (f"{device}:1ms",)})
    record = record.model_copy(update={"config": config})
    files.write_atomically(search.record, yaml_io.to_yaml(record, defaults=True))
    [target] = parse_targets(f"{device}:1ms")
    found = trained.architecture.found
    assert found is not None
    cost = CostRecord(value=1.0, target=1.0, unit="ms", most_likely=1.0)
    costs = {"box": cost, "s23-cpu": cost, "gone": cost, **found.cost}
    found = found.model_copy(update={"cost": costs})
    spec = trained.architecture.model_copy(update={"found": found})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainResult, "architecture", spec)
        inside = TrainResult(search.path / "train-small")
        devices, messages = exporting._devices(inside, None)
    assert devices[0] == target.device and [one.name for one in devices] == ["box", "s23-cpu"]
    assert len(messages) == 1 and messages[0].startswith("no prediction of gone: no device called")


def test_the_report_command_writes_it_again(
    trained: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.folder.page.unlink()
    report.main([str(trained.path)])
    assert capsys.readouterr().out == f"written: {trained.path}/report.html\n"
    assert "Confusion matrix" in trained.folder.page.read_text()
