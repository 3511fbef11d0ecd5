"""Timing after the protocol, and a process that is restored afterwards."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import itertools
import os
from collections.abc import Iterable

import pytest

from nas.exporters import litert
from nas.measurement import local, models
from nas.measurement.local import Protocol
from search_spaces import OpCall, Shape

needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
can_pin = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes"
)
TINY = Protocol("tiny", runs=3, repeats=2, warmup_runs=1)


class Model:
    """A model with given latencies in nanoseconds, on a clock of its own."""

    def __init__(self, times: Iterable[int]):
        self.now, self._times = 0, iter(times)

    def invoke(self) -> None:
        assert not gc.isenabled() or self.now == 0  # the warm-up may collect
        self.now += next(self._times)

    def get_input_details(self) -> list[dict[str, object]]:
        return []


def _measure(
    monkeypatch: pytest.MonkeyPatch, times: Iterable[int], protocol: Protocol
) -> local.Timing:
    model = Model(times)
    monkeypatch.setattr(litert, "interpreter", lambda tflite, threads: model)
    monkeypatch.setitem(local._CLOCKS, "wall", lambda: model.now)
    return local.measure(b"", protocol)


def test_median_of_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means 2, 6, 4 us: the median is 4 us, of runs 3, 4, 5 us, which deviate by sqrt(2/3) us."""
    times = [0, *(1000 * t for t in (1, 2, 3, 5, 6, 7, 3, 4, 5))]
    protocol = Protocol("p", runs=3, repeats=3, warmup_runs=1)
    timing = _measure(monkeypatch, times, protocol)
    assert (timing.ms, timing.std_ms) == pytest.approx(
        (4e-3, (2 / 3) ** 0.5 * 1e-3)
    ) and timing.count == 9


def test_a_repeat_ends_at_its_time_limit_but_has_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = Protocol("p", runs=1000, repeats=4, seconds=1e-9, warmup_runs=1)
    assert _measure(monkeypatch, itertools.chain([0], itertools.repeat(5)), protocol).count == 4


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (local.STANDARD, "standard: median of 5 means of 1,000 runs"),
        (local.QUICK, "quick: median of 3 means of 1,000 runs or 0.2 s"),
        (Protocol("mine", 10, 1, clock="cpu"), "mine: median of 1 means of 10 runs, CPU time"),
    ],
)
def test_protocols_describe_themselves(protocol: Protocol, text: str) -> None:
    assert str(protocol) == text


def test_mistakes() -> None:
    with pytest.raises(
        ValueError, match="protocol p: got runs=0, repeats=1, seconds=inf; expected at least 1"
    ):
        Protocol("p", runs=0, repeats=1)
    with pytest.raises(
        ValueError, match="protocol tiny: the clock 'cpu' is that of one thread, but threads=2"
    ):
        local.measure(b"", dataclasses.replace(TINY, clock="cpu"), threads=2)


@can_pin
@pytest.mark.parametrize(("threads", "core"), [(0, None), (4096, None), (1, 4096)])
def test_cores_that_do_not_exist(threads: int, core: int | None) -> None:
    with pytest.raises(
        ValueError, match=f"measure: got threads={threads}, core={core}, but this process may use"
    ):
        local.measure(b"", TINY, threads, core)


@can_pin
def test_cores_and_collection_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the model fails; during the measurement the process has the requested core only."""
    before, seen = os.sched_getaffinity(0), set()

    class Failing(Model):
        def invoke(self) -> None:
            seen.add(frozenset(os.sched_getaffinity(0)))
            super().invoke()
            if self.now > 2:
                raise RuntimeError("a node\nfailed")

    monkeypatch.setattr(litert, "interpreter", lambda tflite, threads: Failing([0, 1, 1, 1]))
    with pytest.raises(ValueError, match="LiteRT cannot run the model: a node failed"):
        local.measure(b"", TINY, core=min(before))
    assert (
        seen == {frozenset({min(before)})} and os.sched_getaffinity(0) == before and gc.isenabled()
    )


@needs_litert
@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_a_larger_operation_takes_longer_than_nothing(clock: str) -> None:
    protocol = Protocol("short", runs=20, repeats=3, clock="cpu" if clock == "cpu" else "wall")
    convolution = models.operation_model(OpCall("conv2d", Shape(28, 28, 64), 64, 3), "float32")
    nothing, much = local.call_overhead("float32", protocol), local.measure(convolution, protocol)
    assert 0 < nothing.ms < much.ms and nothing.count == much.count == 60
