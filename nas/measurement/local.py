"""Latency of a TFLite model on this machine: LiteRT with XNNPACK, after the paper's protocol."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nas.exporters import litert
from nas.exporters.tflite import Dtype
from nas.host.processor import processor
from nas.measurement.models import operation_model
from nas.measurement.runtime import Timing
from search_spaces import OpCall, Shape


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Number of runs of a measurement, and their time limits.

    The result is the median over the repeats of the mean over their runs.

    Attributes:
      name: Name of the protocol.
      runs: Number of runs in a repeat.
      repeats: Number of repeats.
      seconds: Time after which a repeat ends early, with the runs that it has.
      warmup_runs: Maximum number of runs before the first repeat; at least one is made.
      warmup_seconds: Time after which the warm-up ends early.
      clock: "wall", or "cpu" for the time that the one thread really ran, on a machine with other
        load.
    """

    name: str
    runs: int
    repeats: int
    seconds: float = float("inf")
    warmup_runs: int = 50
    warmup_seconds: float = 1.0
    clock: Literal["wall", "cpu"] = "wall"

    def __post_init__(self) -> None:
        if self.runs < 1 or self.repeats < 1 or self.seconds <= 0:
            got = f"runs={self.runs}, repeats={self.repeats}, seconds={self.seconds}"
            raise ValueError(
                f"protocol {self.name}: got {got}; expected at least 1, at least 1, more than 0"
            )

    def __str__(self) -> str:
        limit = "" if self.seconds == float("inf") else f" or {self.seconds:g} s"
        clock = ", CPU time" if self.clock == "cpu" else ""
        return f"{self.name}: median of {self.repeats} means of {self.runs:,} runs{limit}{clock}"


STANDARD = Protocol("standard", runs=1000, repeats=5)
"""The paper's protocol: mean of 1,000 runs, five times, median of the means.

Source: paper section 6, benchmark methodology.
"""

QUICK = Protocol("quick", runs=1000, repeats=3, seconds=0.2, warmup_runs=10, warmup_seconds=0.1)
"""A second for each model, for a first impression. Source: ours."""


