"""Targets as people write them."""

from __future__ import annotations

import re

import pytest

import latency_tables
import search_spaces
from nas.run.targets import SWEPT, parse_targets

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
    "macs:0M": "target on macs: got 0.0, expected more than 0 M",
    "macs:-5M": "target on macs: got -5.0, expected more than 0 M",
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_good(text: str, expected: tuple[str, float]) -> None:
    (target,) = parse_targets(text)
    assert (target.device.name, target.value) == expected
    assert parse_targets(target.text) == (target,)


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_bad(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_targets(text)


def test_the_message_quotes_the_text() -> None:
    with pytest.raises(ValueError, match=re.escape("target 'a b'")):
        parse_targets("a b")


def test_a_sweep_is_one_target_for_each_ridge_point() -> None:
    targets = parse_targets("ridge-sweep:mnv4-conv-s*0.5")
    assert [target.device.name for target in targets] == [f"ridge-{point:g}" for point in SWEPT]
    spec = search_spaces.zoo("mnv4-conv-s")
    for target, point in zip(targets, SWEPT, strict=True):
        assert target.value == pytest.approx(0.5 * latency_tables.roofline_ms(spec, point))
        assert target.device.estimate(search_spaces.lower(spec)).ms == pytest.approx(2 * target.value)


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
