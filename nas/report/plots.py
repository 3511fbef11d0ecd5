"""Pictures, as SVG; the one module that draws with matplotlib."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latency_tables.device import Estimate
from latency_tables.sweep import Sweep

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#975a16", "#2c7a7b", "#4a5568", "#f6ad55")


def sweep(result: Sweep, path: str | pathlib.Path, reference: str | None = None) -> None:
    """Latency (or its ratio to a reference network) against the ridge point, a line a network, infinite bandwidth left.

    Args:
      result: from `latency_tables.sweep.sweep`.
      path: of the SVG.
      reference: name of the network that the others are divided by; None for milliseconds.
    """
    values = result.ms if reference is None else result.ratios(reference)
    positive = result.points[result.points > 0]
    left = positive.min() / 2  # where 0 stands on a logarithmic axis
    x = np.where(result.points > 0, result.points, left)
    figure, axes = panels()
    for place, (name, row) in enumerate(zip(result.names, values, strict=True)):
        style = "-" if place < len(COLOURS) else "--"
        axes.plot(x, row, style, color=COLOURS[place % len(COLOURS)], label=name, linewidth=1.6)
    axes.set_xscale("log")
    if values.max() > 5 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    ticks = [left, *(t for t in (1, 5, 10, 50, 100, 500) if positive.min() <= t <= positive.max())]
    axes.set_xticks(ticks, ["MACs\nonly", *(f"{t:g}" for t in ticks[1:])])
    axes.minorticks_off()
    axes.set_xlabel("ridge point, MACs/byte (slow CPU to accelerator)")
    axes.set_ylabel("roofline latency, ms" if reference is None else f"latency / latency of {reference}")
    axes.legend(fontsize=8, frameon=False, ncols=1 + (len(result.names) > 10))
    save(figure, path)


def scatter(
    estimated: np.ndarray, measured: np.ndarray, labels: Sequence[str], path: str | pathlib.Path, *, unit: str = "ms"
) -> None:
    """Measured against estimated cost, a point a network, with the line on which they agree.

    Args:
      estimated, measured: [n].
      labels: n names.
      path: of the SVG.
      unit: of both.
    """
    figure, axes = panels()
    ends = [min(estimated.min(), measured.min()) / 1.2, max(estimated.max(), measured.max()) * 1.2]
    axes.plot(ends, ends, color="#a0aec0", linewidth=1)
    axes.scatter(estimated, measured, s=18, color=COLOURS[0])
    for x, y, label in zip(estimated, measured, labels, strict=True):
        axes.annotate(label, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"estimated, {unit}")
    axes.set_ylabel(f"measured, {unit}")
    save(figure, path)


def bars(names: Sequence[str], values: np.ndarray, low: np.ndarray, high: np.ndarray, title: str, path: Any) -> None:
    """A bar a name with the ends of its interval: values, low, high [n]."""
    figure, axes = panels(height=1.2 + 0.42 * len(names))
    places = np.arange(len(names))[::-1]
    errors = np.stack([values - low, high - values])
    axes.barh(places, values, xerr=errors, color=COLOURS[0], ecolor="#1a202c", height=0.6, capsize=3)
    axes.set_yticks(places, names)
    axes.set_xlabel(title)
    save(figure, path)


def estimates(names: Sequence[str], found: Mapping[str, Sequence[Estimate]], path: str | pathlib.Path) -> None:
    """What networks cost, one picture a device, with intervals where there are any.

    Args:
      names: of the networks.
      found: {device: an estimate a network}.
      path: of the SVG.
    """
    figure, all_axes = panels(0.9 + (0.7 + 0.3 * len(names)) * len(found), rows=len(found))
    places = np.arange(len(names))[::-1]
    for axes, (device, many) in zip(np.atleast_1d(all_axes), found.items(), strict=True):
        values = np.array([one.value for one in many])
        ends = [(one.value - one.low, one.high - one.value) for one in many if one.low is not None and one.high]
        errors = np.array(ends).T if ends else None  # a device is calibrated for all networks or for none
        axes.barh(places, values, xerr=errors, color=COLOURS[0], ecolor="#1a202c", height=0.6, capsize=3)
        axes.set_yticks(places, names)
        interval = "" if many[0].low is None else f", {many[0].level:.0%} interval"
        axes.set_title(f"{device}, {many[0].unit}{interval}", fontsize=10, loc="left")
    save(figure, path)


def measured(
    names: Sequence[str], gmacs: Sequence[float], ms: np.ndarray, path: str | pathlib.Path, *, by_kind: bool
) -> None:
    """Measured time against MACs: networks with their names, or operations with a colour a kind.

    Args:
      names: of the networks, or kinds of the operations.
      gmacs: of each, in units of 10^9; those without any stand at the left end.
      ms: of each.
      path: of the SVG.
      by_kind: whether `names` are kinds, one of which many points share.
    """
    figure, axes = panels()
    x = np.array(gmacs)
    left = x[x > 0].min() / 3 if (x > 0).any() else 1.0
    x = np.where(x > 0, x, left)
    if by_kind:
        for place, kind in enumerate(sorted(set(names), key=names.index)):
            rows = np.array([name == kind for name in names])
            axes.scatter(x[rows], ms[rows], s=10, color=COLOURS[place % len(COLOURS)], label=kind, alpha=0.7)
        axes.legend(fontsize=8, frameon=False)
    else:
        axes.scatter(x, ms, s=18, color=COLOURS[0])
        for place, name in enumerate(names):
            axes.annotate(name, (x[place], ms[place]), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("10^9 MACs (those without any at the left end)" if by_kind else "10^9 MACs")
    axes.set_ylabel("measured, ms")
    save(figure, path)


def panels(height: float = 5.0, rows: int = 1, columns: int = 1, width: float = 8.0) -> tuple[Any, Any]:
    """(figure, axes): one axes, or an array of them [rows], or [rows, columns]; inches."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no window

    figure = Figure(figsize=(width, height), layout="constrained")
    all_axes = figure.subplots(rows, columns)
    for axes in np.ravel(all_axes):
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(color="#e2e8f0", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, all_axes


def save(figure: Any, path: str | pathlib.Path) -> None:
    """Write a figure as SVG."""
    pathlib.Path(path).write_text(text(figure), encoding="utf-8")


def text(figure: Any) -> str:
    """A figure as SVG: the same picture, the same bytes."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mnv4-nas"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
