"""What `nas-latency` says, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import latency_tables
import search_spaces
from latency_tables.audit import Agreement
from latency_tables.device import Described, Estimate
from latency_tables.measurement import Measurements
from latency_tables.sweep import Sweep, pareto
from latency_tables.table import load_table, table_names
from search_spaces import ArchSpec


def known() -> str:
    """Every device and every shipped table, a line each."""
    names = latency_tables.devices()
    width = max(map(len, names))
    lines = ["devices"]
    for name in names:
        device = latency_tables.device(name)
        calibrated = "calibrated" if device.calibration else "not calibrated"
        lines.append(f"  {name:{width}}  {device.unit:2}  {device.how}; {calibrated}; {device.date}")
    lines.append("tables" if table_names() else "tables: none")
    for name in table_names():
        m = load_table(name).manifest
        lines.append(
            f"  {name}: {m.rows} rows, {m.device}, {m.runtime}, {m.dtype}, {m.threads} thread(s), {m.how} {m.date}"
        )
    return "\n".join(lines)


def estimates(device: Described, specs: Sequence[ArchSpec], found: Sequence[Estimate], layers: bool = False) -> str:
    """What networks cost on one device, with intervals where there are any.

    Args:
      device, specs: what was asked.
      found: an estimate for each spec.
      layers: also every operation's part, dearest first.
    """
    width = max(len(spec.name) for spec in specs)
    lines = [f"{device.name}: {device.how}"]
    for spec, got in zip(specs, found, strict=True):
        interval = "" if got.low is None else f"  {got.low:.4g} to {got.high:.4g} ({got.level:.0%})"
        filled = f"  {len(got.filled_in)} operations interpolated" if got.filled_in else ""
        lines.append(f"  {spec.name:{width}}  {got.value:10.4g} {got.unit}{interval}{filled}")
        if layers:
            ops = search_spaces.lower(spec)
            for place in got.per_op.argsort()[::-1]:
                if got.per_op[place]:
                    op = ops[place]
                    lines.append(f"    {got.per_op[place]:10.4g} {got.unit}  block {op.block:3} {op.role:12} {op.text}")
    return "\n".join(lines)


def sweep(shown: Sweep, full: Sweep, reference: str | None, quality: np.ndarray | None) -> str:
    """Roofline latency of networks over ridge points.

    Args:
      shown: at the few ridge points that become columns.
      full: at many, for the mean and the worst.
      reference: name of the network that the others are divided by; None for milliseconds.
      quality: [networks], e.g. accuracy; marks who is on the Pareto front of latency and quality.
    """
    values = shown.ratios(reference) if reference else shown.ms
    width = max(map(len, shown.names))
    unit = f"ratio to {reference}" if reference else "ms"
    points = "  ".join(f"{point:>9g}" for point in shown.points)
    lines = [f"{'ridge point, MACs/byte':{width}}  {points}   {unit}"]
    for row, name in enumerate(shown.names):
        cells = []
        for column in range(len(shown.points)):
            front = quality is not None and pareto(shown.ms[:, column], quality)[row]
            cells.append(f"{values[row, column]:8.3f}{'*' if front else ' '}")
        lines.append(f"{name:{width}}  " + "  ".join(cells))
    if quality is not None:
        lines.append("* on the Pareto front of latency and quality at that ridge point")
    if reference:
        for name, row in zip(full.names, full.ratios(reference), strict=True):
            worst = full.points[int(np.argmax(row))]
            lines.append(f"{name:{width}}  mean ratio {row.mean():.3f}, worst {row.max():.3f} at {worst:.0f} MACs/byte")
    return "\n".join(lines)


def measured(found: Measurements) -> str:
    """Measured networks, a line each."""
    width = max(len(one.name) for one in found.measurements)
    return "\n".join(f"{one.name:{width}}  {one.ms:9.4g} ms  +- {one.std_ms:.2g}" for one in found.measurements)


def audit(rows: Sequence[Agreement], networks: int) -> str:
    """How well proxies rank networks, a line each."""
    width = max(len(row.proxy) for row in rows)
    lines = [
        f"{networks} networks; intervals: 95 %, bootstrap over networks",
        f"{'proxy':{width}}  Spearman               Kendall                median error",
    ]
    for row in rows:
        shown = [
            f"{value:6.3f} [{low:.3f}, {high:.3f}]"
            for value, (low, high) in ((row.spearman, row.spearman_interval), (row.kendall, row.kendall_interval))
        ]
        scaled = " (best factor)" if row.scaled else ""
        lines.append(f"{row.proxy:{width}}  {shown[0]:21}  {shown[1]:21}  {row.median_error:.1%}{scaled}")
    return "\n".join(lines)
