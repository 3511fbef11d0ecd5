"""Predictions beside measurements: inside, outside, or not to be compared."""

from __future__ import annotations

from typing import Any

import pytest

import search_spaces
from latency_tables import comparison, device, devices
from latency_tables.comparison import Comparison, compare, matching
from latency_tables.conformal import Calibration
from latency_tables.kinds import RooflineDevice, TableDevice
from search_spaces import lower, yaml_io

OPS = lower(search_spaces.zoo("mnv4-conv-s"))
BOX = "A processor of some box"


def _device(**fields: Any) -> RooflineDevice:
    given = {"name": "mine", "source": "a test", "date": "2026", **fields}
    return RooflineDevice(ridge_point=30, bandwidth_gb_s=3, **given)


CALIBRATION = Calibration(ratios=tuple(0.9 + i / 100 for i in range(21)))
PREDICTED = _device().cost(OPS)


@pytest.mark.parametrize(
    ("fields", "ratio", "inside", "text"),
    [
        ({"calibration": CALIBRATION}, 1.0, True, "(90%): the measurement lies inside (the device"),
        ({"calibration": CALIBRATION}, 1.2, False, "the measurement lies outside"),
        ({"calibration": CALIBRATION, "processor": BOX[:11]}, 1.0, True, "lies inside"),
        ({}, 1.5, None, "no interval; measured / predicted 1.50 (the device does not state its"),
        (
            {"processor": "other"},
            1.0,
            None,
            f"not compared (it predicts for other, measured was {BOX}",
        ),
        (
            {"dtype": "float32"},
            1.0,
            None,
            "not compared (it predicts for float32, measured was int8",
        ),
        (
            {"calibration": Calibration(ratios=(1.0, 1.1)), "processor": BOX},
            1.0,
            None,
            "no interval; measured / predicted 1.00 (the device was compared with too few",
        ),
    ],
)
def test_verdicts(fields: dict[str, Any], ratio: float, inside: bool | None, text: str) -> None:
    found = compare(OPS, _device(**fields), ratio * PREDICTED, BOX, "int8")
    assert found.is_inside is inside and text in str(found)
    again = yaml_io.parse_model(yaml_io.to_yaml(found, defaults=True), Comparison, "record")
    assert again == found


def test_a_device_that_counts_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="`device` macs: counts M; expected one that predicts ms"):
        compare(OPS, "macs", 1.0, BOX, "int8")


def test_the_shipped_device_of_a_processor() -> None:
    """Of the two of that processor, the table's intervals are narrower."""
    found = matching("AMD EPYC 7763 64-Core Processor", "int8")
    assert found is not None and found.name == "x86-64-cpu"
    assert matching("AMD EPYC", "float32") is None and matching("another", "int8") is None


@pytest.mark.parametrize("name", [name for name in devices() if device(name).unit == "ms"])
def test_shipped_devices_state_what_they_are_of(name: str) -> None:
    processor, dtype = device(name).measured_on
    assert processor and dtype == "int8"


def test_a_table_of_a_sister_device_is_not_of_its_processor() -> None:
    table = device("x86-64-cpu")
    assert isinstance(table, TableDevice) and table.measured_on == ("AMD EPYC", "int8")
    faster = table.model_copy(update={"speed": 0.5})
    assert faster.measured_on == ("", "int8")
    named = faster.model_copy(update={"processor": "its sister"})
    assert named.measured_on == ("its sister", "int8")


def test_numbers_keep_four_digits() -> None:
    found = comparison.Comparison(device="d", predicted_ms=1.23456, measured_ms=2.0)
    assert found.predicted_ms == 1.235
