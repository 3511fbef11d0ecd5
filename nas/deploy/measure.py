"""How long a TFLite model takes here: LiteRT with XNNPACK, after the paper's protocol."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from nas.deploy import litert
from nas.deploy.export import Dtype
from nas.deploy.operation import operation_tflite
from nas.deploy.runtime import Timing
from search_spaces import OpCall, Shape


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How often a model runs.

    Attributes:
      name: of the protocol.
      runs: whose mean is taken.
      repeats: of that; the result is the median of their means.
      seconds: after which a repeat ends with the runs that it has.
      warmup_runs, warmup_seconds: before the first repeat, whichever ends sooner; at least one run.
      clock: "wall", or "cpu": the time that the one thread really ran, for a machine that others use too.
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
            raise ValueError(f"protocol {self.name}: got {got}; expected at least 1, at least 1, more than 0")

    def __str__(self) -> str:
        limit = "" if self.seconds == float("inf") else f" or {self.seconds:g} s"
        clock = ", CPU time" if self.clock == "cpu" else ""
        return f"{self.name}: median of {self.repeats} means of {self.runs:,} runs{limit}{clock}"


STANDARD = Protocol("standard", runs=1000, repeats=5)
"""Source: paper section 6, benchmark methodology: mean of 1,000 runs, five times, median of the means."""

QUICK = Protocol("quick", runs=1000, repeats=3, seconds=0.2, warmup_runs=10, warmup_seconds=0.1)
"""Ours: a second for a model, for a first look."""


@dataclasses.dataclass(frozen=True)
class Here:
    """This machine, as a `runtime.Runtime`: LiteRT with XNNPACK; see `measure`."""

    dtype: Dtype = "int8"
    protocol: Protocol = STANDARD
    threads: int = 1
    core: int | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "processor": processor(),
            "runtime": litert.runtime(),
            "threads": self.threads,
            "dtype": self.dtype,
            "protocol": str(self.protocol),
        }

    @property
    def about(self) -> Mapping[str, Any]:
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
        """See `measure`."""
        return measure(tflite, self.protocol, self.threads, self.core)


def processor() -> str:
    """Name of this machine's processor, as the system gives it."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def measure(tflite: bytes, protocol: Protocol = STANDARD, threads: int = 1, core: int | None = None) -> Timing:
    """Time of one run, with what it costs to call LiteRT from Python at all (see `call_overhead`).

    Args:
      tflite: the model; its inputs are random.
      protocol: `STANDARD`, `QUICK` or one of your own.
      threads: of the runtime.
      core: first of the `threads` cores that the process is pinned to while it measures; by default the last ones
        that it may use. Where the system cannot pin (macOS), it does not.

    Raises:
      ValueError: if there are not that many cores, the clock does not know threads, or the model cannot be run.
    """
    if protocol.clock == "cpu" and threads != 1:
        raise ValueError(f"protocol {protocol.name}: the clock 'cpu' is that of one thread, but threads={threads}")
    with _pinned(threads, core):
        model = litert.interpreter(tflite, threads)
        _fill(model)
        try:
            return _time(model, protocol)
        except RuntimeError as error:
            raise ValueError(f"LiteRT cannot run the model: {' '.join(str(error).split())}") from None


def call_overhead(dtype: Dtype, protocol: Protocol = STANDARD, threads: int = 1, core: int | None = None) -> Timing:
    """Time of a model that does nothing: the sum of two single values.

    It is what `measure` adds to each model, however small: Python, LiteRT's and XNNPACK's calls, the clock. A table of
    operations leaves it out of its rows and says it once, as `call_ms`: a network pays it once, not once an operation.
    """
    return measure(operation_tflite(OpCall("add", Shape(1, 1, 1), 1), dtype), protocol, threads, core)


_CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}


def _time(model: Any, protocol: Protocol) -> Timing:
    clock, invoke = _CLOCKS[protocol.clock], model.invoke
    stop = time.monotonic() + protocol.warmup_seconds
    for _ in range(max(protocol.warmup_runs, 1)):
        invoke()
        if time.monotonic() >= stop:
            break
    repeats: list[list[int]] = []
    with _no_garbage_collection():
        for _ in range(protocol.repeats):
            runs: list[int] = []
            end = time.monotonic() + protocol.seconds
            while len(runs) < protocol.runs and (not runs or time.monotonic() < end):
                begun = clock()
                invoke()
                runs.append(clock() - begun)
            repeats.append(runs)
    middle = sorted(repeats, key=statistics.fmean)[(len(repeats) - 1) // 2]
    ms = statistics.median(map(statistics.fmean, repeats)) / 1e6
    return Timing(ms, statistics.pstdev(middle) / 1e6, sum(map(len, repeats)))


def _fill(model: Any) -> None:
    rng = np.random.default_rng(0)
    for details in model.get_input_details():
        values = rng.normal(size=details["shape"])
        if details["dtype"] is np.int8:
            values = np.clip(40 * values, -128, 127)
        model.set_tensor(details["index"], values.astype(details["dtype"]))


@contextlib.contextmanager
def _pinned(threads: int, core: int | None) -> Iterator[None]:
    """Run on `threads` cores from `core` on; the cores of before are restored."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[-threads:] if core is None else [c for c in allowed if c >= core][:threads]
    if threads < 1 or len(chosen) < threads or core not in (None, chosen[0]):
        raise ValueError(f"measure: got threads={threads}, core={core}, but this process may use cores {allowed}")
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
