"""Arm Ethos-U: latency tables from the estimates of its compiler, Vela (extra `vela`)."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from latency_tables import csv_files
from latency_tables.csv_files import positive
from nas.exporters.tflite import Dtype
from nas.measurement.runtime import Timing

ACCELERATORS = {
    "ethos-u55": (32, 64, 128, 256),
    "ethos-u65": (256, 512),
    "ethos-u85": (128, 256, 512, 1024, 2048),
}
"""MACs per cycle with which each NPU is built. Source: `vela --help` of 5.2.0."""
SYSTEMS = {
    "ethos-u55": "Ethos_U55_High_End_Embedded",
    "ethos-u65": "Ethos_U65_Client_Server",
    "ethos-u85": "Ethos_U85_SYS_DRAM_Mid",
}
"""Vela's default system configuration of each NPU. Source: output of 5.2.0."""
_NAMES = tuple(f"{npu}-{macs}" for npu, sizes in ACCELERATORS.items() for macs in sizes)


@dataclasses.dataclass(frozen=True)
class Vela:
    """Vela's estimate of the latency of a model on an Ethos-U.

    t = cycles_total / clock

    The system configuration is that of `SYSTEMS`. Vela runs as a command, one process per model
    (half a second), because its Python modules are not a public interface.

    Args:
      accelerator: NPU and its MACs per cycle, e.g. "ethos-u55-256".
      memory_mode: Section of Vela's `Arm/vela.ini`. With "Shared_Sram", the estimates of single
        operations add up to 1.04-1.20 times that of their network, and rank networks in the same
        order. With "Dedicated_Sram", Vela's default for U65 and U85, they do not (2.3-4.0 times,
        Kendall's tau 0.33 for four networks): a single operation reads and writes its tensors in
        DRAM, while in a network they stay on the chip. Use that mode for whole networks only.

    Attributes:
      dtype: Type of the models; Ethos-U runs INT8.

    Raises:
      ValueError: Vela does not know the accelerator, or is not installed.

    Source: estimates of ethos-u-vela. According to Vela they include neither bus contention nor the
    start of the NPU.
    """

    accelerator: str = "ethos-u55-256"
    memory_mode: str = "Shared_Sram"
    dtype: Dtype = dataclasses.field(default="int8", init=False)

    def __post_init__(self) -> None:
        if self.accelerator not in _NAMES:
            raise ValueError(f"no Ethos-U called {self.accelerator!r}; known: {', '.join(_NAMES)}")
        if not importlib.util.find_spec("ethosu"):
            raise ValueError('Vela is not installed; install it: pip install "mnv4-nas[vela]"')

    @property
    def adds_up(self) -> bool:
        """Whether estimates of single operations add up to that of their network."""
        return not self.memory_mode.startswith("Dedicated")

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `runtime.Runtime`."""
        npu, _, macs = self.accelerator.rpartition("-")
        summary = self._smallest_summary
        clock = f"{positive(summary['core_clock'], 'Vela', 'core_clock', 'hertz') / 1e6:g} MHz"
        return {
            "processor": f"Arm {npu.title()} with {macs} MACs a cycle at {clock}",
            "runtime": f"ethos-u-vela {_version()}",
            "threads": 1,
            "dtype": self.dtype,
            "protocol": (
                f"cycles_total / clock, {summary['system_config']}, {summary['memory_mode']}"
            ),
        }

    @property
    def manifest_fields(self) -> Mapping[str, Any]:
        """See `runtime.Runtime`."""
        return {
            "name": f"{self.accelerator}-int8",
            "device": f"Arm {self.accelerator}, estimated",
            "delegate": "Ethos-U",
            "how": "predicted",
            "source": "estimated by Vela's performance model",
            "licence": "Apache-2.0",
        }

    def call_ms(self) -> float:
        """0: Vela's model has no cost of a call."""
        return 0.0

    def time(self, tflite: bytes) -> Timing:
        """Estimate the latency of a model.

        Args:
          tflite: The model.

        Returns:
          Vela's estimate of one run.

        Raises:
          ValueError: Vela rejects the model, or leaves operations on the CPU, whose time it does
            not estimate.
        """
        summary = self._summary(tflite)
        seconds = positive(summary["inference_time"], "Vela", "inference_time", "seconds")
        return Timing(seconds * 1e3, 0, 1)

    @functools.cached_property
    def _smallest_summary(self) -> dict[str, str]:
        """Summary of the smallest model, for the configuration that it contains."""
        from nas.measurement.models import operation_model
        from search_spaces import OpCall, Shape

        return self._summary(operation_model(OpCall("add", Shape(1, 1, 8), 8), self.dtype))

    def _summary(self, tflite: bytes) -> dict[str, str]:
        system = SYSTEMS[self.accelerator.rpartition("-")[0]]
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "model.tflite"
            model.write_bytes(tflite)
            command = [sys.executable, "-m", "ethosu.vela"]
            command += ["--accelerator-config", self.accelerator]
            command += ["--config", "Arm/vela.ini", "--system-config", system]
            command += ["--memory-mode", self.memory_mode, "--output-dir", folder, str(model)]
            process = subprocess.run(command, capture_output=True, text=True)
            output = process.stdout + process.stderr
            if process.returncode:
                last = (output.strip().splitlines() or ["no message"])[-1]
                raise ValueError(f"Vela rejects the model: {last}")
            if on_cpu := left_on_cpu(output):
                raise ValueError(
                    f"Vela leaves {', '.join(on_cpu)} on the CPU, whose time it does not estimate; "
                    "leave it out"
                )
            (path,) = pathlib.Path(folder).glob("*_summary_*.csv")
            return read_summary(path.read_text(encoding="utf-8"))


def left_on_cpu(output: str) -> list[str]:
    """Operators that stay on the CPU, from Vela's output.

    Args:
      output: Text that Vela printed.

    Returns:
      Names of the operators, or their number where there are no names.

    Raises:
      ValueError: The output does not contain the number of these operators.
    """
    count = re.search(r"^CPU operators = (\d+) ", output, re.MULTILINE)
    if not count:
        raise ValueError(
            "Vela's output does not state which operators stay on the CPU; is it another version?"
        )
    if not int(count[1]):
        return []
    warning = r"^Warning \(supported operators\) operator: (\w+)"
    names = re.findall(warning, output, re.MULTILINE)
    return list(dict.fromkeys(names)) or [f"{count[1]} operators"]


def read_summary(text: str) -> dict[str, str]:
    """Read the only row of Vela's summary.

    Args:
      text: CSV text.

    Returns:
      {column: text}.

    Raises:
      ValueError: There is not exactly one row, or a required column is missing.
    """
    required = ("core_clock", "inference_time", "memory_mode", "system_config")
    try:
        rows = csv_files.parse(text, "Vela's summary", required, others=True)
    except ValueError:
        rows = []
    if len(rows) != 1:
        raise ValueError(
            f"Vela's summary: expected one row with {', '.join(required)}; is it another version?"
        )
    return dict(rows[0].cells)


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("ethos-u-vela")
