"""Question: how long does a training step of a plain network take, against PyTorch eager on the same network?

    python -m experiments.benchmarks.train_step [--torch-python PYTHON]

Ours with its own depthwise convolution, ours with XLA's, and PyTorch (channels_last); float32, two cores, one process
each in turn. Answer: see `results/train-step*.csv` and experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys

from experiments.benchmarks import side_by_side
from experiments.benchmarks.side_by_side import Side

CASES = (("mnv4-conv-s", 64, 64), ("mnv4-conv-s", 224, 32), ("mnv4-conv-m", 128, 32))
"""Network, resolution, images a step."""


def main() -> None:
    """Measure all cases, print them, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)), help="numbers, from 0")
    options = parser.parse_args()
    rows = []
    for name, resolution, size in (CASES[case] for case in options.cases):
        common = {"resolution": resolution, "size": size}
        ours, torch = "experiments.benchmarks.ours:train_step", "experiments.benchmarks.torch_side:train_step"
        sides = (
            Side("ours", ours, {"network": name, **common}),
            Side("stock XLA", ours, {"network": name, "stock": True, **common}),
            Side("PyTorch", torch, {"network_name": name, **common}, python=options.torch_python),
        )
        found = side_by_side.compare(sides, rounds=options.rounds)
        for side, timings in found.items():
            ratio, low, high = timings.ratio(found["PyTorch"])
            rows.append(
                {
                    **{"network": name, "resolution": resolution, "images": size, "side": side},
                    "ms": f"{timings.median * 1e3:.1f}",
                    **{"ratio": f"{ratio:.3f}", "lowest": f"{low:.3f}", "highest": f"{high:.3f}"},
                    **{"first_s": f"{timings.first_seconds:.1f}", "peak_mib": f"{timings.peak_mib:.0f}"},
                }
            )
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    asked = [options.torch_python, "-c", "import torch; print(torch.__version__)"]
    versions = {
        "python": side_by_side.python_version(),
        "jax": importlib.metadata.version("jax"),
        "torch": subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip(),
    }
    print(f"written: {side_by_side.write('train-step', rows, dtype='float32', versions=versions)}")


if __name__ == "__main__":
    main()
