"""Targets: a cost on a device, as an object and as text such as "pixel6-cpu:2.4ms"."""

from __future__ import annotations

import dataclasses
import math
import re

import search_spaces
from latency_tables import csv_files, library, roofline
from latency_tables.device import DeviceModel
from latency_tables.kinds import RooflineDevice


@dataclasses.dataclass(frozen=True)
class Target:
    """Cost of an architecture on a device that a search aims at.

    `str` and `parse_targets` are inverses: `parse_targets(str(target)) == (target,)` for a shipped
    or registered device.

    Attributes:
      device: The device.
      value: Cost, in the device's unit.
      confidence: None: the estimate should be `value`. p: the measured cost should stay below
        `value` with probability p.
    """

    device: DeviceModel
    value: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:
            raise ValueError(
                f"target on {self.device.name}: got {self.value}, "
                f"expected a finite cost above 0 {self.device.unit}"
            )
        if self.confidence is None:
            return
        if not 0 < self.confidence < 1:
            raise ValueError(
                f"target {self}: got a confidence of {_shortest(self.confidence)}, "
                "expected between 0 and 1"
            )
        if self.device.calibration is None:
            raise ValueError(
                f"target {self}: a confidence needs a calibrated device, and {self.device.name} "
                "has never been compared with measured networks; fit it first (`nas-latency fit`), "
                "or leave the confidence out"
            )
        if self.effective_value == 0:
            count = len(self.device.calibration.ratios)
            raise ValueError(
                f"target {self}: {self.device.name} was compared with {count} networks, too few to "
                f"promise {_shortest(self.confidence)}; "
                f"at most {count / (count + 1):.3g} can be asked for"
            )

    @property
    def effective_value(self) -> float:
        """Estimate to aim at: `value`, or the lower cost that keeps the confidence."""
        if self.confidence is None or self.device.calibration is None:
            return self.value
        return self.value / self.device.calibration.factor(self.confidence)

    def __str__(self) -> str:
        confidence = "" if self.confidence is None else f"@{_shortest(self.confidence)}"
        return f"{self.device.name}:{_shortest(self.value)}{self.device.unit}{confidence}"


_SWEEP = "ridge-sweep"
SWEPT = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""Ridge points of a `ridge-sweep` target, MACs/byte: the paper's range, about three a decade."""


def parse_targets(target: str | Target) -> tuple[Target, ...]:
    """Parse a target: the inverse of `str(target)`.

    - "device:value[unit][@confidence]": with a confidence p, the measured cost should stay below
      the value with probability p.
    - "ridge-sweep:network[*factor]": one target for each ridge point of `SWEPT`, the network's
      roofline latency there, times the factor; for a ridge-sweep reward.

    Args:
      target: Text, or a target, which is returned unchanged.

    Returns:
      One target, or those of a sweep.

    Raises:
      ValueError: Malformed text, an unknown device or network, or a unit that is not the device's.
    """
    if isinstance(target, Target):
        return (target,)
    text = target.strip()
    if text.startswith(f"{_SWEEP}:"):
        return _sweep(target)
    match = re.fullmatch(r"([^:@]+):([0-9.eE+-]+)\s*([A-Za-z]*)(?:@([0-9.eE+-]+))?", text)
    if not match:
        examples = f"pixel6-cpu:2.4ms, macs:200M or {_SWEEP}:NETWORK"
        raise ValueError(f"target {target!r}: expected device:value, e.g. {examples}")
    name, number, unit, confidence = match.groups()
    device = library.device(name)
    if unit not in ("", device.unit):
        raise ValueError(f"target {target!r}: {name} costs are in {device.unit}, got {unit!r}")
    value = _number(target, number)
    probability = None if confidence is None else _number(target, confidence)
    return (Target(device, value, probability),)


def _sweep(text: str) -> tuple[Target, ...]:
    name, _, factor = text.strip().removeprefix(f"{_SWEEP}:").partition("*")
    reference = search_spaces.base(name.strip())
    if not reference.is_frozen:
        raise ValueError(
            f"target {text!r}: {name} has holes; a sweep needs one network to compare with"
        )
    scale = _number(text, factor) if factor else 1.0
    targets = []
    for point in SWEPT:
        device = RooflineDevice(
            name=f"ridge-{point:g}",
            source=f"sweep against {name}",
            date="",
            ridge_point=point,
            bandwidth_gb_s=40.0,
        )
        targets.append(Target(device, scale * roofline.roofline_ms(reference, point)))
    return tuple(targets)


def _number(text: str, number: str) -> float:
    value = csv_files.real(number.strip())
    if math.isnan(value):
        raise ValueError(f"target {text!r}: {number!r} is not a number, or not finite")
    return value


def _shortest(value: float) -> str:
    """Shortest text of a number: six digits, or as many as it takes to read the same number."""
    text = f"{value:g}"
    return text if float(text) == value else repr(float(value))
