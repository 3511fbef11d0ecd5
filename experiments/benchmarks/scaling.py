"""Question: how does the cost of a search step scale?

    python -m experiments.benchmarks.scaling [--axes NAME ...]

The axes are options, blocks, resolution, batch and replicas. Along each axis, one number of the
quickstart's step is changed, and the step is compared to the first one of the axis. Two cores,
alternating processes. Answer: `results/scaling*.csv`, the plot beside it, and
experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any

import numpy as np

from experiments.benchmarks import side_by_side
from experiments.benchmarks.searches import Case
from experiments.benchmarks.side_by_side import Side
from nas.report import plots

_COARSE, _FINE = Case(), Case(stage="fine")
AXES: dict[str, tuple[Case, str, tuple[Any, ...]]] = {
    "filter options": (
        _COARSE,
        "multipliers",
        ((1.0,), (0.75, 1.0), (0.5, 0.75, 1.0), (0.5, 0.625, 0.75, 0.875, 1.0)),
    ),
    "kernel options": (_FINE, "kernels", ((3, 5), (0, 3, 5))),
    "copies of blocks": (_COARSE, "copies", (1, 2, 3)),
    "resolution": (_COARSE, "resolution", (32, 48, 64)),
    "batch": (_COARSE, "batch", (16, 32, 64, 128)),
    "replicas": (_COARSE, "replicas", (1, 2, 4)),
}
"""{axis: (case that is changed, field, values)}.

The widest option is always there, so the largest network stays the same.
"""


def main() -> None:
    """Measure the axes, print their rows, and write the CSV file and its plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--axes", nargs="*", choices=AXES, default=list(AXES), help="default: all")
    options = parser.parse_args()
    rows = []
    for axis in options.axes:
        case, field, values = AXES[axis]
        sides = [
            Side(
                _text(value),
                "experiments.benchmarks.searches:search_step",
                _changed(case, field, value),
            )
            for value in values
        ]
        measured = side_by_side.compare(sides, rounds=options.rounds, seconds=1.0)
        for side, timings in measured.items():
            row = timings.row(measured[sides[0].name])
            rows.append(
                {"axis": axis, "value": side, **row, "first_s": f"{timings.first_seconds:.1f}"}
            )
            side_by_side.show(rows[-1])
    versions = side_by_side.versions()
    path = side_by_side.write("scaling", rows, dtype="float32", versions=versions)
    print(f"written: {path}, {_plot(rows, path.with_suffix('.svg'))}")


def _changed(case: Case, field: str, value: Any) -> dict[str, Any]:
    return dataclasses.replace(case, **{field: value}).arguments


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plot(rows: list[dict[str, str]], path: pathlib.Path) -> pathlib.Path:
    """Plot one panel per axis: the ratio to its first value, with the range over the rounds."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    lines = -(-len(axes) // 3)
    figure, grid = plots.panels(3.0 * lines, rows=lines, columns=min(len(axes), 3), width=12)
    panels = np.ravel(grid)
    for panel, axis in zip(panels, axes, strict=False):
        of = [row for row in rows if row["axis"] == axis]
        middle, low, high = (
            [float(row[key]) for row in of] for key in ("ratio", "lowest", "highest")
        )
        bars = [
            [m - a for m, a in zip(middle, low, strict=True)],
            [b - m for m, b in zip(middle, high, strict=True)],
        ]
        options = "options" in axis
        names = [f"{len(row['value'].split())}" if options else row["value"] for row in of]
        panel.errorbar(names, middle, yerr=bars, marker="o", capsize=3)
        panel.set(xlabel=axis, ylabel="time of a step, of the first", ylim=(0, None))
    for panel in panels[len(axes) :]:
        panel.remove()
    plots.save(figure, path)
    return path


if __name__ == "__main__":
    main()
