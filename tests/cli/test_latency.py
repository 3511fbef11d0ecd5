"""`nas-latency` as people use it."""

from __future__ import annotations

import pathlib
import re
import xml.etree.ElementTree

import pytest

import latency_tables
from nas.cli import latency

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
    assert caught.value.code == 2 and err.count("\n") == 1 and err.startswith(f"nas-latency {arguments[0]}: error: ")
    return err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "list")
    for name in latency_tables.devices():
        assert re.search(rf"^  {name} ", out, re.MULTILINE)


def test_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "estimate", "mnv4-conv-s", "mnv4-hybrid-m", "--device", "macs", "--device", "pixel6-cpu")
    assert re.search(r"^  mnv4-conv-s +186 M$", out, re.MULTILINE)
    assert re.search(r"^  mnv4-hybrid-m +1271 M$", out, re.MULTILINE)  # with 41.9 M of attention products
    assert re.search(r"^  mnv4-conv-s +2\.902 ms$", out, re.MULTILINE)


def test_estimate_by_layer_dearest_first(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "estimate", "mnv4-conv-s", "--device", "pixel6-cpu", "--layers").splitlines()[2:]
    parts = [float(line.split()[0]) for line in lines]
    assert parts == sorted(parts, reverse=True) and sum(parts) == pytest.approx(2.902, abs=2e-3)
    assert "block  18 classifier   fully_connected 1x1 [1, 1, 1280] to 1000" in lines[0]


def test_sweep(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    quality, plot = tmp_path / "quality.csv", tmp_path / "sweep.svg"
    quality.write_text("mnv4-conv-s,73.8\nmobilenet-v2,71.8\n")
    out = said(capsys, "sweep", "mnv4-conv-s", "mobilenet-v2", "--quality", str(quality), "--plot", str(plot))
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
