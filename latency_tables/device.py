"""What every source of cost answers: the cost of operations, and how operations add up to a network's cost."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from latency_tables.conformal import Calibration
from search_spaces import OpCall
from search_spaces.choice import Frozen


@dataclasses.dataclass(frozen=True)
class Piece:
    """One affine function of a network's summed features: weights . features + constant, in the device's unit."""

    weights: tuple[float, ...]
    constant: float = 0.0

    def __call__(self, sums: Any) -> Any:
        """[..., features] of numpy or JAX -> [...]."""
        return sum((w * sums[..., i] for i, w in enumerate(self.weights) if w), self.constant + 0 * sums[..., 0])


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a network costs on a device.

    Attributes:
      value: the estimate, in `unit`.
      low, high: interval that holds the measured value with probability `level`; None where the device has not been
        compared with measured networks.
      level: of the interval.
      unit: "ms", or "M" for counts in millions.
      per_op: [operations] float64, each operation's part; a fixed cost of a call and a cache that overflows are no
        operation's part.
      how: in one line, how the estimate was made.
      filled_in: the operations that a table had no row for, so that its fallback answered.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    unit: str
    per_op: np.ndarray
    how: str
    filled_in: tuple[OpCall, ...] = ()

    @property
    def ms(self) -> float:
        """The estimate in milliseconds. Raises ValueError for a device that counts something else."""
        return self._in_ms(self.value)

    @property
    def low_ms(self) -> float | None:
        """Lower end of the interval in milliseconds."""
        return None if self.low is None else self._in_ms(self.low)

    @property
    def high_ms(self) -> float | None:
        """Upper end of the interval in milliseconds."""
        return None if self.high is None else self._in_ms(self.high)

    def _in_ms(self, value: float) -> float:
        if self.unit != "ms":
            raise ValueError(f"this estimate is in {self.unit}, not in ms ({self.how})")
        return value


class Described(Frozen):
    """What every device says of itself; its subclasses are the kinds of device.

    A network costs the largest of the device's `pieces`, each an affine function of the sums of its operations'
    `features`. So costs add up exactly over blocks, whatever the device.

    Attributes:
      name: as people write it in a target.
      source, date: where its numbers come from.
      calibration: ratios of measured to estimated networks, from which intervals follow.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    source: str
    date: str
    calibration: Calibration | None = None

    @property
    def unit(self) -> str:
        """Unit of its costs."""
        return "ms"

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """How summed features become a cost: the largest of these."""
        return (Piece((1.0,)),)

    @property
    def how(self) -> str:
        """In one line, how it estimates."""
        raise NotImplementedError

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Cost of each operation, [len(ops)] float64, in `unit`."""
        raise NotImplementedError

    def features(self, ops: Sequence[OpCall]) -> np.ndarray:
        """[len(ops), features] float64 that add up over a network; the first is `op_costs`."""
        return self.op_costs(ops)[:, None]

    def missing(self, ops: Sequence[OpCall]) -> tuple[OpCall, ...]:
        """The operations that it has no number of its own for."""
        del ops
        return ()

    def overhead(self, ops: Sequence[OpCall]) -> float:
        """What a network costs beside its operations, the same for all networks of one input and output."""
        del ops
        return 0.0

    def cost(self, ops: Sequence[OpCall]) -> float:
        """Cost of a network, given as its operations in the order in which they run."""
        return float(self.total(self.features(ops).sum(0))) + self.overhead(ops)

    def total(self, sums: Any) -> Any:
        """Cost of networks from their summed features: [..., features] of numpy or JAX -> [...]."""
        return functools.reduce(sums.__array_namespace__().maximum, (piece(sums) for piece in self.pieces))

    def estimate(self, ops: Sequence[OpCall], level: float = 0.9) -> Estimate:
        """What these operations cost together, with its interval at `level` if the device is calibrated."""
        value = self.cost(ops)
        low, high = self.calibration.interval(value, level) if self.calibration else (None, None)
        return Estimate(value, low, high, level, self.unit, self.op_costs(ops), self.how, self.missing(ops))
