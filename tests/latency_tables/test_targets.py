"""Targets, and their text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latency_tables
import search_spaces
from latency_tables.targets import SWEPT, Target, parse_targets

GOOD = {
    "pixel6-cpu:2.4ms": ("pixel6-cpu", 2.4),
    "pixel6-cpu:2.4": ("pixel6-cpu", 2.4),
    " macs:200 M ": ("macs", 200.0),
    "macs:2e2M": ("macs", 200.0),
    "params:.5M": ("params", 0.5),
}

BAD = {
    "macs": "target 'macs': expected device:value, e.g.",
    "macs:": "target 'macs:': expected device:value",
    ":2ms": "expected device:value",
    "macs:M": "expected device:value",
    "macs:1M:2M": "expected device:value",
    "macs:nan": "expected device:value",
    "macs:1.2.3M": "'1.2.3' is not a number",
    "macs:1e": "'1e' is not a number",
    "mac:200M": "no device called 'mac'; known: .*; did you mean 'macs'",
    "pixel6-cpu:200M": "target 'pixel6-cpu:200M': pixel6-cpu costs are in ms, got 'M'",
    "macs:200m": "macs costs are in M, got 'm'",
    "macs:0M": "target on macs: got 0.0, expected a finite cost above 0 M",
    "macs:-5M": "target on macs: got -5.0, expected a finite cost above 0 M",
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_good(text: str, expected: tuple[str, float]) -> None:
    (target,) = parse_targets(text)
    assert (target.device.name, target.value) == expected
    assert parse_targets(str(target)) == (target,)


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_bad(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_targets(text)


positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
# at most 33 / 34 = 0.97 can be promised by the device that was compared with 33 networks
confidences = st.floats(0.05, 0.95)


@given(st.sampled_from(latency_tables.devices()), positive, st.none() | confidences)
def test_text_and_parsing_are_inverses(name: str, value: float, confidence: float | None) -> None:
    device = latency_tables.device(name)
    target = Target(device, value, confidence if device.calibration else None)
    assert parse_targets(str(target)) == (target,) == parse_targets(target)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("pixel6-cpu", 2.4, "pixel6-cpu:2.4ms"),
        ("macs", 285, "macs:285M"),
        ("macs", 1 / 3, "macs:0.3333333333333333M"),
        ("macs", 1e-7, "macs:1e-07M"),
    ],
)
def test_text_by_hand(name: str, value: float, text: str) -> None:
    assert str(Target(latency_tables.device(name), value)) == text


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_target_is_above_0(value: float) -> None:
    message = f"target on macs: got {value}, expected a finite cost above 0 M"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Target(latency_tables.device("macs"), value)


def test_the_message_quotes_the_text() -> None:
    with pytest.raises(ValueError, match=re.escape("target 'a b'")):
        parse_targets("a b")


def test_a_sweep_is_one_target_for_each_ridge_point() -> None:
    targets = parse_targets("ridge-sweep:mnv4-conv-s*0.5")
    assert [target.device.name for target in targets] == [f"ridge-{point:g}" for point in SWEPT]
    spec = search_spaces.zoo("mnv4-conv-s")
    for target, point in zip(targets, SWEPT, strict=True):
        assert target.value == pytest.approx(0.5 * latency_tables.roofline_ms(spec, point))
        assert target.device.estimate(search_spaces.lower(spec)).ms == pytest.approx(
            2 * target.value
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ridge-sweep:mnv4-conf-s", "no network called 'mnv4-conf-s'.*did you mean 'mnv4-conv-s'"),
        ("ridge-sweep:mnv4-conv-s*x", "'x' is not a number"),
        ("pixel6-cpu:2ms@1.5", "got a confidence of 1.5, expected between 0 and 1"),
        ("macs:2M@0.9", "a confidence needs a calibrated device, and macs has never been compared"),
    ],
)
def test_bad_sweeps_and_confidences(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_targets(text)
