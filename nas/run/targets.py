"""Targets as people write them: "pixel6-cpu:2.4ms"."""

from __future__ import annotations

import re

import latency_tables
from latency_tables import Target


def parse_target(text: str) -> Target:
    """Parse "device:value[unit]".

    Raises:
      ValueError: malformed, unknown device, or a unit that is not the device's.
    """
    match = re.fullmatch(r"([^:]+):([0-9.eE+-]+)\s*([A-Za-z]*)", text.strip())
    if not match:
        raise ValueError(f"target {text!r}: expected device:value, e.g. pixel6-cpu:2.4ms or macs:200M")
    name, number, unit = match.groups()
    device = latency_tables.device(name)
    if unit not in ("", device.unit):
        raise ValueError(f"target {text!r}: {name} costs are in {device.unit}, got {unit!r}")
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"target {text!r}: {number!r} is not a number") from None
    return Target(device, value)
