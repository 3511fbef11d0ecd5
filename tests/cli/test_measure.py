"""`nas-latency measure` with TFLite files: what it prints, and how it fails."""

from __future__ import annotations

import importlib.util
import pathlib
import re

import pytest

from nas.api.costs import fit_device
from nas.cli import latency
from nas.exporters import metadata
from nas.exporters.metadata import ModelInfo
from nas.measurement import local, models
from nas.measurement.local import Protocol
from search_spaces import yaml_io

from ..train.striped import SPEC

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("litert_converter") is None
        or importlib.util.find_spec("litert_quantizer") is None,
        reason="the extra `export` is not installed",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib"),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick protocol with two runs."""
    monkeypatch.setattr(local, "QUICK", Protocol("tiny", runs=2, repeats=3, warmup_runs=1))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("ours") / "tiny.tflite"
    info = ModelInfo(name="tiny", mean=0.5, std=0.25, size=8, architecture=yaml_io.to_yaml(SPEC))
    path.write_bytes(metadata.attach(models.network_model(SPEC, "int8"), info))
    return path


def test_files_of_anyone(
    ours: pathlib.Path, quick: None, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger, plot = tmp_path / "stranger.tflite", tmp_path / "p.svg"
    stranger.write_bytes(models.network_model(SPEC, "float32"))
    out = tmp_path / "table"
    given = ["measure", str(ours), str(stranger), "--quick", "--out", str(out)]
    latency.main([*given, "--device", "pixel6-cpu", "--plot", str(plot)])
    text = capsys.readouterr().out
    assert "dtype: " not in text.splitlines()[0]
    assert re.search(rf"^{ours}: [\d.]+ ms \+- [\d.e-]+ \(3 rounds, .* 6 runs\)$", text, re.M)
    assert re.search(r"^  tiny, int8, \d+\.\d kB, 0.0\d+ M MACs$", text, re.M)
    assert "  XNNPACK takes all operators\n" in text
    assert re.search(
        r"^  pixel6-cpu predicts .*: not compared \(it predicts for CPU of", text, re.M
    )
    assert text.count("does not join the table: its network is not known") == 1
    assert f"table: 1 networks\nwritten: {out}\nwritten: {plot}\n" in text
    assert plot.read_text().startswith("<?xml")
    latency.main(["measure", str(stranger), "--quick", "--out", str(tmp_path / "none")])
    assert capsys.readouterr().out.endswith("no table written: no measured network is known\n")
    with pytest.raises(ValueError, match="got 1 measured networks, expected at least 4"):
        fit_device(out, name="d")


def test_without_a_folder(
    ours: pathlib.Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    latency.main(["measure", str(ours), "--quick"])
    text = capsys.readouterr().out
    assert "table" not in text and "written" not in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["absent.tflite"], "absent.tflite: cannot be read: No such file or directory"),
        (["{ours}", "--space", "fine"], "--space fine: a TFLite file is a whole model"),
        (["{ours}", "--on", "ethos-u55-256"], "--on: TFLite files are timed on this CPU only"),
        (["{ours}", "--dtype", "int8"], "--dtype int8: TFLite files have a type of their own"),
        (["{ours}", "mnv4-conf-s"], "did you mean 'mnv4-conv-s'"),
        (["small-32"], "--out: give the folder of the table"),
        (["small-32", "--device", "macs", "--out", "d"], "--device: stands beside TFLite files"),
    ],
)
def test_mistakes(
    ours: pathlib.Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        latency.main(["measure", *(text.format(ours=ours) for text in given)])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and message in err and err.count("\n") == 1
