"""Targets as people write them: "pixel6-cpu:2.4ms"."""

from __future__ import annotations

import re

import latency_tables
import search_spaces
from latency_tables import Target
from latency_tables.kinds import RooflineDevice

_SWEEP = "ridge-sweep"
SWEPT = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""Ridge points of a `ridge-sweep` target, MACs/byte: the paper's range, about three a decade."""


def parse_targets(text: str) -> tuple[Target, ...]:
    """Parse "device:value[unit][@confidence]", or "ridge-sweep:network[*factor]".

    With a confidence p, the measured cost should stay below the value with probability p. A sweep is one target for
    each of `SWEPT`: the network's roofline latency there (times the factor); use it with a ridge-sweep reward.

    Raises:
      ValueError: malformed, unknown device or network, or a unit that is not the device's.
    """
    if text.strip().startswith(f"{_SWEEP}:"):
        return _sweep(text)
    match = re.fullmatch(r"([^:@]+):([0-9.eE+-]+)\s*([A-Za-z]*)(?:@([0-9.]+))?", text.strip())
    if not match:
        examples = f"pixel6-cpu:2.4ms, macs:200M or {_SWEEP}:NETWORK"
        raise ValueError(f"target {text!r}: expected device:value, e.g. {examples}")
    name, number, unit, confidence = match.groups()
    device = latency_tables.device(name)
    if unit not in ("", device.unit):
        raise ValueError(f"target {text!r}: {name} costs are in {device.unit}, got {unit!r}")
    value = _number(text, number)
    share = None if confidence is None else _number(text, confidence)
    if share is not None and not 0 < share < 1:
        raise ValueError(f"target {text!r}: got a confidence of {confidence}, expected between 0 and 1")
    return (Target(device, value, share),)


def _sweep(text: str) -> tuple[Target, ...]:
    name, _, factor = text.strip().removeprefix(f"{_SWEEP}:").partition("*")
    reference = search_spaces.base(name.strip())
    if not reference.is_frozen:
        raise ValueError(f"target {text!r}: {name} has holes; a sweep needs one network to compare with")
    scale = _number(text, factor) if factor else 1.0
    targets = []
    for point in SWEPT:
        device = RooflineDevice(
            name=f"ridge-{point:g}", source=f"sweep against {name}", date="", ridge_point=point, bandwidth_gb_s=40.0
        )
        targets.append(Target(device, scale * latency_tables.roofline_ms(reference, point)))
    return tuple(targets)


def _number(text: str, number: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise ValueError(f"target {text!r}: {number!r} is not a number") from None
