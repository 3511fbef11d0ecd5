from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pydantic
import pytest

import latency_tables
import search_spaces
from latency_tables import library
from latency_tables.device import DeviceModel
from latency_tables.kinds import AnyDevice, CountingDevice, RooflineDevice
from search_spaces import ArchSpec, OpCall, SearchSpace, yaml_io

# name, unit, (ridge point, GB/s) or what it counts. Ridge points: table 15 of arXiv 2404.10518
DEVICES = [
    ("coral-edgetpu", "ms", None),  # see test_fit and test_kinds
    ("macs", "M", "macs"),
    ("params", "M", "params"),
    ("pixel4-dsp", "ms", (347.3, 3.0)),
    ("pixel6-cpu", "ms", (31.2, 3.1)),
    ("pixel8-edgetpu", "ms", (433.8, 15.0)),
    ("s23-cpu", "ms", (39.7, 3.7)),
    ("x86-64-cpu", "ms", None),  # see tests/cli/test_latency.py
    ("x86-64-cpu-roofline", "ms", None),
]


def test_the_shipped_devices() -> None:
    assert latency_tables.devices() == tuple(row[0] for row in DEVICES)


@pytest.mark.parametrize(("name", "unit", "what"), DEVICES)
def test_costs_of_a_device(
    name: str, unit: str, what: str | tuple[float, float] | None, small_32: ArchSpec
) -> None:
    device = latency_tables.device(name)
    assert (device.name, device.unit) == (name, unit) and device.source and device.date
    ops = search_spaces.lower(small_32)
    costs = device.op_costs(ops)
    assert costs.shape == (len(ops),) and costs.dtype == np.float64
    if what is None:
        assert latency_tables.estimate(small_32, name).low is not None
        return
    if isinstance(what, tuple):
        expected = latency_tables.roofline_ms(small_32, *what)
    else:
        expected = getattr(search_spaces, what)(small_32) / 1e6
    assert costs.sum() == pytest.approx(expected, rel=1e-12)
    assert latency_tables.estimate(small_32, name).value == pytest.approx(expected, rel=1e-12)


def test_no_operations_cost_nothing() -> None:
    for name in latency_tables.devices():
        assert latency_tables.device(name).op_costs([]).shape == (0,)


def test_an_unknown_device(small_32: ArchSpec) -> None:
    known = ", ".join(row[0] for row in DEVICES)
    for name, hint in [("pixel6-cpus", "; did you mean 'pixel6-cpu'?"), ("zzz", "")]:
        message = f"^{re.escape(f'no device called {name!r}; known: {known}{hint}')}$"
        with pytest.raises(ValueError, match=message):
            latency_tables.device(name)
        with pytest.raises(ValueError, match=message):
            latency_tables.estimate(small_32, name)


ROOFLINE = "name: d\nkind: roofline\nridge_point: 30\nbandwidth_gb_s: 4\nsource: s\ndate: 2024-04\n"
COUNTER = "name: d\nkind: counter\ncounts: macs\nsource: s\ndate: 2024-04\n"


@pytest.mark.parametrize(("text", "kind"), [(ROOFLINE, RooflineDevice), (COUNTER, CountingDevice)])
def test_a_device_file_round_trips(text: str, kind: type[pydantic.BaseModel]) -> None:
    device = yaml_io.parse_model(text, AnyDevice, "d.yaml").root
    assert type(device) is kind
    assert yaml_io.parse_model(yaml_io.to_yaml(device), AnyDevice, "d.yaml").root == device


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ROOFLINE.replace("ridge_point: 30", "ridge_point: -1"),
            "d.yaml:3: ridge_point: got -1: input should be greater than or equal to 0",
        ),
        (
            ROOFLINE.replace("bandwidth_gb_s: 4", "bandwidth_gb_s: 0"),
            "d.yaml:4: bandwidth_gb_s: got 0: input should be greater than 0",
        ),
        (
            ROOFLINE.replace("ridge_point: 30\n", ""),
            "d.yaml:1: ridge_point: missing; this key is required",
        ),
        (
            ROOFLINE.replace("kind: roofline", "kind: rooflin"),
            "d.yaml:2: kind: got 'rooflin', expected one of roofline, cached_roofline, table, "
            "counter; did you mean "
            "'roofline'?",
        ),
        (
            ROOFLINE.replace("kind: roofline\n", ""),
            "d.yaml:1: missing `kind`, which says what this is",
        ),
        (
            COUNTER.replace("macs", "flops"),
            "d.yaml:3: counts: got 'flops', expected one of macs, params",
        ),
        (
            ROOFLINE + "bandwith: 3\n",
            "d.yaml:7: bandwith: unknown key; allowed: schema, name, source, date, processor, "
            "dtype, calibration, kind, ridge_point, "
            "bandwidth_gb_s, call_ms, element_bytes, outputs, elementwise; did you mean "
            "'bandwidth_gb_s'?",
        ),
    ],
)
def test_a_damaged_device_file(text: str, message: str) -> None:
    with pytest.raises(yaml_io.YamlError) as caught:
        yaml_io.parse_model(text, AnyDevice, "d.yaml")
    assert str(caught.value) == message


class PerOperation(DeviceModel):
    """A device of a user's own: every operation costs 1 ms."""

    @property
    def description(self) -> str:
        return "1 ms for each operation"

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        return np.ones(len(ops))


class TestOwnDevice:
    @pytest.fixture(autouse=True)
    def registry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "_REGISTERED", {})

    def device(self, name: str = "mine") -> PerOperation:
        return PerOperation(name=name, source="a test", date="2026-11")

    def test_a_device_is_taken_where_a_name_is(
        self, small_32: ArchSpec, tiny_space: SearchSpace
    ) -> None:
        device, count = self.device(), len(search_spaces.lower(small_32))
        assert latency_tables.device(device) is device
        assert latency_tables.estimate(small_32, device).ms == count
        target = latency_tables.Target(device, 5.0)
        vector = [0] * len(tiny_space.decisions)
        ops = search_spaces.lower(search_spaces.freeze(tiny_space, vector))
        assert latency_tables.CostModel.build(tiny_space, [device])(vector) == [len(ops)]
        assert str(target) == "mine:5ms" and latency_tables.parse_targets(target) == (target,)

    def test_a_registered_device_is_found_by_its_name(self, small_32: ArchSpec) -> None:
        device = self.device()
        latency_tables.register_device(device)
        assert latency_tables.device("mine") is device
        assert latency_tables.registered_devices() == ("mine",)
        assert "mine" not in latency_tables.devices()
        (target,) = latency_tables.parse_targets("mine:5ms")
        assert target == latency_tables.Target(device, 5.0)
        with pytest.raises(ValueError, match=r"x86-64-cpu-roofline, mine; did you mean 'mine'\?$"):
            latency_tables.estimate(small_32, "minr")

    def test_a_name_is_registered_again_but_not_a_shipped_one(self) -> None:
        latency_tables.register_device(self.device())
        other = self.device()
        latency_tables.register_device(other)
        assert latency_tables.device("mine") is other
        message = "^device 'macs': is the name of a shipped device; choose another name$"
        with pytest.raises(ValueError, match=message):
            latency_tables.register_device(self.device("macs"))
