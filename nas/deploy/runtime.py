"""What says how long a TFLite model takes. To add one: a class with these members, as `measure.Here`, `vela.Vela`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from nas.deploy.export import Dtype


@dataclasses.dataclass(frozen=True)
class Timing:
    """Time of one run of a model.

    Attributes:
      ms: median over the repeats of their mean.
      std_ms: standard deviation of the runs of the repeat with that mean.
      count: runs of all repeats; 1 for an estimate.
    """

    ms: float
    std_ms: float
    count: int


class Runtime(Protocol):
    """Measures, or predicts, one model at a time.

    Attributes:
      dtype: of the models that it takes.
      settings: fields of a table's manifest that must be the same for all of its rows: processor, runtime, threads,
        dtype, protocol.
      about: the manifest's other fields, as far as they are known.
    """

    @property
    def dtype(self) -> Dtype: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def about(self) -> Mapping[str, Any]: ...

    def call_ms(self) -> float:
        """What every model takes, however small."""
        ...

    def time(self, tflite: bytes) -> Timing:
        """How long a model takes. Raises ValueError, with the cause, for one that cannot be run."""
        ...
