"""Question: what does a search step cost, compared to training one network of its space?

    python -m experiments.benchmarks.supernet_step [--precision bfloat16]

A full step of the quickstart's coarse search, and of the fine search that starts from the middle of
its space: 2 replicas train on 32 images each and are scored on 32 held-out ones; rewards and policy
are included. It is compared to a training step on 64 images, of the space's largest and of its mean
network. Two cores, alternating processes. Answer: `results/supernet-step*.csv` and
experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse

from experiments.benchmarks import side_by_side
from experiments.benchmarks.searches import Case
from experiments.benchmarks.side_by_side import Side

_MAKERS = "experiments.benchmarks.searches"


def main() -> None:
    """Measure both stages, print their rows, and write the CSV file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    rows = []
    for stage in ("coarse", "fine"):
        case = Case(stage=stage, precision=options.precision).arguments
        sides = (
            Side("search", f"{_MAKERS}:search_step", case),
            *(
                Side(which, f"{_MAKERS}:plain_step", {"which": which, **case})
                for which in ("largest", "mean")
            ),
        )
        measured = side_by_side.compare(sides, rounds=options.rounds, seconds=1.5)
        for side, timings in measured.items():
            columns = {"stage": stage, "side": side, **timings.row(measured["largest"])}
            rows.append({**columns, "peak_mib": f"{timings.peak_mib:.0f}"})
            side_by_side.show(rows[-1])
    versions = side_by_side.versions()
    path = side_by_side.write("supernet-step", rows, dtype=options.precision, versions=versions)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
