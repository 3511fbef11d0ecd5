"""What a network costs on a device: rooflines, counters, tables. Needs numpy, never JAX."""

from latency_tables.cost_model import CostModel, Target
from latency_tables.device import Estimate
from latency_tables.kinds import Device
from latency_tables.library import device, device_names, devices, estimate
from latency_tables.roofline import roofline_ms, roofline_ops_ms

__all__ = [
    "CostModel",
    "Device",
    "Estimate",
    "Target",
    "device",
    "device_names",
    "devices",
    "estimate",
    "roofline_ms",
    "roofline_ops_ms",
]
