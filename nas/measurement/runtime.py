"""Protocol of runtimes, which measure or predict the latency of a TFLite model.

To add one: a class with the members of `Runtime`, such as `local.LocalRuntime` or `vela.Vela`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from nas.exporters.tflite import Dtype


@dataclasses.dataclass(frozen=True)
class Timing:
    """Latency of one run of a model.

    Attributes:
      ms: Median over the repeats of their mean, in milliseconds.
      std_ms: Standard deviation of the runs of the repeat with that mean, in milliseconds.
      count: Number of runs in all repeats; 1 for an estimate.
    """

    ms: float
    std_ms: float
    count: int


class Runtime(Protocol):
    """Measures or predicts the latency of one model at a time."""

    @property
    def dtype(self) -> Dtype:
        """Type of the models that it runs."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Fields of a table's manifest that must be the same for all its rows.

        These are processor, runtime, threads, dtype and protocol.
        """
        ...

    @property
    def manifest_fields(self) -> Mapping[str, Any]:
        """Other fields of the manifest, as far as they are known."""
        ...

    def call_ms(self) -> float:
        """Time in milliseconds that every model takes, however small it is."""
        ...

    def time(self, tflite: bytes) -> Timing:
        """Measure or predict the latency of a model.

        Args:
          tflite: The model.

        Returns:
          Its latency.

        Raises:
          ValueError: The model cannot be run; the message states the cause.
        """
        ...
