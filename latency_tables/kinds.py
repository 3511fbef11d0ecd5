"""The kinds of device.

To add one: a class here with `op_costs` and `description`, and a row in `Device`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pydantic

from latency_tables import operator_parameters, roofline
from latency_tables.cached_roofline import CachedRoofline
from latency_tables.device import AffineTerm, DeviceModel
from latency_tables.operator_model import OperatorModel
from latency_tables.table import Table, load_table, table_folder
from search_spaces import OpCall

_Positive = Annotated[float, pydantic.Field(gt=0)]
_NotNegative = Annotated[float, pydantic.Field(ge=0)]


class RooflineDevice(DeviceModel):
    """A device as a roofline; see `roofline.ops_ms`.

    Attributes:
      kind: Name of the kind of device in YAML.
      ridge_point: Ridge point in MACs/byte; 0 for infinite bandwidth.
      bandwidth_gb_s: Memory bandwidth in GB/s.
      call_ms: Fixed cost of one run of a network.
      element_bytes: Bytes of a weight or value.
      outputs: Whether the bytes that are written count, too.
      elementwise: Whether operations without MACs cost their traffic.
    """

    kind: Literal["roofline"] = "roofline"
    ridge_point: _NotNegative
    bandwidth_gb_s: _Positive
    call_ms: _NotNegative = 0.0
    element_bytes: _Positive = 1.0
    outputs: bool = False
    elementwise: bool = False

    @property
    def description(self) -> str:
        """Method of the estimates, in one line."""
        flags = [name for name in ("outputs", "elementwise") if getattr(self, name)]
        options = f" with {' and '.join(flags)}" if flags else ""
        return (
            f"roofline{options}, ridge point {self.ridge_point:g} MACs/byte, "
            f"{self.bandwidth_gb_s:g} GB/s"
        )

    @property
    def terms(self) -> tuple[AffineTerm, ...]:
        """The sum of the operations, and the cost of a call."""
        return (AffineTerm((1.0,), self.call_ms),)

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the milliseconds of each operation; see `DeviceModel.op_costs`."""
        return roofline.ops_ms(
            ops,
            self.ridge_point,
            self.bandwidth_gb_s,
            element_bytes=self.element_bytes,
            outputs=self.outputs,
            elementwise=self.elementwise,
        )


class CachedRooflineDevice(DeviceModel):
    """A roofline whose weights are in a cache on the chip; others are streamed in every run.

    Weights are cached whole, so beyond the cache costs do not add up over operations. `estimate` is
    exact there. A search, which needs sums, uses a lower bound: all bytes that do not fit are
    streamed once.

    Attributes:
      kind: Name of the kind of device in YAML.
      model: Parameters of the roofline and the cache.
    """

    kind: Literal["cached_roofline"] = "cached_roofline"
    model: CachedRoofline

    @property
    def description(self) -> str:
        """Method of the estimates, in one line."""
        m = self.model
        cache = (
            f"{m.cache_bytes / 2**20:.2f} MiB of weights on chip, others at {m.stream_gb_s:g} GB/s"
        )
        return f"roofline of {m.peak_gmacs_s:g} GMAC/s and {m.onchip_gb_s:g} GB/s; {cache}"

    @property
    def terms(self) -> tuple[AffineTerm, ...]:
        """The cost with all weights in the cache, and with those beyond it streamed once."""
        call, ms_per_byte = self.model.call_ms, 1e-6 / self.model.stream_gb_s
        return (
            AffineTerm((1.0, 0.0), call),
            AffineTerm((1.0, ms_per_byte), call - self.model.cache_bytes * ms_per_byte),
        )

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the milliseconds of each operation with its weights in the cache."""
        if not ops:
            return np.zeros(0)
        return self.model.model_copy(update={"cache_bytes": math.inf}).ops_ms(ops)

    def features(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the milliseconds and the bytes of weights of each operation, [len(ops), 2]."""
        return np.stack([self.op_costs(ops), self.model.weight_bytes(ops)], -1)

    def fixed_cost(self, ops: Sequence[OpCall]) -> float:
        """Return the milliseconds for the input and output of a network."""
        return self.model.fixed_ms(ops) - self.model.call_ms

    def cost(self, ops: Sequence[OpCall]) -> float:
        """Return the milliseconds of a network, exact also beyond the cache."""
        return self.model.network_ms(ops)


