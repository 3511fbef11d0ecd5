"""Vela's estimates for Ethos-U; Vela itself runs only where it is installed."""

from __future__ import annotations

import importlib.util
import pathlib
import re

import pytest

import search_spaces
from latency_tables.table import load_table
from nas.measurement import table, vela
from search_spaces import OpCall, Shape

installed = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("ethosu", "litert_converter", "litert_quantizer")
    ),
    reason="the extra `vela` is not installed",
)
OUTPUT = """\
Warning (supported operators) operator: MEAN, ofm: 'tfl.mean1'
 - a reason
Warning (supported operators) operator: MEAN, ofm: 'tfl.mean'
CPU operators = {} (25.0%)
NPU operators = 6 (75.0%)
"""


def test_operators_left_on_the_cpu() -> None:
    assert vela.left_on_cpu(OUTPUT.format(2)) == ["MEAN"]
    assert vela.left_on_cpu("CPU operators = 0 (0.0%)\n") == []
    assert vela.left_on_cpu("CPU operators = 3 (9.0%)\n") == ["3 operators"]
    with pytest.raises(ValueError, match="does not state which operators stay on the CPU"):
        vela.left_on_cpu("all is well")


def test_summary() -> None:
    head = "network,system_config,memory_mode,core_clock,inference_time"
    assert vela.read_summary(f"{head}\nmodel,S,M,5e8,0.25\n")["inference_time"] == "0.25"
    for text in ("", head, f"{head}\na,S,M,1,1\nb,S,M,1,1\n", "network,inference_time\na,1\n"):
        with pytest.raises(
            ValueError, match="Vela's summary: expected one row with core_clock, inference_time"
        ):
            vela.read_summary(text)


def test_unknown_accelerator() -> None:
    with pytest.raises(
        ValueError,
        match="no Ethos-U called 'ethos-u55-512'; known: ethos-u55-32, .*, ethos-u85-2048$",
    ):
        vela.Vela("ethos-u55-512")


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape('pip install "mnv4-nas[vela]"')):
        vela.Vela()


@installed
def test_a_table(tmp_path: pathlib.Path) -> None:
    """1.18 M MACs take at least MACs / 256 cycles; an NPU of 32 MACs takes over twice as long."""
    op = OpCall("conv2d", Shape(16, 16, 16), 32, 3, activation="relu")
    measured = table.measure_table([op], tmp_path / "a", vela.Vela("ethos-u55-256"))
    assert load_table(tmp_path / "a").rows == measured.rows
    m = measured.manifest
    assert (m.origin, m.call_ms, m.processor) == (
        "predicted",
        0,
        "Arm Ethos-U55 with 256 MACs a cycle at 500 MHz",
    )
    assert m.runtime.startswith("ethos-u-vela ") and m.protocol.startswith(
        "cycles_total / clock, Ethos_U55_"
    )
    least = op.macs / 256 / 500e6 * 1e3
    assert least < measured.rows[0].ms < 10 * least
    small = table.measure_table([op], tmp_path / "b", vela.Vela("ethos-u55-32"))
    assert small.rows[0].ms > 2 * measured.rows[0].ms
    with pytest.raises(ValueError, match="was measured with processor"):
        table.measure_table([op], tmp_path / "a", vela.Vela("ethos-u55-128"))


@installed
def test_an_operation_that_the_npu_cannot_run_is_named(tmp_path: pathlib.Path) -> None:
    op = OpCall("layer_norm", Shape(8, 8, 32), 32)
    with pytest.raises(ValueError, match=re.escape(f"{op}: Vela leaves MEAN on the CPU")):
        table.measure_table([op], tmp_path, vela.Vela())


@installed
@pytest.mark.slow
@pytest.mark.parametrize("accelerator", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-256"])
def test_networks_take_about_the_sum_of_their_operations(
    accelerator: str, tmp_path: pathlib.Path
) -> None:
    """A network takes a little less than the sum: it fuses operations and prefetches weights."""
    specs = [search_spaces.zoo(name) for name in ("mnv4-conv-s", "mobilenet-v1", "mobilenet-v2")]
    runtime = vela.Vela(accelerator)
    whole = table.measure_networks(specs, tmp_path / "whole", runtime)
    rows = table.measure_table(
        [op for spec in specs for op in search_spaces.lower(spec)], tmp_path / "rows", runtime
    )
    for network in whole.measurements:
        assert 1 < rows.lookup(network.ops).sum() / network.ms < 1.25
