"""Arm Ethos-U: what its compiler Vela estimates, as a source of latency tables (extra `vela`). Nothing is measured."""

from __future__ import annotations

import csv
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

from latency_tables.importers.base import positive
from nas.deploy.export import Dtype
from nas.deploy.runtime import Timing

ACCELERATORS = {
    "ethos-u55": (32, 64, 128, 256),
    "ethos-u65": (256, 512),
    "ethos-u85": (128, 256, 512, 1024, 2048),
}
"""MACs a cycle that each NPU is built with. Source: `vela --help` of 5.2.0."""
SYSTEMS = {
    "ethos-u55": "Ethos_U55_High_End_Embedded",
    "ethos-u65": "Ethos_U65_Client_Server",
    "ethos-u85": "Ethos_U85_SYS_DRAM_Mid",
}
"""The system configuration that Vela takes for each NPU if it is told none. Source: what 5.2.0 prints."""
_NAMES = tuple(f"{npu}-{macs}" for npu, sizes in ACCELERATORS.items() for macs in sizes)


@dataclasses.dataclass(frozen=True)
class Vela:
    """Vela's own estimate: t = cycles_total / clock, with the system configuration of `SYSTEMS`.

    Vela is called as a command, one process a model (half a second): its Python modules are not meant to be called.

    Args:
      accelerator: e.g. "ethos-u55-256", 256 MACs a cycle.
      memory_mode: a section of Vela's `Arm/vela.ini`. With "Shared_Sram" estimates of single operations add up to
        1.04-1.20 times that of their network, and rank networks alike. With a "Dedicated_Sram", which Vela itself takes
        for U65 and U85, they do not: an operation alone reads and writes its tensors in DRAM, and in a network they
        stay on the chip (2.3-4.0 times, Kendall's tau 0.33 for four networks). Then only whole networks make sense.

    Raises:
      ValueError: for an accelerator that Vela does not know, or if Vela is not installed.

    Source: estimates of ethos-u-vela. By its own word they are estimates: no bus contention, no start of the NPU.
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
        """Whether estimates of single operations make one of their network; see `memory_mode`."""
        return not self.memory_mode.startswith("Dedicated")

    @property
    def settings(self) -> Mapping[str, Any]:
        npu, _, macs = self.accelerator.rpartition("-")
        summary = self._of_nothing
        clock = f"{positive(summary['core_clock'], 'Vela', 'core_clock', 'hertz') / 1e6:g} MHz"
        return {
            "processor": f"Arm {npu.title()} with {macs} MACs a cycle at {clock}",
            "runtime": f"ethos-u-vela {_version()}",
            "threads": 1,
            "dtype": self.dtype,
            "protocol": f"cycles_total / clock, {summary['system_config']}, {summary['memory_mode']}",
        }

    @property
    def about(self) -> Mapping[str, Any]:
        return {
            "name": f"{self.accelerator}-int8",
            "device": f"Arm {self.accelerator}, estimated",
            "delegate": "Ethos-U",
            "how": "predicted",
            "source": "estimated by Vela's performance model",
            "licence": "Apache-2.0",
        }

    def call_ms(self) -> float:
        """0: Vela knows no cost of a call."""
        return 0.0

    def time(self, tflite: bytes) -> Timing:
        """Vela's estimate of one run of a model.

        Raises:
          ValueError: if a part of the model stays on the CPU, which Vela does not time, or Vela refuses the model.
        """
        return Timing(
            positive(self._summary(tflite)["inference_time"], "Vela", "inference_time", "seconds") * 1e3, 0, 1
        )

    @functools.cached_property
    def _of_nothing(self) -> dict[str, str]:
        """The summary of the smallest model, for the configuration that it states."""
        from nas.deploy.operation import operation_tflite
        from search_spaces import OpCall, Shape

        return self._summary(operation_tflite(OpCall("add", Shape(1, 1, 8), 8), self.dtype))

    def _summary(self, tflite: bytes) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "model.tflite"
            model.write_bytes(tflite)
            command = [sys.executable, "-m", "ethosu.vela", "--accelerator-config", self.accelerator]
            command += ["--config", "Arm/vela.ini", "--system-config", SYSTEMS[self.accelerator.rpartition("-")[0]]]
            command += ["--memory-mode", self.memory_mode, "--output-dir", folder, str(model)]
            done = subprocess.run(command, capture_output=True, text=True)
            said = done.stdout + done.stderr
            if done.returncode:
                raise ValueError(f"Vela refuses the model: {(said.strip().splitlines() or ['no message'])[-1]}")
            if on_cpu := left_on_cpu(said):
                raise ValueError(f"Vela leaves {', '.join(on_cpu)} on the CPU, which it does not time; leave it out")
            (path,) = pathlib.Path(folder).glob("*_summary_*.csv")
            return read_summary(path.read_text(encoding="utf-8"))


def left_on_cpu(said: str) -> list[str]:
    """The operators that stay on the CPU, by what Vela prints. Raises ValueError if it does not say how many do."""
    count = re.search(r"^CPU operators = (\d+) ", said, re.MULTILINE)
    if not count:
        raise ValueError("Vela does not say which operators stay on the CPU; is it another version?")
    named = re.findall(r"^Warning \(supported operators\) operator: (\w+)", said, re.MULTILINE)
    return list(dict.fromkeys(named)) or [f"{count[1]} operators"] if int(count[1]) else []


def read_summary(text: str) -> dict[str, str]:
    """The one row of Vela's summary CSV, {column: text}. Raises ValueError if a column that is used is not there."""
    rows = list(csv.DictReader(text.splitlines()))
    used = {"system_config", "memory_mode", "core_clock", "inference_time"}
    if len(rows) != 1 or used - set(rows[0]):
        raise ValueError(f"Vela's summary: expected one row with {', '.join(sorted(used))}; is it another version?")
    return rows[0]


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("ethos-u-vela")
