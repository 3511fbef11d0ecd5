"""Models timed in turn: resumed after an interrupt, and joined to a table of networks."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib

import numpy as np
import pytest

import nas
from latency_tables import measurement
from nas.api import measuring
from nas.api.costs import fit_device
from nas.exporters import metadata
from nas.exporters.metadata import ModelInfo
from nas.measurement import local, model_files, models, rounds
from nas.measurement.local import LocalRuntime, Protocol
from nas.measurement.model_files import Model
from nas.measurement.runtime import Timing
from search_spaces import ArchSpec, yaml_io

from ..train.striped import SPEC
from .test_table import RecordedProgress

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
TINY = LocalRuntime("float32", Protocol("tiny", runs=2, repeats=3, warmup_runs=1))


def _named(name: str, filters: int = 8) -> ArchSpec:
    first = SPEC.blocks[0].model_copy(update={"filters": filters})
    return SPEC.with_blocks((first, *SPEC.blocks[1:])).model_copy(update={"name": name})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """Four networks as float32 files of ours, one as INT8."""
    folder = tmp_path_factory.mktemp("exported")
    paths = []
    for name, filters, dtype in (
        *(("a", 4, "float32"), ("b", 8, "float32"), ("c", 16, "float32")),
        *(("d", 24, "float32"), ("a", 4, "int8")),
    ):
        spec = _named(name, filters)
        text = yaml_io.to_yaml(spec)
        info = ModelInfo(name=name, mean=0.5, std=0.25, size=8, architecture=text)
        paths.append(folder / f"{name}.{dtype}.tflite")
        paths[-1].write_bytes(metadata.attach(models.network_model(spec, dtype), info))  # pyright: ignore[reportArgumentType]
    return paths


@pytest.fixture(scope="module")
def read(exported: list[pathlib.Path]) -> list[Model]:
    return [model_files.read(path) for path in exported]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick protocol with two runs."""
    monkeypatch.setattr(local, "QUICK", TINY.protocol)


def test_a_round_has_every_model_once(read: list[Model]) -> None:
    progress = RecordedProgress()
    times, share = rounds.time_in_turn(read[:2], TINY, progress=progress)
    assert 0 < share < 1.1
    labels = [text for _, text in progress.updates]
    assert labels == [*[read[0].label, read[1].label] * 3, "done"]
    assert [step for step, _ in progress.updates] == list(range(7))
    assert all(len(each) == 3 and all(one.count == 2 for one in each) for each in times)


