"""Pictures, as SVG; the one module that draws with matplotlib."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from latency_tables.sweep import Sweep

_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#975a16", "#2c7a7b", "#4a5568")


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
    figure, axes = _axes()
    for place, (name, row) in enumerate(zip(result.names, values, strict=True)):
        style = "-" if place < len(_COLOURS) else "--"
        axes.plot(x, row, style, color=_COLOURS[place % len(_COLOURS)], label=name, linewidth=1.6)
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
    _save(figure, path)


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
    figure, axes = _axes()
    ends = [min(estimated.min(), measured.min()) / 1.2, max(estimated.max(), measured.max()) * 1.2]
    axes.plot(ends, ends, color="#a0aec0", linewidth=1)
    axes.scatter(estimated, measured, s=18, color=_COLOURS[0])
    for x, y, label in zip(estimated, measured, labels, strict=True):
        axes.annotate(label, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"estimated, {unit}")
    axes.set_ylabel(f"measured, {unit}")
    _save(figure, path)


def bars(names: Sequence[str], values: np.ndarray, low: np.ndarray, high: np.ndarray, title: str, path: Any) -> None:
    """A bar a name with the ends of its interval: values, low, high [n]."""
    figure, axes = _axes(height=1.2 + 0.42 * len(names))
    places = np.arange(len(names))[::-1]
    errors = np.stack([values - low, high - values])
    axes.barh(places, values, xerr=errors, color=_COLOURS[0], ecolor="#1a202c", height=0.6, capsize=3)
    axes.set_yticks(places, names)
    axes.set_xlabel(title)
    _save(figure, path)


def _axes(height: float = 5.0) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no global state, no window

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color="#e2e8f0", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: str | pathlib.Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "mnv4-nas"}):  # the same picture, the same bytes
        figure.savefig(path, format="svg", metadata={"Date": None})
