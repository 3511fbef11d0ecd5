"""Comparison of running times: each side in a process of its own, alternating on the same machine.

    maker(**arguments) -> call;  call() does the work once and returns when it is done

The processes wait in between, so their threads do not disturb the others. The ratio of two sides is
the median over rounds of the ratio within a round: a temporary slowdown of the machine affects
both.
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
    """One side of a comparison.

    Attributes:
      name: Name in the results.
      maker: Function that makes the call, "package.module:function".
      arguments: Arguments of the maker, for JSON.
      python: Interpreter, for a library in another environment.
    """

    name: str
    maker: str
    arguments: dict[str, Any]
    python: str = sys.executable


@dataclasses.dataclass(frozen=True)
class Timings:
    """Running times of one side.

    Attributes:
      first_seconds: Time to make the call and call it once, including compilation.
      seconds: [rounds] mean time of a call in each round.
      peak_mib: Largest resident memory of the process, MiB.
    """

    first_seconds: float
    seconds: tuple[float, ...]
    peak_mib: float

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)

    def ratio(self, other: Timings) -> dict[str, str]:
        """Columns of the ratio to another side: median, lowest and highest over the rounds.

        Args:
          other: Timings of the other side.

        Returns:
          {column: text}.
        """
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        columns = {
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
        return {name: f"{ratio:.3f}" for name, ratio in columns.items()}

    def row(self, other: Timings) -> dict[str, str]:
        """Columns of this side: milliseconds, and the ratio to another side.

        Args:
          other: Timings of the other side.

        Returns:
          {column: text}.
        """
        return {"ms": f"{self.median * 1e3:.1f}", **self.ratio(other)}


def parser(description: str | None, cases: int) -> argparse.ArgumentParser:
    """Parser of the options of a comparison with PyTorch: `torch_python`, `rounds` and `cases`.

    Args:
      description: Description for the help.
      cases: Number of cases.

    Returns:
      The parser.
    """
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument(
        "--cases", type=int, nargs="*", default=range(cases), help="indices, from 0"
    )
    return options


def compare(
    sides: Sequence[Side], *, rounds: int = 7, seconds: float = 2.0, cores: int = 2
) -> dict[str, Timings]:
    """Time all sides alternately.

    Args:
      sides: Sides with different names.
      rounds: Number of turns of each side.
      seconds: Length of a turn; at least one call is made.
      cores: Number of cores that each process is pinned to, the same cores for all.

    Returns:
      {side: timings}.

    Raises:
      RuntimeError: There are too few cores, or a side fails.
    """
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    if len(chosen) < cores:
        raise RuntimeError(f"cores: got {cores}, but this process may use {len(chosen)}")
    processes: dict[str, subprocess.Popen[str]] = {}
    first, times, peak = {}, {side.name: [] for side in sides}, {}
    try:
        # One after the other, because compilation is timed, too.
        for side in sides:
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
    return {
        side.name: Timings(first[side.name], tuple(times[side.name]), peak[side.name])
        for side in sides
    }


def write(
    name: str,
    rows: Sequence[dict[str, Any]],
    *,
    dtype: str,
    versions: dict[str, str],
    cores: int = 2,
) -> pathlib.Path:
    """Write rows to a CSV file named after processor, cores, dtype and versions.

    Args:
      name: Name of the benchmark.
      rows: Rows with the same columns.
      dtype: Type of the computation.
      versions: From `versions`.
      cores: Number of cores.

    Returns:
      Path of the file.
    """
    from nas.measurement.local import processor

    parts = (
        name,
        processor(),
        f"{cores}cores",
        dtype,
        *(f"{key}{value}" for key, value in sorted(versions.items())),
    )
    slug = "_".join(
        "".join(c if c.isalnum() or c in ".+" else "-" for c in part).strip("-") for part in parts
    ).lower()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{slug}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def show(row: dict[str, Any]) -> None:
    """Print a row as soon as it is known.

    Args:
      row: The row.
    """
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def versions(torch_python: str | None = None) -> dict[str, str]:
    """Versions of Python, JAX and PyTorch.

    Args:
      torch_python: Interpreter with torch; None leaves PyTorch out.

    Returns:
      {name: version}.
    """
    known = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "jax": importlib.metadata.version("jax"),
    }
    if torch_python is None:
        return known
    command = [torch_python, "-c", "import torch; print(torch.__version__)"]
    return {
        **known,
        "torch": subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(),
    }


def _ask(process: subprocess.Popen[str], line: str, name: str) -> dict[str, float]:
    assert process.stdin and process.stdout
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    except (BrokenPipeError, json.JSONDecodeError):
        raise RuntimeError(f"{name}: the process ended; see its output above") from None


def _serve(task: dict[str, Any]) -> None:
    """Process of one side: answers every line (seconds to work) with a line of JSON."""
    import resource

    os.sched_setaffinity(0, task["cores"])
    start = time.perf_counter()
    module, _, function = task["maker"].partition(":")
    call = getattr(importlib.import_module(module), function)(**task["arguments"])
    call()
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        calls, start = 0, time.perf_counter()
        while not calls or time.perf_counter() - start < float(line):
            call()
            calls += 1
        seconds = (time.perf_counter() - start) / calls
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
