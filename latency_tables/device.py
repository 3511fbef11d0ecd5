"""Devices: the cost of operations, and how operations add up to the cost of a network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from latency_tables.conformal import Calibration
from search_spaces import OpCall
from search_spaces.frozen import FrozenModel
from search_spaces.naming import Name


@dataclasses.dataclass(frozen=True)
class AffineTerm:
    """One affine function of a network's summed features: weights . features + constant.

    Attributes:
      weights: [features] Weights, in the device's unit for one unit of a feature.
      constant: Constant, in the device's unit.
    """

    weights: tuple[float, ...]
    constant: float = 0.0

    def __call__(self, sums: Any) -> Any:
        """Evaluate the function: [..., features] of numpy or JAX -> [...]."""
        return sum(
            (w * sums[..., i] for i, w in enumerate(self.weights) if w),
            self.constant + 0 * sums[..., 0],
        )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Estimated cost of a network on a device.

    Attributes:
      value: Estimate, in `unit`.
      low: Lower end of the interval that holds the measured value with probability `level`; None
        where the device has not been compared with measured networks.
      high: Upper end of that interval, or None.
      level: Probability of the interval.
      unit: "ms", or "M" for counts in millions.
      per_op: [operations] float64, cost of each operation. Neither a fixed cost of a call nor a
        cache that overflows is in it.
      description: Method of the estimate, in one line.
      filled_in: Operations that a table had no row for, which its fallback estimated.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    unit: str
    per_op: np.ndarray
    description: str
    filled_in: tuple[OpCall, ...] = ()

    @property
    def ms(self) -> float:
        """Estimate in milliseconds. Raises ValueError for a device that counts something else."""
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
            raise ValueError(f"this estimate is in {self.unit}, not in ms ({self.description})")
        return value


class DeviceModel(FrozenModel):
    """Base of the kinds of device, and of devices of your own.

    A network costs the largest of the device's `terms`, each an affine function of the sums of its
    operations' `features`. So costs add up exactly over blocks, whatever the device. A device of
    your own is a subclass with `op_costs` and `description`; see also `library.register_device`.

    Attributes:
      schema_version: Version of the file format; the key `schema` in YAML.
      name: Name in targets.
      source: Origin of the numbers.
      date: Date of the numbers.
      processor: Processor that the numbers are of, as its system or maker names it; "" where it is
        not stated.
      dtype: Type of weights and activations that the numbers are of; None where it is not stated.
      calibration: Ratios of measured to estimated networks, from which intervals follow; None for a
        device that has not been compared with measured networks.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Name
    source: str
    date: str
    processor: str = ""
    dtype: Literal["int8", "float32", "float16"] | None = None
    calibration: Calibration | None = None

    @property
    def unit(self) -> str:
        """Unit of the costs."""
        return "ms"

    @property
    def measured_on(self) -> tuple[str, str | None]:
        """Processor and type of models that the numbers are of, as far as they are stated."""
        return self.processor, self.dtype

    @property
    def terms(self) -> tuple[AffineTerm, ...]:
        """Functions of the summed features; the largest one is the cost."""
        return (AffineTerm((1.0,)),)

    @property
    def description(self) -> str:
        """Method of the estimates, in one line."""
        raise NotImplementedError

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the cost of each operation.

        Args:
          ops: The operations.

        Returns:
          [len(ops)] float64, in `unit`.
        """
        raise NotImplementedError

    def features(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Return the features of each operation, which add up over a network.

        Args:
          ops: The operations.

        Returns:
          [len(ops), features] float64; the first feature is `op_costs`.
        """
        return self.op_costs(ops)[:, None]

    def missing(self, ops: Sequence[OpCall]) -> tuple[OpCall, ...]:
        """Return the operations that the device has no number of its own for.

        Args:
          ops: The operations.
        """
        del ops
        return ()

    def fixed_cost(self, ops: Sequence[OpCall]) -> float:
        """Return the cost of a network beside its operations.

        Args:
          ops: Operations of a network. All networks of one input and output have the same fixed
            cost.

        Returns:
          The cost, in `unit`.
        """
        del ops
        return 0.0

    def cost(self, ops: Sequence[OpCall]) -> float:
        """Return the cost of a network.

        Args:
          ops: Operations of the network in the order in which they run.

        Returns:
          The cost, in `unit`.
        """
        return float(self.total(self.features(ops).sum(0))) + self.fixed_cost(ops)

    def total(self, sums: Any) -> Any:
        """Return the cost of networks from their summed features, without the fixed cost.

        Args:
          sums: [..., features] of numpy or JAX.

        Returns:
          [...], in `unit`.
        """
        return functools.reduce(
            sums.__array_namespace__().maximum, (term(sums) for term in self.terms)
        )

    def estimate(self, ops: Sequence[OpCall], level: float = 0.9) -> Estimate:
        """Estimate the cost of a network.

        Args:
          ops: Operations of the network in the order in which they run.
          level: Probability of the interval.

        Returns:
          The estimate, with an interval if the device is calibrated.
        """
        value = self.cost(ops)
        low, high = self.calibration.interval(value, level) if self.calibration else (None, None)
        return Estimate(
            value,
            low,
            high,
            level,
            self.unit,
            self.op_costs(ops),
            self.description,
            self.missing(ops),
        )
