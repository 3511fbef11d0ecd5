"""The kinds of device. To add one: a class here with `op_costs` and `how`, and a row in `AnyDevice`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pydantic

from latency_tables import roofline
from latency_tables.device import Described, Piece
from latency_tables.fit import CachedRoofline
from latency_tables.operator_model import OperatorModel
from latency_tables.table import Table, load_table
from search_spaces import OpCall

_Positive = Annotated[float, pydantic.Field(gt=0)]
_NotNegative = Annotated[float, pydantic.Field(ge=0)]


class RooflineDevice(Described):
    """A device as a roofline: ridge point in MACs/byte and bandwidth in GB/s; options see `roofline.ops_ms`."""

    kind: Literal["roofline"] = "roofline"
    ridge_point: _NotNegative
    bandwidth_gb_s: _Positive
    call_ms: _NotNegative = 0.0
    element_bytes: _Positive = 1.0
    outputs: bool = False
    elementwise: bool = False

    @property
    def how(self) -> str:
        more = [name for name in ("outputs", "elementwise") if getattr(self, name)]
        options = f" with {' and '.join(more)}" if more else ""
        return f"roofline{options}, ridge point {self.ridge_point:g} MACs/byte, {self.bandwidth_gb_s:g} GB/s"

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return (Piece((1.0,), self.call_ms),)

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        return roofline.ops_ms(
            ops,
            self.ridge_point,
            self.bandwidth_gb_s,
            element_bytes=self.element_bytes,
            outputs=self.outputs,
            elementwise=self.elementwise,
        )


class CachedRooflineDevice(Described):
    """A roofline whose weights lie in a cache on the chip; those that do not fit stream in at every run.

    Weights are cached whole, so beyond the cache costs do not add up over operations. `estimate` is exact there; a
    search, which needs sums, sees a lower bound: all that does not fit is streamed once.
    """

    kind: Literal["cached_roofline"] = "cached_roofline"
    model: CachedRoofline

    @property
    def how(self) -> str:
        m = self.model
        cache = f"{m.cache_bytes / 2**20:.2f} MiB of weights on chip, others at {m.stream_gb_s:g} GB/s"
        return f"roofline of {m.peak_gmacs_s:g} GMAC/s and {m.onchip_gb_s:g} GB/s; {cache}"

    @property
    def pieces(self) -> tuple[Piece, ...]:
        call, ms_per_byte = self.model.call_ms, 1e-6 / self.model.stream_gb_s
        return (Piece((1.0, 0.0), call), Piece((1.0, ms_per_byte), call - self.model.cache_bytes * ms_per_byte))

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        if not ops:
            return np.zeros(0)
        return self.model.model_copy(update={"cache_bytes": math.inf}).ops_ms(ops)

    def features(self, ops: Sequence[OpCall]) -> np.ndarray:
        return np.stack([self.op_costs(ops), self.model.weight_bytes(ops)], -1)

    def overhead(self, ops: Sequence[OpCall]) -> float:
        return self.model.overhead_ms(ops) - self.model.call_ms

    def cost(self, ops: Sequence[OpCall]) -> float:
        return self.model.network_ms(ops)


class TableDevice(Described):
    """A measured table.

    Attributes:
      table: name of a shipped table, or its folder.
      fallback: for an operation without a row: "error" refuses it, "interpolate" asks an operator model of the rows.
      speed: factor on all times, e.g. of a sister device (rank correlation between phones is above 0.99).
    """

    kind: Literal["table"] = "table"
    table: str
    fallback: Literal["error", "interpolate"] = "error"
    speed: _Positive = 1.0

    @functools.cached_property
    def rows(self) -> Table:
        """The table itself."""
        return load_table(self.table)

    @functools.cached_property
    def _model(self) -> OperatorModel:
        return OperatorModel.fit([row.op for row in self.rows.rows], self.rows.ms)

    @property
    def how(self) -> str:
        m = self.rows.manifest
        return f"table {m.name}: {m.device}, {m.runtime}, {m.threads} thread(s), {m.dtype}, {m.how} {m.date}"

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return (Piece((1.0,), self.rows.manifest.call_ms * self.speed),)

    def missing(self, ops: Sequence[OpCall]) -> tuple[OpCall, ...]:
        return tuple(op for op in dict.fromkeys(op.folded for op in ops) if self.rows.find(op) is None)

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        ms = self.rows.lookup(ops)
        absent = np.isnan(ms)
        if absent.any() and self.fallback == "error":
            lacking = self.missing(ops)
            shown = "; ".join(op.text for op in lacking[:5]) + ("; ..." if len(lacking) > 5 else "")
            raise ValueError(
                f"device {self.name!r}: table {self.table} has no rows for {len(lacking)} operations ({shown}); "
                "measure them, or choose `fallback: interpolate` in the device's file"
            )
        if absent.any():
            ms[absent] = self._model.predict([op for op, no in zip(ops, absent, strict=True) if no])[0]
        return ms * self.speed


class Counter(Described):
    """No device at all: counts MACs or parameters, in millions."""

    kind: Literal["counter"] = "counter"
    counts: Literal["macs", "params"]

    @property
    def unit(self) -> str:
        return "M"

    @property
    def how(self) -> str:
        return f"{self.counts}, counted"

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        return np.array([getattr(op, self.counts) for op in ops], np.float64) * 1e-6


Device = RooflineDevice | CachedRooflineDevice | TableDevice | Counter


class AnyDevice(pydantic.RootModel[Annotated[Device, pydantic.Field(discriminator="kind")]]):
    """A device file."""
