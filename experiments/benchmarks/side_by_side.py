"""Times several things against each other: each in a process of its own, in turn, so that all see the same machine.

    maker(**arguments) -> call;  call() does the work once and returns when it is done

A process waits in between, so its threads do not disturb the others. The ratio of two sides is the median over rounds
of the ratio within a round: what slows the machine for a while slows both.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

RESULTS = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes:
      name: in the results.
      maker: "package.module:function".
      arguments: of the maker; JSON.
      python: interpreter, where another library lives in an environment of its own.
    """

    name: str
    maker: str
    arguments: dict[str, Any]
    python: str = sys.executable


@dataclasses.dataclass(frozen=True)
class Timings:
    """What was found of one side.

    Attributes:
      first_seconds: to make it and call it once: compilation.
      seconds: [rounds] mean time of a call in each round.
      peak_mib: largest resident memory of the process.
    """

    first_seconds: float
    seconds: tuple[float, ...]
    peak_mib: float

    @property
    def median(self) -> float:
        """Median over the rounds, seconds."""
        return statistics.median(self.seconds)

    def ratio(self, other: Timings) -> dict[str, str]:
        """Columns of this side's time / the other's: median, lowest, highest over the rounds."""
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        found = {"ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
        return {name: f"{ratio:.3f}" for name, ratio in found.items()}

    def row(self, other: Timings) -> dict[str, str]:
        """Columns of this side: milliseconds, and its time / the other's."""
        return {"ms": f"{self.median * 1e3:.1f}", **self.ratio(other)}


def parser(description: str | None, cases: int) -> argparse.ArgumentParser:
    """Options of a benchmark against PyTorch: `torch_python`, `rounds`, and `cases`, numbers below that many."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch")
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--cases", type=int, nargs="*", default=range(cases), help="numbers, from 0")
    return made


def compare(sides: Sequence[Side], *, rounds: int = 7, seconds: float = 2.0, cores: int = 2) -> dict[str, Timings]:
    """Time all sides in turn.

    Args:
      sides: of different names.
      rounds: how often every side has its turn.
      seconds: length of a turn; at least one call is made.
      cores: that each process is pinned to, the same for all.

    Raises:
      RuntimeError: with what it printed, if a side fails.
    """
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    if len(chosen) < cores:
        raise RuntimeError(f"cores: got {cores}, but this process may use {len(chosen)}")
    processes: dict[str, subprocess.Popen[str]] = {}
    first, times, peak = {}, {side.name: [] for side in sides}, {}
    try:
        for side in sides:  # one after the other: compilation is timed, too
            task = json.dumps({"maker": side.maker, "arguments": side.arguments, "cores": chosen})
            processes[side.name] = subprocess.Popen(
                [side.python, "-m", __spec__.name, task],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(cores)},
                cwd=pathlib.Path(__file__).parents[2],
            )
            first[side.name] = _ask(processes[side.name], "", side.name)["seconds"]
        for _ in range(rounds):
            for side in sides:
                answer = _ask(processes[side.name], f"{seconds}\n", side.name)
                times[side.name].append(answer["seconds"])
                peak[side.name] = answer["peak_mib"]
    finally:
        for process in processes.values():
            process.communicate("")
    return {side.name: Timings(first[side.name], tuple(times[side.name]), peak[side.name]) for side in sides}


def write(
    name: str, rows: Sequence[dict[str, Any]], *, dtype: str, versions: dict[str, str], cores: int = 2
) -> pathlib.Path:
    """Write rows as CSV, in a file whose name says processor, cores, dtype and versions; returns its path."""
    from nas.deploy.measure import processor

    parts = (name, processor(), f"{cores}cores", dtype, *(f"{key}{value}" for key, value in sorted(versions.items())))
    slug = "_".join("".join(c if c.isalnum() or c in ".+" else "-" for c in part).strip("-") for part in parts).lower()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{slug}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def show(row: dict[str, Any]) -> None:
    """Print a row as soon as it is known."""
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def versions(torch_python: str | None = None) -> dict[str, str]:
    """Of Python and JAX here, and of PyTorch where that interpreter runs, if there is one."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "jax": importlib.metadata.version("jax")}
    if torch_python is None:
        return found
    asked = [torch_python, "-c", "import torch; print(torch.__version__)"]
    return {**found, "torch": subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()}


def _ask(process: subprocess.Popen[str], line: str, name: str) -> dict[str, float]:
    assert process.stdin and process.stdout
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    except (BrokenPipeError, json.JSONDecodeError):
        raise RuntimeError(f"{name}: the process ended; see above what it said") from None


def _serve(task: dict[str, Any]) -> None:
    """The process of one side: answers every line (seconds to work) with a line of JSON."""
    import resource

    os.sched_setaffinity(0, task["cores"])
    begun = time.perf_counter()
    module, _, function = task["maker"].partition(":")
    call = getattr(importlib.import_module(module), function)(**task["arguments"])
    call()
    print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)
    for line in sys.stdin:
        calls, begun = 0, time.perf_counter()
        while not calls or time.perf_counter() - begun < float(line):
            call()
            calls += 1
        seconds = (time.perf_counter() - begun) / calls
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
