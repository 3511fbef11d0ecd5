"""`nas-latency` as people use it."""

from __future__ import annotations

import pathlib
import re
import xml.etree.ElementTree

import pytest

import latency_tables
import search_spaces
from latency_tables.kinds import RooflineDevice
from latency_tables.table import load_table
from latency_tables.targets import parse_targets
from nas.cli import latency, measure
from nas.measurement import bench_kit
from search_spaces import OpCall, Shape

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    latency.main(arguments)
    out, err = capsys.readouterr()
    assert err == ""
    return out


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        latency.main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and err.count("\n") == 1
    assert err.startswith(f"nas-latency {arguments[0]}: error: ")
    return err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "list")
    for name in latency_tables.devices():
        assert re.search(rf"^  {name} ", out, re.MULTILINE)


def test_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    devices = ["--device", "macs", "--device", "pixel6-cpu"]
    out = said(capsys, "estimate", "mnv4-conv-s", "mnv4-hybrid-m", *devices)
    assert re.search(r"^  mnv4-conv-s +186 M$", out, re.MULTILINE)
    # with 41.9 M of attention products
    assert re.search(r"^  mnv4-hybrid-m +1271 M$", out, re.MULTILINE)
    assert re.search(r"^  mnv4-conv-s +2\.902 ms$", out, re.MULTILINE)


def test_estimate_by_layer_most_expensive_first(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "estimate", "mnv4-conv-s", "--device", "pixel6-cpu", "--layers")
    lines = out.splitlines()[2:]
    parts = [float(line.split()[0]) for line in lines]
    assert parts == sorted(parts, reverse=True) and sum(parts) == pytest.approx(2.902, abs=2e-3)
    assert "block  18 classifier   fully_connected 1x1 [1, 1, 1280] to 1000" in lines[0]


def test_sweep(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    quality, plot = tmp_path / "quality.csv", tmp_path / "sweep.svg"
    quality.write_text("mnv4-conv-s,73.8\nmobilenet-v2,71.8\n")
    files = ["--quality", str(quality), "--plot", str(plot)]
    out = said(capsys, "sweep", "mnv4-conv-s", "mobilenet-v2", *files)
    assert re.search(r"^mnv4-conv-s +0\.948\* +1\.000\* +0\.176\* +0\.147\* *$", out, re.MULTILINE)
    assert re.search(r"^mobilenet-v2 [^*]*$", out, re.MULTILINE)
    root = xml.etree.ElementTree.parse(plot).getroot()
    assert root.tag.endswith("svg")
    text = plot.read_text()
    said(capsys, "sweep", "mnv4-conv-s", "mobilenet-v2", "--plot", str(plot))
    assert plot.read_text() == text  # the same picture, the same bytes


def test_sweep_against_a_reference(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "sweep", "mnv4-conv-s", "mnv4-conv-m", "--reference", "mnv4-conv-s")
    assert re.search(r"^mnv4-conv-m +5\.722 +5\.475 +3\.842 +2\.970 *$", out, re.MULTILINE)
    assert "mean ratio" in out and "worst 5.722 at 0 MACs/byte" in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["estimate", "mnv4-conf-s"], "did you mean 'mnv4-conv-s'?"),
        (["estimate", "mnv4-conv-s", "--device", "pixel6"], "no device called 'pixel6'"),
        (["estimate", "mnv4-conv-s", "--device", "absent.yaml"], "absent.yaml: no such file"),
        (["estimate", "mnv4-conv-s", "--level", "2"], "--level: got 2.0, expected between 0 and 1"),
        (["sweep", "mnv4-conv-s", "--reference", "x"], "reference 'x' is not among mnv4-conv-s"),
        (["sweep", "mnv4-conv-s", "--quality", "absent.csv"], "absent.csv: cannot be read"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], part: str) -> None:
    assert part in fails(capsys, *arguments)


NETWORKS = (
    "mnv4-conv-s",
    "mnv4-conv-m",
    "mobilenet-v1",
    "mobilenet-v2",
    "mobilenet-v3-large",
    "efficientnet-b0",
)


@pytest.fixture
def measured(tmp_path: pathlib.Path) -> pathlib.Path:
    """A CSV of times that a roofline of 40 MACs/byte and 5 GB/s gives, with some noise."""
    path = tmp_path / "measured.csv"
    noise = (1.02, 0.97, 1.05, 0.99, 1.01, 0.95)
    times = (
        n * latency_tables.roofline_ms(search_spaces.zoo(name), 40, 5)
        for n, name in zip(noise, NETWORKS, strict=True)
    )
    lines = (f"{name},{ms:.5f}" for name, ms in zip(NETWORKS, times, strict=True))
    path.write_text("\n".join(["network,ms", *lines, ""]))
    return path


