"""Question: how well do a roofline and an on-chip cache of weights explain a Coral EdgeTPU?

    python -m experiments.fit_coral --data DIR --out latency_tables/devices/coral-edgetpu.yaml

DIR contains conv5_filters_32_702.csv and dense4_units_100_2640.csv of
github.com/Jorgitou98/EdgeTPU-QuantRL-Evaluation (MIT): times of 132 whole networks of five 3x3
convolutions on 64 x 64 x 3, or of four dense layers. Prints the fitted parameters and held-out
errors, and writes the device. Expected: half a minute. Results: experiments/RESULTS.md.
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
from search_spaces import OpCall, Shape, files, yaml_io

FILES = ("conv5_filters_32_702.csv", "dense4_units_100_2640.csv")


@dataclasses.dataclass(frozen=True)
class Measured:
    """Contents of both files.

    Attributes:
      ops: [networks] Operations of each network.
      ms: [networks] Measured ms.
      kind: [networks] "conv" or "dens".
      streamed: [networks] Whether the compiler streams weights.
      on_chip_mib: [networks] Memory on the chip that the compiler reports, in MiB.
    """

    ops: list[list[OpCall]]
    ms: np.ndarray
    kind: np.ndarray
    streamed: np.ndarray
    on_chip_mib: np.ndarray


def read(folder: pathlib.Path) -> Measured:
    """Read both files; the counted MACs must be equal to those in the files.

    Args:
      folder: Folder of the files.

    Returns:
      Their networks.

    Raises:
      ValueError: Networks whose MACs differ.
    """
    ops, rows, kinds = [], [], []
    for file in FILES:
        with (folder / file).open(newline="") as opened:
            for row in csv.DictReader(opened):
                ops.append(_network(file, int(next(iter(row.values())))))
                rows.append(row)
                kinds.append(file[:4])
    counted = [sum(op.macs for op in network) for network in ops]
    if counted != [int(row["# MACs"]) for row in rows]:
        raise ValueError(
            f"{folder}: the MACs of the networks differ from those of the published files; "
            "download them again"
        )
    ms, off_chip, on_chip = (
        np.array([float(row[name]) for row in rows])
        for name in ("Inference time", "Off chip mem used", "On chip mem used")
    )
    return Measured(ops, ms, np.array(kinds), off_chip > 0, on_chip)


def fit(measured: Measured) -> CachedFit:
    """Fit the device, with held-out estimates by five folds.

    Args:
      measured: The networks.

    Returns:
      The fit.
    """
    return fit_cached_roofline(measured.ops, measured.ms, channel_multiples=(1, 64))


def main() -> None:
    """Parse the arguments, fit, print, and write the device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    measured = read(options.data)
    fitted = fit(measured)
    print(yaml_io.to_yaml(fitted.model))
    error = np.abs(fitted.held_out_ms / fitted.measured_ms - 1)
    for kind in ("conv", "dens"):
        for streamed in (False, True):
            rows = (measured.kind == kind) & (measured.streamed == streamed)
            where = "streamed" if streamed else "on chip"
            print(
                f"{kind} {where:8} {rows.sum():3} rows: median error {np.median(error[rows]):.1%}"
            )
    if options.out:
        device = CachedRooflineDevice(
            name=options.out.stem,
            source="fitted by experiments/fit_coral.py to 132 networks of "
            "github.com/Jorgitou98/EdgeTPU-QuantRL-Evaluation (MIT)",
            date="2026-11-24",
            processor="Coral Edge TPU",
            dtype="int8",
            calibration=Calibration.from_ratios(fitted.held_out_ms, fitted.measured_ms),
            model=fitted.model,
        )
        files.write_atomically(options.out, yaml_io.to_yaml(device))


def _network(file: str, size: int) -> list[OpCall]:
    if file.startswith("conv5"):
        return [OpCall("conv2d", Shape(64, 64, c), size, 3) for c in (3, size, size, size, size)]
    # 64 + 10: the rest of the counted MACs beside 3 size^2
    widths = (64, size, size, size, size, 10)
    return [
        OpCall("fully_connected", Shape(1, 1, a), b)
        for a, b in zip(widths, widths[1:], strict=False)
    ]


if __name__ == "__main__":
    main()
