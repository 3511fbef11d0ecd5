"""Question: what is the overhead of Ray, and what is the gain of two processes?

    python -m experiments.benchmarks.on_cluster [scaling] [overhead] [matrix]

scaling: images per second of a search of two replicas, in one process with one core, and in two
processes with one core each (`--ray local`). overhead: wall time of a search in one process with
all cores, and of the same search as a Ray actor. matrix: eight small searches, one after the other
with all cores each, and as `nas-search matrix` with one core each, in processes and as Ray tasks.
The sides alternate for some rounds, with a warm compilation cache, on two cores without other load.
Expected time: 8, 12 and 12 minutes. Answer: experiments/RESULTS.md; rows in
`results/on-cluster-*.csv`.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

from experiments.benchmarks import side_by_side
from nas.host import cores

_SEARCH = [sys.executable, "-m", "nas.cli.search"]
_RATE = re.compile(r"(\d+) img/s")
Run = Callable[[pathlib.Path], float]


def main() -> None:
    """Run the chosen questions, print their rows, and write the CSV files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "questions", nargs="*", metavar="QUESTION", help=f"{', '.join(_QUESTIONS)}; default: all"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if wrong := set(options.questions) - set(_QUESTIONS):
        parser.error(
            f"no question called {', '.join(sorted(wrong))}; known: {', '.join(_QUESTIONS)}"
        )
    for question in options.questions or _QUESTIONS:
        sides, unit = _QUESTIONS[question]
        _compare(f"on-cluster-{question}", sides, unit, options.rounds)


def _compare(name: str, sides: Mapping[str, Run], unit: str, rounds: int) -> None:
    """Run all sides alternately, a warm-up and some rounds; write their ratios to the first."""
    measured: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, run in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                value = run(pathlib.Path(folder))
            print(
                f"{name}, {f'round {number}' if number else 'warm-up'}, {side}: {value:.1f} {unit}",
                flush=True,
            )
            measured[side] += [value] if number else []
    first = measured[next(iter(sides))]
    rows = []
    for side, values in measured.items():
        ratios = [value / reference for value, reference in zip(values, first, strict=True)]
        middle = {
            unit: f"{statistics.median(values):.1f}",
            "ratio": f"{statistics.median(ratios):.3f}",
        }
        rows.append(
            {
                "side": side,
                **middle,
                "lowest": f"{min(ratios):.3f}",
                "highest": f"{max(ratios):.3f}",
            }
        )
        side_by_side.show(rows[-1])
    path = side_by_side.write(
        name, rows, dtype="float32", versions=side_by_side.versions(), cores=cores.count()
    )
    print(f"written: {path}")


def _rate(prefix: list[str], *options: str) -> Run:
    """Images per second over the last 200 steps of a coarse quickstart."""

    def run(folder: pathlib.Path) -> float:
        steps = ["--set", "search.steps.coarse=300", "--set", "search.checkpoint_every=1000"]
        output = _output(
            [
                *prefix,
                *_SEARCH,
                "--stage",
                "coarse",
                "--workdir",
                str(folder / "run"),
                *steps,
                *options,
            ]
        )
        return float(_RATE.findall(output)[-1])

    return run


def _wall(*options: str) -> Run:
    """Wall time in seconds of a coarse quickstart of some minutes."""

    def run(folder: pathlib.Path) -> float:
        start = time.monotonic()
        steps = ["--set", "search.steps.coarse=1500"]
        _output([*_SEARCH, "--stage", "coarse", "--workdir", str(folder / "run"), *steps, *options])
        return time.monotonic() - start

    return run


_SMALL = ["search.steps.coarse=150", "search.checkpoint_every=150", "derive.images=500"]


def _in_a_row(folder: pathlib.Path) -> float:
    start = time.monotonic()
    for seed in range(8):
        settings = [word for text in (*_SMALL, f"seed={seed}") for word in ("--set", text)]
        _output([*_SEARCH, "--stage", "coarse", "--workdir", str(folder / str(seed)), *settings])
    return time.monotonic() - start


def _matrix(*options: str) -> Run:
    def run(folder: pathlib.Path) -> float:
        variant = ", ".join(text.replace("=", ": ") for text in _SMALL)
        lines = ("schema: 1", "name: m", "stages: [coarse]", "seeds: [0, 1, 2, 3, 4, 5, 6, 7]")
        (folder / "m.yaml").write_text(
            "\n".join((*lines, f"variants: {{small: {{{variant}}}}}", ""))
        )
        start = time.monotonic()
        _output(
            [
                *_SEARCH,
                "matrix",
                str(folder / "m.yaml"),
                "--workdir",
                str(folder / "runs"),
                *options,
            ]
        )
        return time.monotonic() - start

    return run


def _output(command: list[str]) -> str:
    """Output of a command; ends this process if it fails."""
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        sys.exit(process.stdout + process.stderr)
    return process.stdout + process.stderr


_ONE_CORE = ["taskset", "-c", "0"] if shutil.which("taskset") else []
_QUESTIONS: dict[str, tuple[dict[str, Run], str]] = {
    "scaling": (
        {
            "1 process, 1 core": _rate(_ONE_CORE),
            "2 processes, 1 core each": _rate([], "--ray", "local", "--workers", "2"),
        },
        "images/s",
    ),
    "overhead": (
        {
            "without Ray": _wall(),
            "as an actor": _wall("--ray", "local", "--worker-cpus", str(cores.count())),
        },
        "s",
    ),
    "matrix": (
        {"in a row": _in_a_row, "processes": _matrix(), "Ray tasks": _matrix("--ray", "local")},
        "s",
    ),
}


if __name__ == "__main__":
    main()
