"""Question: how well do a roofline and an on-chip cache of weights explain a Coral EdgeTPU?

    python -m experiments.fit_coral --data DIR --out latency_tables/devices/coral-edgetpu.yaml

DIR holds conv5_filters_32_702.csv and dense4_units_100_2640.csv of github.com/Jorgitou98/EdgeTPU-QuantRL-Evaluation
(MIT): 132 whole networks of five 3x3 convolutions on 64 x 64 x 3, or of four dense layers, each with its time. Prints
the fitted parameters and held-out errors, and writes the device. Expected: half a minute. Results:
experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import pathlib

import numpy as np

from latency_tables.conformal import Calibration
from latency_tables.fit import CachedFit, fit_cached_roofline
from latency_tables.kinds import CachedRooflineDevice
from search_spaces import OpCall, Shape, yaml_io

FILES = ("conv5_filters_32_702.csv", "dense4_units_100_2640.csv")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the files say: operations and ms of every network, its kind, and whether the compiler streams weights."""

    ops: list[list[OpCall]]
    ms: np.ndarray
    kind: np.ndarray
    streamed: np.ndarray
    on_chip_mib: np.ndarray


def read(folder: pathlib.Path) -> Measured:
    """Both files; the counted MACs must be those that the files print, to the integer."""
    ops, rows, kinds = [], [], []
    for file in FILES:
        with (folder / file).open(newline="") as opened:
            for row in csv.DictReader(opened):
                ops.append(_network(file, int(next(iter(row.values())))))
                rows.append(row)
                kinds.append(file[:4])
    counted = [sum(op.macs for op in one) for one in ops]
    if counted != [int(row["# MACs"]) for row in rows]:
        raise ValueError(f"{folder}: the networks are not those that this experiment knows: MACs differ")
    columns = (np.array([float(row[name]) for row in rows]) for name in ("Inference time", "Off chip mem used"))
    ms, off_chip = columns
    on_chip = np.array([float(row["On chip mem used"]) for row in rows])
    return Measured(ops, ms, np.array(kinds), off_chip > 0, on_chip)


def fit(measured: Measured) -> CachedFit:
    """The fit, with held-out estimates by five folds."""
    return fit_cached_roofline(measured.ops, measured.ms, channel_multiples=(1, 64))


def main() -> None:
    """Parse, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    measured = read(options.data)
    found = fit(measured)
    print(yaml_io.to_yaml(found.model))
    error = np.abs(found.held_out_ms / found.measured_ms - 1)
    for kind in ("conv", "dens"):
        for streamed in (False, True):
            rows = (measured.kind == kind) & (measured.streamed == streamed)
            where = "streamed" if streamed else "on chip"
            print(f"{kind} {where:8} {rows.sum():3} rows: median error {np.median(error[rows]):.1%}")
    if options.out:
        device = CachedRooflineDevice(
            name=options.out.stem,
            source="fitted by experiments/fit_coral.py to 132 networks of "
            "github.com/Jorgitou98/EdgeTPU-QuantRL-Evaluation (MIT)",
            date="2026-11-24",
            calibration=Calibration.from_ratios(found.held_out_ms, found.measured_ms),
            model=found.model,
        )
        yaml_io.write_atomically(options.out, yaml_io.to_yaml(device))


def _network(file: str, size: int) -> list[OpCall]:
    if file.startswith("conv5"):
        return [OpCall("conv2d", Shape(64, 64, c), size, 3) for c in (3, size, size, size, size)]
    widths = (64, size, size, size, size, 10)  # 64 + 10: what the counted MACs leave beside 3 size^2
    return [OpCall("fully_connected", Shape(1, 1, a), b) for a, b in zip(widths, widths[1:], strict=False)]


if __name__ == "__main__":
    main()