def test_an_interrupted_measurement_resumes(read: list[Model], tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        rounds.time_in_turn(read[:2], TINY, tmp_path, RecordedProgress(3))
    journal = tmp_path / rounds.JOURNAL
    kept = [line.split(",")[1] for line in journal.read_text().splitlines()[2:]]
    progress = RecordedProgress()
    (first, second), _ = rounds.time_in_turn(read[:2], TINY, tmp_path, progress)
    assert [step for step, _ in progress.updates] == [3, 4, 5, 6]
    times = [f"{t.ms:.6g}" for t in (first[0], second[0], first[1])]
    assert times == kept  # those of the first session
    other = dataclasses.replace(TINY, protocol=dataclasses.replace(TINY.protocol, runs=3))
    with pytest.raises(ValueError, match="was measured with protocol 'tiny: .* use the same, or a"):
        rounds.time_in_turn(read[:2], other, tmp_path)
    rounds.finish(tmp_path)
    assert not tmp_path.exists()


def test_rows_join_a_table_that_a_fit_reads(
    exported: list[pathlib.Path], quick: None, tmp_path: pathlib.Path
) -> None:
    """Measured twice, two rows first; the row of the same network is replaced."""
    out = tmp_path / "table"
    done = nas.measure(exported[:2], out=out, quick=True, progress=RecordedProgress())
    assert isinstance(done, measuring.MeasuredModels)
    assert done.table is not None and done.table.names == ["a", "b"]
    assert done.names == [str(path) for path in exported[:2]]
    done = nas.measure(exported[1:4], out=out, quick=True, progress=RecordedProgress())
    assert isinstance(done, measuring.MeasuredModels) and not any(m.not_joined for m in done.models)
    table = measurement.load_measurements(out)
    assert table.names == ["a", "b", "c", "d"] and table.manifest.dtype == "float32"
    np.testing.assert_allclose(table.ms[1:], done.ms, rtol=1e-5)
    assert sorted(path.name for path in out.iterdir()) == ["measurements.csv", "measurements.yaml"]
    device = fit_device(out, name="here").device
    assert device.calibration is not None and len(device.calibration.ratios) == 4
    assert device.measured_on == (local.processor(), "float32")


def test_networks_measured_whole_and_files_share_a_table(
    exported: list[pathlib.Path], quick: None, tmp_path: pathlib.Path
) -> None:
    spec = _named("e", 12)
    nas.measure(
        [spec], whole=True, out=tmp_path, quick=True, dtype="float32", progress=RecordedProgress()
    )
    mixed = [exported[0], _named("f", 20)]
    done = nas.measure(mixed, out=tmp_path, quick=True, progress=RecordedProgress())
    assert isinstance(done, measuring.MeasuredModels)
    assert measurement.load_measurements(tmp_path).names == ["e", "a", "f"]
    network = done.models[1].model
    assert network.contents.dtype == "float32" and network.notes == ("random weights",)


def test_predictions_stand_beside_the_measurement(
    exported: list[pathlib.Path], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "processor", lambda: "AMD EPYC 7763 64-Core Processor")
    done = nas.measure([exported[4], exported[0]], quick=True, progress=RecordedProgress())
    assert isinstance(done, measuring.MeasuredModels)
    [one] = done.models[0].predictions
    assert one.device == "x86-64-cpu" and one.is_inside in (True, False)
    assert done.models[1].predictions == ()  # of float32 no device ships
    done = nas.measure(exported[4:], device="pixel6-cpu", quick=True, progress=RecordedProgress())
    assert isinstance(done, measuring.MeasuredModels)
    [one] = done.models[0].predictions
    assert one.measured_ms is None and "it predicts for CPU of the Pixel 6" in one.note


def test_a_file_of_an_unknown_network_cannot_join(
    exported: list[pathlib.Path], quick: None, tmp_path: pathlib.Path
) -> None:
    stranger = tmp_path / "stranger.tflite"
    stranger.write_bytes(models.network_model(SPEC, "float32"))
    out = tmp_path / "table"
    done = nas.measure([stranger], out=out, quick=True, progress=RecordedProgress())
    assert isinstance(done, measuring.MeasuredModels)
    assert done.table is None and not out.exists()
    assert done.models[0].not_joined == "its network is not known"
    done = nas.measure([stranger, exported[0]], out=out, quick=True, progress=RecordedProgress())
    assert isinstance(done, measuring.MeasuredModels)
    assert done.table is not None and done.table.names == ["a"]


def test_a_busy_machine_is_told() -> None:
    """Only where the time of others counts."""
    assert measuring._busy(0.95, "wall") == measuring._busy(0.5, "cpu") == ()
    [note] = measuring._busy(0.5, "wall")
    assert "the thread ran 50% of the time" in note and "`clock` cpu" in note


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ([0, 4], {}, "`out`: .*a.float32.tflite is float32, .*a.int8.tflite int8; a table has one"),
        ([0, 0], {}, "a.float32.tflite: is given twice; leave one out"),
        ([0], {"space": "fine"}, "`space` fine: a TFLite file is a whole model and has no space"),
        ([0], {"on": "ethos-u55-256"}, "`on`: TFLite files are timed on this CPU only"),
        ([0], {"ray": "local"}, "`ray`: TFLite files are timed on this CPU only"),
        ([0], {"dtype": "int8"}, "`dtype` int8: TFLite files have a type of their own"),
        ([0], {"device": "pixel6"}, "no device called 'pixel6'"),
        ([0], {"device": "macs"}, "`device` macs: counts M; expected one that predicts ms"),
    ],
)
def test_mistakes(
    exported: list[pathlib.Path],
    chosen: list[int],
    options: dict[str, str],
    message: str,
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(ValueError, match=message):
        nas.measure([exported[i] for i in chosen], out=tmp_path, **options)  # pyright: ignore
    assert not list(tmp_path.iterdir())


def test_more_mistakes(
    exported: list[pathlib.Path], read: list[Model], quick: None, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match="`out`: give the folder of the table"):
        nas.measure([SPEC])
    with pytest.raises(ValueError, match="`device`: stands beside TFLite files only, and none is"):
        nas.measure([SPEC], out=tmp_path, device="pixel6-cpu")
    twin = dataclasses.replace(read[0], label="twin.tflite")
    with pytest.raises(ValueError, match=r"a.float32.tflite and twin.tflite are both a; a table"):
        rounds.check_table(tmp_path, [read[0], twin], TINY)
    rounds.join_table(tmp_path, [(read[0], Timing(1.0, 0.1, 6))], TINY)
    with pytest.raises(ValueError, match="was measured with dtype 'float32', not 'int8'; use the"):
        nas.measure([exported[4]], out=tmp_path, quick=True)
    other = dataclasses.replace(read[1], spec=_named("a", 8))
    with pytest.raises(ValueError, match="has times of another network called a; rename it, or"):
        rounds.check_table(tmp_path, [other], TINY)
    assert measurement.load_measurements(tmp_path).ms == [1.0]