def test_fit_then_audit_then_a_target_with_confidence(
    capsys: pytest.CaptureFixture[str], measured: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    device, plot = tmp_path / "my-cpu.yaml", tmp_path / "audit.svg"
    out = said(capsys, "fit", str(measured), "--name", "my-cpu", "--out", str(device))
    assert "held out" in out and f"written: {device}" in out
    found = latency_tables.device(str(device))
    assert isinstance(found, RooflineDevice)
    assert found.ridge_point * found.bandwidth_gb_s == pytest.approx(200, rel=0.1)
    out = said(capsys, "audit", str(measured), "--device", str(device), "--plot", str(plot))
    assert "6 networks" in out and re.search(r"^my-cpu +1\.000 ", out, re.MULTILINE)
    assert re.search(r"^params .*\(best factor\)$", out, re.MULTILINE)
    assert plot.read_text().startswith("<?xml")
    out = said(capsys, "estimate", "mobilenet-v2", "--device", str(device), "--level", "0.5")
    assert re.search(r"^  mobilenet-v2 +\d.* to .* \(50%\)$", out, re.MULTILINE)
    (target,) = parse_targets(f"{device}:5ms@0.8")
    assert found.calibration is not None
    assert target.effective_value == pytest.approx(5 / found.calibration.factor(0.8))
    with pytest.raises(
        ValueError, match="was compared with 6 networks, too few to promise 0.9; at most 0.857"
    ):
        parse_targets(f"{device}:5ms@0.9")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fit", "absent.csv", "--name", "d", "--out", "d.yaml"], "absent.csv: cannot be read"),
        (
            ["fit", "{csv}", "--name", "d", "--kind", "table", "--out", "d.yaml"],
            "--kind table needs --table, a folder of measured operations",
        ),
        (["audit", "{csv}", "--device", "pixel6"], "no device called 'pixel6'"),
        (
            ["import", "nnmeter", "{csv}", "--out", "d"],
            "no format called 'nnmeter'; known: kit, nn_meter_operators, ",
        ),
        (
            ["import", "ofa", "{csv}", "--set", "threads", "--out", "d"],
            "'threads': expected --set KEY=VALUE",
        ),
        (["measure", "mnv4-conf-s", "--out", "d"], "did you mean 'mnv4-conv-s'"),
    ],
)
def test_more_mistakes(
    capsys: pytest.CaptureFixture[str], measured: pathlib.Path, arguments: list[str], part: str
) -> None:
    assert part in fails(capsys, *(argument.format(csv=measured) for argument in arguments))


def test_the_results_of_a_kit(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    kit, op = tmp_path / "kit", OpCall("conv2d", Shape(8, 8, 4), 8)
    bench_kit.write_kit({"one": b"no model: nothing runs here"}, {"one": (op,)}, kit, "edgetpu")
    (kit / "results.csv").write_text("file,ms,std_ms,count\none.tflite,0.25,0.01,5000\n")
    arguments = ["import", "kit", str(kit), "--out", str(tmp_path / "t"), "--set", "device=board"]
    assert "the source does not state processor; give each, e.g. processor=..." in fails(
        capsys, *arguments
    )
    assert "1 operations" in said(capsys, *arguments, "--set", "processor=Edge TPU")
    table = load_table(tmp_path / "t")
    assert (table.manifest.device, table.manifest.name, table.rows[0].op, table.rows[0].ms) == (
        *("board", "kit-int8"),
        *(op, 0.25),
    )


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "_measure", interrupt)
    with pytest.raises(SystemExit) as caught:
        latency.main(["measure", "mnv4-conv-s", "--out", "d"])
    assert caught.value.code == 130
    kept = "measurements are kept, rerun the same command to resume"
    assert capsys.readouterr().err == f"nas-latency measure: interrupted; {kept}\n"


def test_the_shipped_table(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    """Numbers to reach, against networks measured with the table (experiments/RESULTS.md)."""
    plot = tmp_path / "estimates.svg"
    devices = ["--device", "x86-64-cpu", "--device", "x86-64-cpu-roofline"]
    out = said(capsys, "audit", "x86-64-int8", *devices)
    found = {line.split()[0]: line for line in out.splitlines()}
    spearman = {
        name: float(found[name].split()[1]) for name in ("x86-64-cpu", "x86-64-cpu-roofline")
    }
    assert spearman["x86-64-cpu"] >= 0.98 and spearman["x86-64-cpu-roofline"] >= 0.95
    assert float(found["x86-64-cpu"].split()[-1].rstrip("%")) <= 10
    more = ["--device", "macs", "--plot", str(plot)]
    out = said(capsys, "estimate", "mnv4-conv-s", "mobilenet-v2", *devices, *more)
    assert re.search(r"^  mnv4-conv-s +5\.76 ms +5\.\d+ to 6\.\d+ \(90%\)$", out, re.MULTILINE)
    assert xml.etree.ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_audit_of_something_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no-table: cannot be read" in fails(capsys, "audit", "no-table")


def test_import(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    source = tmp_path / "ops.csv"
    source.write_text("op,hw,cin,cout,k,s,mflops,mparams,ms\nconv,8,4,8,1,1,0.00256,0.00004,0.5\n")
    more = ["--set", "threads=1", "--set", "dtype=float32", "--out", str(tmp_path / "t")]
    out = said(capsys, "import", "nn_meter_operators", str(source), *more)
    assert "1 operations, 0 blocks or networks" in out
    table = load_table(tmp_path / "t")
    assert table.rows[0].op == OpCall("conv2d", Shape(8, 8, 4), 8) and table.rows[0].ms == 0.5
