"""Devices by name or file."""

from __future__ import annotations

import difflib
import functools
import pathlib

from latency_tables.device import Estimate
from latency_tables.kinds import AnyDevice, Device
from search_spaces import ArchSpec, lower, yaml_io

_FOLDER = pathlib.Path(__file__).parent / "devices"


def devices() -> tuple[str, ...]:
    """Names of the shipped devices."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


device_names = devices


@functools.cache
def device(name_or_path: str) -> Device:
    """A shipped device by name, or one of the user's by the path of its YAML file.

    Raises:
      ValueError: with the known names and the nearest one, or what is wrong in the file.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return yaml_io.load_model(name_or_path, AnyDevice).root
    if name_or_path not in devices():
        near = difflib.get_close_matches(name_or_path, devices(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no device called {name_or_path!r}; known: {', '.join(devices())}{hint}")
    return yaml_io.load_model(_FOLDER / f"{name_or_path}.yaml", AnyDevice).root


def estimate(spec: ArchSpec, name_or_path: str, level: float = 0.9) -> Estimate:
    """What a frozen spec costs on a device, with an interval at `level` where the device has been compared.

    Raises:
      ValueError: for an unknown device, or operations that its table lacks.
    """
    return device(name_or_path).estimate(lower(spec), level)
