"""Question: how long does a training step of one network take, compared to PyTorch eager?

    python -m experiments.benchmarks.train_step [--torch-python PYTHON]

Sides: the project; without its C++ library, in JAX only; with XLA's depthwise convolution; and
PyTorch (channels_last). Two cores, alternating processes. Answer: `results/train-step*.csv` and
experiments/RESULTS.md.
"""

from __future__ import annotations

from experiments.benchmarks import side_by_side
from experiments.benchmarks.side_by_side import Side

CASES = (("mnv4-conv-s", 64, 64), ("mnv4-conv-s", 224, 32), ("mnv4-conv-m", 128, 32))
"""(network, resolution, batch size) of each case."""
_FORMS = ("shifted", "plain")
"""Functions of `nas.model.layers.depthwise`: in JAX only, and XLA's own."""


def main() -> None:
    """Measure all cases, print their rows, and write the CSV file."""
    parser = side_by_side.parser(__doc__, len(CASES))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--ours-only", action="store_true", help="leave out the other forms of the project"
    )
    options = parser.parse_args()
    rows = []
    for name, resolution, size in (CASES[case] for case in options.cases):
        common = {
            "network": name,
            "resolution": resolution,
            "size": size,
            "precision": options.precision,
        }
        ours, torch = (
            "experiments.benchmarks.ours:train_step",
            "experiments.benchmarks.torch_side:train_step",
        )
        sides = (
            Side("ours", ours, common),
            *(
                Side(form, ours, {"depthwise": form, **common})
                for form in (() if options.ours_only else _FORMS)
            ),
            Side("PyTorch", torch, common, python=options.torch_python),
        )
        measured = side_by_side.compare(sides, rounds=options.rounds)
        for side, timings in measured.items():
            rows.append(
                {
                    **{"network": name, "resolution": resolution, "images": size, "side": side},
                    **timings.row(measured["PyTorch"]),
                    **{
                        "first_s": f"{timings.first_seconds:.1f}",
                        "peak_mib": f"{timings.peak_mib:.0f}",
                    },
                }
            )
            side_by_side.show(rows[-1])
    versions = side_by_side.versions(options.torch_python)
    path = side_by_side.write("train-step", rows, dtype=options.precision, versions=versions)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