class TableDevice(DeviceModel):
    """A measured table.

    Attributes:
      kind: Name of the kind of device in YAML.
      table: Name of a shipped table, or a folder.
      fallback: Source of the time of an operation without a row: "error" for none,
        "interpolate" for an operator model of the rows (see `operator_parameters`).
      speed: Factor on all times, e.g. of a sister device (the rank correlation between phones is
        above 0.99).
    """

    kind: Literal["table"] = "table"
    table: str
    fallback: Literal["error", "interpolate"] = "error"
    speed: _Positive = 1.0

    @functools.cached_property
    def rows(self) -> Table:
        """The table."""
        return load_table(self.table)

    @functools.cached_property
    def _model(self) -> OperatorModel:
        return operator_parameters.load_model(self.rows, table_folder(self.table))

    @property
    def measured_on(self) -> tuple[str, str | None]:
        """Those of the table, unless the device states others."""
        # A factor on all times makes it another processor.
        of_table = self.rows.manifest.processor if self.speed == 1 else ""
        return self.processor or of_table, self.dtype or self.rows.manifest.dtype

    @property
    def description(self) -> str:
        """Origin of the table, in one line."""
        m = self.rows.manifest
        return (
            f"table {m.name}: {m.device}, {m.runtime}, {m.threads} thread(s), {m.dtype}, "
            f"{m.origin} {m.date}"
        )

    @property
    def terms(self) -> tuple[AffineTerm, ...]:
        """The sum of the operations, and the cost of a call."""
        return (AffineTerm((1.0,), self.rows.manifest.call_ms * self.speed),)

    def missing(self, ops: Sequence[OpCall]) -> tuple[OpCall, ...]:
        """Return the operations without a row, each once."""
        return tuple(
            op for op in dict.fromkeys(op.folded for op in ops) if self.rows.find(op) is None
        )

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the milliseconds of each operation.

        Args:
          ops: The operations.

        Returns:
          [len(ops)] float64.

        Raises:
          ValueError: Operations without a row, if `fallback` is "error".
        """
        ms = self.rows.lookup(ops)
        absent = np.isnan(ms)
        if absent.any() and self.fallback == "error":
            lacking = self.missing(ops)
            shown = "; ".join(str(op) for op in lacking[:5]) + ("; ..." if len(lacking) > 5 else "")
            raise ValueError(
                f"device {self.name!r}: table {self.table} has no rows for {len(lacking)} "
                f"operations ({shown}); measure them, or choose `fallback: interpolate` in the "
                "device's file"
            )
        if absent.any():
            unknown = [op for op, is_absent in zip(ops, absent, strict=True) if is_absent]
            ms[absent] = self._model.predict_ms(unknown)
        return ms * self.speed


class CountingDevice(DeviceModel):
    """A count of MACs or parameters, in millions, in the form of a device.

    Attributes:
      kind: Name of the kind of device in YAML.
      counts: Quantity that is counted.
    """

    kind: Literal["counter"] = "counter"
    counts: Literal["macs", "params"]

    @property
    def unit(self) -> str:
        """Unit of the costs: millions."""
        return "M"

    @property
    def description(self) -> str:
        """Method of the estimates, in one line."""
        return f"{self.counts}, counted"

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the count of each operation in millions; see `DeviceModel.op_costs`."""
        return np.array([getattr(op, self.counts) for op in ops], np.float64) * 1e-6


Device = RooflineDevice | CachedRooflineDevice | TableDevice | CountingDevice
"""The kinds of device that a YAML file may describe."""


class AnyDevice(pydantic.RootModel[Annotated[Device, pydantic.Field(discriminator="kind")]]):
    """A device file: its key `kind` chooses the class."""
