"""Costs of networks on devices: rooflines, tables, counts, and targets. Needs numpy, never JAX."""

from latency_tables.cost_model import CostModel
from latency_tables.device import DeviceModel, Estimate
from latency_tables.kinds import Device
from latency_tables.library import (
    device,
    devices,
    estimate,
    register_device,
    registered_devices,
)
from latency_tables.roofline import roofline_ms, roofline_ops_ms
from latency_tables.targets import Target, parse_targets

__all__ = [
    "CostModel",
    "Device",
    "DeviceModel",
    "Estimate",
    "Target",
    "device",
    "devices",
    "estimate",
    "parse_targets",
    "register_device",
    "registered_devices",
    "roofline_ms",
    "roofline_ops_ms",
]


def __dir__() -> list[str]:
    return sorted(__all__)
