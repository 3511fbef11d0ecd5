"""Results of `nas-latency` as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import latency_tables
import search_spaces
from latency_tables.audit import ProxyAgreement
from latency_tables.device import DeviceModel, Estimate
from latency_tables.measurement import Measurements
from latency_tables.sweep import Sweep, pareto
from latency_tables.table import load_table, table_names
from search_spaces import ArchSpec

if TYPE_CHECKING:  # load JAX
    from nas.api.measuring import MeasuredModel, MeasuredModels


def known() -> str:
    """All devices and all shipped tables, a line each.

    Returns:
      Lines of text.
    """
    names = latency_tables.devices()
    width = max(map(len, names))
    lines = ["devices"]
    for name in names:
        device = latency_tables.device(name)
        calibrated = "calibrated" if device.calibration else "not calibrated"
        method = f"{device.description}; {calibrated}; {device.date}"
        lines.append(f"  {name:{width}}  {device.unit:2}  {method}")
    lines.append("tables" if table_names() else "tables: none")
    for name in table_names():
        table = load_table(name).manifest
        lines.append(
            f"  {name}: {table.rows} rows, {table.device}, {table.runtime}, {table.dtype}, "
            f"{table.threads} thread(s), {table.origin} {table.date}"
        )
    return "\n".join(lines)


def estimates(
    device: DeviceModel,
    specs: Sequence[ArchSpec],
    costs: Sequence[Estimate],
    layers: bool = False,
) -> str:
    """Costs of networks on one device, with intervals where there are any.

    Args:
      device: The device.
      specs: n networks.
      costs: n estimates, one for each network.
      layers: Also list the cost of each operation, most expensive first.

    Returns:
      Lines of text.
    """
    width = max(len(spec.name) for spec in specs)
    lines = [f"{device.name}: {device.description}"]
    for spec, cost in zip(specs, costs, strict=True):
        interval = ""
        if cost.low is not None:
            interval = f"  {cost.low:.4g} to {cost.high:.4g} ({cost.level:.0%})"
        filled = f"  {len(cost.filled_in)} operations interpolated" if cost.filled_in else ""
        lines.append(f"  {spec.name:{width}}  {cost.value:10.4g} {cost.unit}{interval}{filled}")
        if layers:
            lines += _operations(spec, cost)
    return "\n".join(lines)


def _operations(spec: ArchSpec, cost: Estimate) -> list[str]:
    """A line for each operation that costs something, most expensive first."""
    ops = search_spaces.lower(spec)
    return [
        f"    {cost.per_op[index]:10.4g} {cost.unit}  "
        f"block {ops[index].block:3} {ops[index].role:12} {ops[index]}"
        for index in cost.per_op.argsort()[::-1]
        if cost.per_op[index]
    ]


def sweep(shown: Sweep, full: Sweep, reference: str | None, quality: np.ndarray | None) -> str:
    """Roofline latency of networks over ridge points.

    Args:
      shown: Latencies at the few ridge points that become columns.
      full: Latencies at many ridge points, for the mean and the worst ratio.
      reference: Name of the network that the others are divided by; None for milliseconds.
      quality: [networks], e.g. accuracy; marks the Pareto front of latency and quality.

    Returns:
      Lines of text.
    """
    values = shown.ratios(reference) if reference else shown.ms
    width = max(map(len, shown.names))
    unit = f"ratio to {reference}" if reference else "ms"
    points = "  ".join(f"{point:>9g}" for point in shown.points)
    lines = [f"{'ridge point, MACs/byte':{width}}  {points}   {unit}"]
    for row, name in enumerate(shown.names):
        cells = []
        for column in range(len(shown.points)):
            on_front = quality is not None and pareto(shown.ms[:, column], quality)[row]
            cells.append(f"{values[row, column]:8.3f}{'*' if on_front else ' '}")
        lines.append(f"{name:{width}}  " + "  ".join(cells))
    if quality is not None:
        lines.append("* on the Pareto front of latency and quality at that ridge point")
    if reference:
        for name, ratios in zip(full.names, full.ratios(reference), strict=True):
            worst = full.points[int(np.argmax(ratios))]
            lines.append(
                f"{name:{width}}  mean ratio {ratios.mean():.3f}, "
                f"worst {ratios.max():.3f} at {worst:.0f} MACs/byte"
            )
    return "\n".join(lines)


def measured(measurements: Measurements) -> str:
    """Measured networks, a line each.

    Args:
      measurements: Measurements of whole networks.

    Returns:
      Lines of text.
    """
    width = max(map(len, measurements.names))
    return "\n".join(
        f"{row.name:{width}}  {row.ms:9.4g} ms  +- {row.std_ms:.2g}"
        for row in measurements.measurements
    )


def settings(fields: Mapping[str, Any], has_files: bool) -> str:
    """Settings of a measurement in one line.

    Args:
      fields: Settings of a runtime.
      has_files: Whether there are TFLite files, which have types of their own.

    Returns:
      The line.
    """
    shown = {key: value for key, value in fields.items() if key != "dtype" or not has_files}
    return "; ".join(f"{key}: {value}" for key, value in shown.items())


def measured_models(measured: MeasuredModels) -> str:
    """Measured TFLite files, and networks beside them, some lines each.

    Args:
      measured: Models that were timed in turn.

    Returns:
      Lines of text.
    """
    lines = [line for one in measured.models for line in _measured_model(one)]
    lines += [f"warning: {note}" for note in measured.notes]
    if measured.table is not None:
        lines.append(f"table: {len(measured.table.measurements)} networks")
    elif any(one.not_joined for one in measured.models):
        lines.append("no table written: no measured network is known")
    return "\n".join(lines)


def size(count: int) -> str:
    """Size of a file as text.

    Args:
      count: Its bytes.
    """
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _measured_model(one: MeasuredModel) -> list[str]:
    model, contents = one.model, one.model.contents
    low, high = min(one.rounds_ms), max(one.rounds_ms)
    macs = f"{contents.macs / 1e6:.4g} M MACs"
    if contents.uncounted:
        macs += f" without those of {', '.join(contents.uncounted)}"
    operators = ", ".join(f"{count} {name}" for name, count in contents.operators.items())
    left = ", ".join(map(str, model.left_out))
    network = f"{model.spec.name}, " if model.spec and model.spec.name != model.label else ""
    lines = [
        f"{one.model.label}: {one.ms:.4g} ms +- {one.std_ms:.2g} ({len(one.rounds_ms)} rounds, "
        f"{low:.4g} to {high:.4g}; {one.runs} runs)",
        f"  {network}{contents.dtype}, {size(len(model.tflite))}, {macs}",
        f"  input {'; '.join(model.inputs) or 'none'}",
        f"  {sum(contents.operators.values())} operators: {operators}",
        f"  XNNPACK leaves {left} to slower code" if left else "  XNNPACK takes all operators",
    ]
    lines += [f"  {prediction}" for prediction in one.predictions]
    lines += [f"  note: {note}" for note in model.notes]
    if one.not_joined:
        lines.append(f"  does not join the table: {one.not_joined}")
    return lines


def audit(rows: Sequence[ProxyAgreement], networks: int) -> str:
    """Rank agreement of proxies with measurements, a line each.

    Args:
      rows: Agreement of each proxy.
      networks: Number of measured networks.

    Returns:
      Lines of text.
    """
    width = max(len(row.proxy) for row in rows)
    lines = [
        f"{networks} networks; intervals: 95 %, bootstrap over networks",
        f"{'proxy':{width}}  Spearman               Kendall                median error",
    ]
    for row in rows:
        spearman = _with_interval(row.spearman, row.spearman_interval)
        kendall = _with_interval(row.kendall, row.kendall_interval)
        scaled = " (best factor)" if row.scaled else ""
        lines.append(
            f"{row.proxy:{width}}  {spearman:21}  {kendall:21}  {row.median_error:.1%}{scaled}"
        )
    return "\n".join(lines)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{value:6.3f} [{low:.3f}, {high:.3f}]"
