"""Predictions beside measurements: whether a measured time lies in the interval of a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import pydantic

from latency_tables.device import DeviceModel
from latency_tables.library import device, devices
from search_spaces import OpCall
from search_spaces.frozen import FrozenModel

_Ms = Annotated[float, pydantic.BeforeValidator(lambda ms: float(f"{ms:.4g}"))]


class Comparison(FrozenModel):
    """Latency of a network as a device predicts it, beside a measured one.

    Attributes:
      device: Name of the device.
      predicted_ms: Prediction.
      low_ms: Lower end of the interval that holds the measurement with probability `level`; None
        where the device has not been compared with measured networks.
      high_ms: Upper end of that interval, or None.
      level: Probability of the interval.
      measured_ms: Measured time; None where another processor or type was measured, so that nothing
        can be compared.
      note: Reason why nothing can be compared, or doubt about the comparison; "" for none.
    """

    device: str
    predicted_ms: _Ms
    low_ms: _Ms | None = None
    high_ms: _Ms | None = None
    level: float = 0.9
    measured_ms: _Ms | None = None
    note: str = ""

    @property
    def is_inside(self) -> bool | None:
        """Whether the measurement lies in the interval; None if there is none of the two."""
        if self.measured_ms is None or self.low_ms is None or self.high_ms is None:
            return None
        return self.low_ms <= self.measured_ms <= self.high_ms

    @property
    def interval(self) -> str:
        """The interval as text, "" if there is none."""
        if self.low_ms is None or self.high_ms is None:
            return ""
        if math.isinf(self.high_ms):
            return f"above {self.low_ms:.4g} ({self.level:.0%})"
        return f"{self.low_ms:.4g} to {self.high_ms:.4g} ({self.level:.0%})"

    @property
    def verdict(self) -> str:
        """Result of the comparison in a few words, with the note."""
        if self.is_inside is not None:
            text = (
                "the measurement lies inside" if self.is_inside else "the measurement lies outside"
            )
        elif self.measured_ms is not None:
            text = f"no interval; measured / predicted {self.measured_ms / self.predicted_ms:.2f}"
        else:
            text = "not compared"
        return f"{text} ({self.note})" if self.note else text

    def __str__(self) -> str:
        interval = f", {self.interval}" if self.interval else ""
        return f"{self.device} predicts {self.predicted_ms:.4g} ms{interval}: {self.verdict}"


def matching(processor: str, dtype: str) -> DeviceModel | None:
    """Find the shipped device whose numbers are of a processor and a type of models.

    Args:
      processor: Name of the processor, from its system.
      dtype: Type of the models, e.g. "int8".

    Returns:
      The device; of several the one with the narrowest interval. None if there is none.
    """
    found = []
    for name in devices():
        one = device(name)
        its_processor, its_dtype = one.measured_on
        if its_processor and its_processor in processor and its_dtype == dtype and one.calibration:
            low, high = one.calibration.interval(1.0)
            found.append((high / low if low else math.inf, name))
    return device(min(found)[1]) if found else None


def compare(
    ops: Sequence[OpCall],
    of: str | DeviceModel,
    measured_ms: float,
    processor: str,
    dtype: str,
    level: float = 0.9,
) -> Comparison:
    """Compare a measured network with the prediction of a device.

    Args:
      ops: Operations of the network.
      of: Device, its name or its file.
      measured_ms: Measured time.
      processor: Name of the processor that was measured.
      dtype: Type of the model that was measured.
      level: Probability of the interval.

    Returns:
      The comparison. A device that states another processor or type only predicts.

    Raises:
      ValueError: An unknown device, one that does not count milliseconds, or operations that its
        table lacks.
    """
    found = device(of)
    if found.unit != "ms":
        raise ValueError(
            f"`device` {found.name}: counts {found.unit}; expected one that predicts ms"
        )
    estimate = found.estimate(ops, level)
    its_processor, its_dtype = found.measured_on
    is_comparable, note = True, ""
    if its_processor and its_processor not in processor:
        is_comparable, note = False, f"it predicts for {its_processor}, measured was {processor}"
    elif its_dtype and its_dtype != dtype:
        is_comparable, note = False, f"it predicts for {its_dtype}, measured was {dtype}"
    elif not its_processor:
        note = "the device does not state its processor"
    low, high = estimate.low, estimate.high
    if low == 0 and high is not None and math.isinf(high):
        # Any time at all would lie inside.
        low = high = None
        note = note or "the device was compared with too few networks for an interval"
    return Comparison(
        device=found.name,
        predicted_ms=estimate.value,
        low_ms=low,
        high_ms=high,
        level=level,
        measured_ms=measured_ms if is_comparable else None,
        note=note,
    )
