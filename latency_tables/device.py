"""Devices: named sources of cost, one YAML file each in `devices/`.

To add a device of a known kind: a YAML file. To add a kind: a class here with `op_costs`, and a row in `AnyDevice`.
"""

from __future__ import annotations

import difflib
import functools
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pydantic

from latency_tables import roofline
from search_spaces import ArchSpec, OpCall, lower, yaml_io
from search_spaces.choice import Frozen

_FOLDER = pathlib.Path(__file__).parent / "devices"


class _Described(Frozen):
    """What every device says of itself."""

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: str
    source: str
    date: str

    @property
    def unit(self) -> str:
        """Unit of its costs."""
        return "ms"

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Cost of each operation, [len(ops)] float64, in `unit`."""
        raise NotImplementedError


class RooflineDevice(_Described):
    """A device as a roofline: ridge point in MACs/byte and bandwidth in GB/s."""

    kind: Literal["roofline"] = "roofline"
    ridge_point: Annotated[float, pydantic.Field(ge=0)]
    bandwidth_gb_s: Annotated[float, pydantic.Field(gt=0)]

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        return roofline.ops_ms(ops, self.ridge_point, self.bandwidth_gb_s)


class Counter(_Described):
    """No device at all: counts MACs or parameters, in millions."""

    kind: Literal["counter"] = "counter"
    counts: Literal["macs", "params"]

    @property
    def unit(self) -> str:
        return "M"

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        return np.array([getattr(op, self.counts) for op in ops], np.float64) * 1e-6


class AnyDevice(pydantic.RootModel[Annotated[RooflineDevice | Counter, pydantic.Field(discriminator="kind")]]):
    """A device file."""


Device = RooflineDevice | Counter


def devices() -> tuple[str, ...]:
    """Names of the shipped devices."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


device_names = devices


@functools.cache
def device(name: str) -> Device:
    """A shipped device by name.

    Raises:
      ValueError: with the known names and the nearest one.
    """
    if name not in devices():
        near = difflib.get_close_matches(name, devices(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no device called {name!r}; known: {', '.join(devices())}{hint}")
    return yaml_io.load_model(_FOLDER / f"{name}.yaml", AnyDevice).root


def estimate(spec: ArchSpec, name: str) -> float:
    """Cost of a frozen spec on a device, in the device's unit."""
    return float(device(name).op_costs(lower(spec)).sum())
