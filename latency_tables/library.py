"""Devices by name or file, and devices of your own."""

from __future__ import annotations

import functools
import pathlib

from latency_tables.device import DeviceModel, Estimate
from latency_tables.kinds import AnyDevice
from search_spaces import ArchSpec, lower, yaml_io
from search_spaces.naming import did_you_mean

_FOLDER = pathlib.Path(__file__).parent / "devices"
_REGISTERED: dict[str, DeviceModel] = {}


def devices() -> tuple[str, ...]:
    """Return the names of the shipped devices."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def registered_devices() -> tuple[str, ...]:
    """Return the names of the devices that `register_device` added, in their order."""
    return tuple(_REGISTERED)


def register_device(device: DeviceModel) -> None:
    """Add a device of your own, so that this process finds it by its name, e.g. in targets.

    Processes that are started later do not know it; give those a device file.

    Args:
      device: The device. One with the name of another registered device replaces it.

    Raises:
      ValueError: The name is that of a shipped device.
    """
    if device.name in devices():
        raise ValueError(
            f"device {device.name!r}: is the name of a shipped device; choose another name"
        )
    _REGISTERED[device.name] = device


def device(device: str | DeviceModel) -> DeviceModel:
    """Find a device.

    Args:
      device: Name of a shipped or registered device, path of a YAML file, or a device.

    Returns:
      The device; the same object for the same name or path.

    Raises:
      ValueError: An unknown name, with the known names and the nearest one; or file, line and cause
        of a mistake in the file.
    """
    return _find(device)


def estimate(spec: ArchSpec, device: str | DeviceModel, level: float = 0.9) -> Estimate:
    """Estimate the cost of a network on a device.

    Args:
      spec: Network without choices.
      device: Name of a shipped or registered device, path of a YAML file, or a device.
      level: Probability of the interval.

    Returns:
      The estimate, with an interval where the device has been compared with measured networks.

    Raises:
      ValueError: An unknown device, or operations that its table lacks.
    """
    return _find(device).estimate(lower(spec), level)


def _find(device: str | DeviceModel) -> DeviceModel:
    if isinstance(device, DeviceModel):
        return device
    if device in _REGISTERED:
        return _REGISTERED[device]
    if device.endswith((".yaml", ".yml")):
        # Read each time, as it may have changed; equal content is one object, with all it keeps.
        found = yaml_io.load_model(device, AnyDevice).root
        return _READ.setdefault(repr(found), found)
    if device not in devices():
        known = (*devices(), *registered_devices())
        raise ValueError(
            f"no device called {device!r}; known: {', '.join(known)}{did_you_mean(device, known)}"
        )
    return _shipped(device)


_READ: dict[str, DeviceModel] = {}
"""Devices of users' files by their content."""


@functools.cache
def _shipped(name: str) -> DeviceModel:
    return yaml_io.load_model(_FOLDER / f"{name}.yaml", AnyDevice).root