@dataclasses.dataclass(frozen=True)
class LocalRuntime:
    """This machine as a `runtime.Runtime`: LiteRT with XNNPACK; see `measure`.

    Attributes:
      dtype: Type of the models.
      protocol: Number of runs, and their time limits.
      threads: Number of threads of LiteRT.
      core: First of the cores to pin to; None for the last ones.
    """

    dtype: Dtype = "int8"
    protocol: Protocol = STANDARD
    threads: int = 1
    core: int | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `runtime.Runtime`."""
        return {
            "processor": processor(),
            "runtime": litert.runtime(),
            "threads": self.threads,
            "dtype": self.dtype,
            "protocol": str(self.protocol),
        }

    @property
    def manifest_fields(self) -> Mapping[str, Any]:
        """See `runtime.Runtime`."""
        pinned = "pinned, " if hasattr(os, "sched_setaffinity") else ""
        slug = "".join(c if c.isalnum() else "-" for c in processor()).strip("-").lower()
        return {
            "name": f"{slug or 'cpu'}-{self.dtype}",
            "device": f"{platform.system()} {platform.machine()}",
            "delegate": "XNNPACK",
            "how": "measured",
            "protocol": f"{self.protocol}; {pinned}random weights and inputs, batch 1",
            "source": "measured with nas-latency measure",
            "licence": "Apache-2.0",
        }

    def call_ms(self) -> float:
        """See `call_overhead`."""
        return call_overhead(self.dtype, self.protocol, self.threads, self.core).ms

    def time(self, tflite: bytes) -> Timing:
        """See `measure`.

        Args:
          tflite: The model.

        Returns:
          Its latency.
        """
        return measure(tflite, self.protocol, self.threads, self.core)


def measure(
    tflite: bytes, protocol: Protocol = STANDARD, threads: int = 1, core: int | None = None
) -> Timing:
    """Measure the latency of a model, including the cost of a call (see `call_overhead`).

    Args:
      tflite: The model; its inputs are random.
      protocol: `STANDARD`, `QUICK` or a protocol of your own.
      threads: Number of threads of LiteRT.
      core: First of the `threads` cores that the process is pinned to during the measurement. None:
        the last cores that it may use. Systems that cannot pin (macOS) do not.

    Returns:
      Latency of one run.

    Raises:
      ValueError: There are too few cores, the clock "cpu" is used with several threads, or the
        model cannot be run.
    """
    if protocol.clock == "cpu" and threads != 1:
        raise ValueError(
            f"protocol {protocol.name}: the clock 'cpu' is that of one thread, "
            f"but threads={threads}"
        )
    with pinned(threads, core):
        model = litert.interpreter(tflite, threads)
        fill(model)
        try:
            warm_up(model, protocol)
            return summary([repeat(model, protocol) for _ in range(protocol.repeats)])
        except RuntimeError as error:
            raise ValueError(
                f"LiteRT cannot run the model: {' '.join(str(error).split())}"
            ) from None


def call_overhead(
    dtype: Dtype, protocol: Protocol = STANDARD, threads: int = 1, core: int | None = None
) -> Timing:
    """Measure the latency of an almost empty model: the sum of two single values.

    `measure` includes this time for each model, however small: calls of Python, LiteRT and XNNPACK,
    and the clock. A table of operations subtracts it from its rows and states it once, as
    `call_ms`: a network pays it once, not once per operation.

    Args:
      dtype: Type of the model.
      protocol: See `measure`.
      threads: See `measure`.
      core: See `measure`.

    Returns:
      Latency of one run.
    """
    return measure(
        operation_model(OpCall("add", Shape(1, 1, 1), 1), dtype), protocol, threads, core
    )


_CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}


def warm_up(model: Any, protocol: Protocol) -> None:
    """Run a model until its times are steady.

    Args:
      model: LiteRT interpreter with inputs.
      protocol: Its number of runs, and their time limit.
    """
    stop = time.monotonic() + protocol.warmup_seconds
    for _ in range(max(protocol.warmup_runs, 1)):
        model.invoke()
        if time.monotonic() >= stop:
            break


def repeat(model: Any, protocol: Protocol) -> Timing:
    """Time one repeat of a protocol.

    Args:
      model: LiteRT interpreter with inputs, after `warm_up`.
      protocol: Number of runs, time limit and clock.

    Returns:
      Mean and standard deviation of the runs, and their number.
    """
    clock, invoke = _CLOCKS[protocol.clock], model.invoke
    runs: list[int] = []
    end = time.monotonic() + protocol.seconds
    with _no_garbage_collection():
        while len(runs) < protocol.runs and (not runs or time.monotonic() < end):
            start = clock()
            invoke()
            runs.append(clock() - start)
    return Timing(statistics.fmean(runs) / 1e6, statistics.pstdev(runs) / 1e6, len(runs))


def summary(repeats: Sequence[Timing]) -> Timing:
    """Combine the repeats of a protocol.

    Args:
      repeats: Results of `repeat`.

    Returns:
      Median of the means, deviation of the repeat with that mean, and number of all runs.
    """
    middle = sorted(repeats, key=lambda one: one.ms)[(len(repeats) - 1) // 2]
    ms = statistics.median(one.ms for one in repeats)
    return Timing(ms, middle.std_ms, sum(one.count for one in repeats))


def fill(model: Any) -> None:
    """Give a model random inputs: floats near 0, integers of 8 bits in all their range, others 0.

    Larger integers may be positions in a table, where only 0 is sure to exist.

    Args:
      model: LiteRT interpreter with allocated tensors.

    Raises:
      ValueError: An input is neither a number nor a truth value.
    """
    rng = np.random.default_rng(0)
    for details in model.get_input_details():
        shape, dtype = details["shape"], np.dtype(details["dtype"])
        if dtype.kind not in "fiubc":
            name = details["name"]
            raise ValueError(f"its input {name!r} is of type {dtype}; only numbers can be random")
        values = np.zeros(shape)
        if dtype.kind in "fc":
            values = rng.normal(size=shape)
        elif dtype == np.int8:
            values = np.clip(40 * rng.normal(size=shape), -128, 127)
        elif dtype == np.uint8:
            values = np.clip(128 + 40 * rng.normal(size=shape), 0, 255)
        model.set_tensor(details["index"], values.astype(dtype))


@contextlib.contextmanager
def pinned(threads: int, core: int | None) -> Iterator[None]:
    """Context in which the process has `threads` cores only.

    Args:
      threads: Number of cores.
      core: First of them; None: the last ones that the process may use.

    Raises:
      ValueError: There are too few cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[-threads:] if core is None else [c for c in allowed if c >= core][:threads]
    if threads < 1 or len(chosen) < threads or core not in (None, chosen[0]):
        raise ValueError(
            f"measure: got threads={threads}, core={core}, but this process may use cores {allowed}"
        )
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
