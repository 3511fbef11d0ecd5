"""Pictures as SVG: the one module that draws with matplotlib."""

from __future__ import annotations

import io
import math
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latency_tables.device import Estimate
from latency_tables.sweep import Sweep
from search_spaces import files

COLOURS = (
    "#2b6cb0",
    "#c05621",
    "#2f855a",
    "#6b46c1",
    "#b83280",
    "#975a16",
    "#2c7a7b",
    "#4a5568",
    "#f6ad55",
)
"""Colours of lines and points, in the order in which they are used."""


def sweep(result: Sweep, path: str | pathlib.Path, reference: str | None = None) -> None:
    """Draw latency, or its ratio to a reference network, against the ridge point, a line a network.

    Infinite bandwidth (ridge point 0) is at the left end.

    Args:
      result: Latencies, see `latency_tables.sweep.sweep`.
      path: SVG file to write.
      reference: Name of the network that the others are divided by; None for milliseconds.
    """
    values = result.ms if reference is None else result.ratios(reference)
    positive = result.points[result.points > 0]
    left = positive.min() / 2  # position of ridge point 0 on a logarithmic axis
    x = np.where(result.points > 0, result.points, left)
    figure, axes = panels()
    for index, (name, row) in enumerate(zip(result.names, values, strict=True)):
        style = "-" if index < len(COLOURS) else "--"
        axes.plot(x, row, style, color=COLOURS[index % len(COLOURS)], label=name, linewidth=1.6)
    axes.set_xscale("log")
    if values.max() > 5 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    ticks = [left, *(t for t in (1, 5, 10, 50, 100, 500) if positive.min() <= t <= positive.max())]
    axes.set_xticks(ticks, ["MACs\nonly", *(f"{t:g}" for t in ticks[1:])])
    axes.minorticks_off()
    axes.set_xlabel("ridge point, MACs/byte (slow CPU to accelerator)")
    axes.set_ylabel(
        "roofline latency, ms" if reference is None else f"latency / latency of {reference}"
    )
    axes.legend(fontsize=8, frameon=False, ncols=1 + (len(result.names) > 10))
    save(figure, path)


def scatter(
    estimated: np.ndarray,
    measured: np.ndarray,
    labels: Sequence[str],
    path: str | pathlib.Path,
    *,
    unit: str = "ms",
) -> None:
    """Draw measured against estimated cost, a point a network, with the line of equality.

    Args:
      estimated: [n] estimates, in `unit`.
      measured: [n] measurements, in `unit`.
      labels: n names of networks.
      path: SVG file to write.
      unit: Unit of both costs.
    """
    figure, axes = panels()
    ends = [min(estimated.min(), measured.min()) / 1.2, max(estimated.max(), measured.max()) * 1.2]
    axes.plot(ends, ends, color="#a0aec0", linewidth=1)
    axes.scatter(estimated, measured, s=18, color=COLOURS[0])
    for x, y, label in zip(estimated, measured, labels, strict=True):
        axes.annotate(label, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    logarithmic(axes)
    axes.set_xlabel(f"estimated, {unit}")
    axes.set_ylabel(f"measured, {unit}")
    save(figure, path)


def bars(
    names: Sequence[str],
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    title: str,
    path: str | pathlib.Path,
) -> None:
    """Draw a horizontal bar for each name, with its interval.

    Args:
      names: n names, top to bottom.
      values: [n] lengths of the bars.
      low: [n] lower ends of the intervals.
      high: [n] upper ends of the intervals.
      title: Label of the horizontal axis.
      path: SVG file to write.
    """
    figure, axes = panels(height=1.2 + 0.42 * len(names))
    _interval_bars(axes, names, values, np.stack([values - low, high - values]))
    axes.set_xlabel(title)
    save(figure, path)


def estimates(
    names: Sequence[str], by_device: Mapping[str, Sequence[Estimate]], path: str | pathlib.Path
) -> None:
    """Draw the costs of networks, one picture a device, with intervals where there are any.

    Args:
      names: n names of networks.
      by_device: {device: n estimates}.
      path: SVG file to write.
    """
    height = 0.9 + (0.7 + 0.3 * len(names)) * len(by_device)
    figure, all_axes = panels(height, rows=len(by_device))
    for axes, (device, row) in zip(np.atleast_1d(all_axes), by_device.items(), strict=True):
        values = np.array([estimate.value for estimate in row])
        ends = [
            (estimate.value - estimate.low, estimate.high - estimate.value)
            for estimate in row
            if estimate.low is not None and estimate.high
        ]
        # A device is calibrated for all networks or for none.
        _interval_bars(axes, names, values, np.array(ends).T if ends else None)
        interval = "" if row[0].low is None else f", {row[0].level:.0%} interval"
        axes.set_title(f"{device}, {row[0].unit}{interval}", fontsize=10, loc="left")
    save(figure, path)


def measured(
    names: Sequence[str],
    gmacs: Sequence[float],
    ms: np.ndarray,
    path: str | pathlib.Path,
    *,
    by_kind: bool,
) -> None:
    """Draw measured time against MACs: networks with their names, or operations coloured by kind.

    Args:
      names: n names of networks, or kinds of operations.
      gmacs: [n] MACs in units of 10^9; points without any are drawn at the left end.
      ms: [n] measured times in ms.
      path: SVG file to write.
      by_kind: Whether `names` are kinds of operations.
    """
    figure, axes = panels()
    x = np.array(gmacs)
    left = x[x > 0].min() / 3 if (x > 0).any() else 1.0
    x = np.where(x > 0, x, left)
    if by_kind:
        for index, kind in enumerate(sorted(set(names), key=names.index)):
            rows = np.array([name == kind for name in names])
            colour = COLOURS[index % len(COLOURS)]
            axes.scatter(x[rows], ms[rows], s=10, color=colour, label=kind, alpha=0.7)
        axes.legend(fontsize=8, frameon=False)
    else:
        axes.scatter(x, ms, s=18, color=COLOURS[0])
        for name, point in zip(names, zip(x, ms, strict=True), strict=True):
            axes.annotate(name, point, fontsize=7, xytext=(3, 3), textcoords="offset points")
    logarithmic(axes)
    axes.set_xlabel("10^9 MACs (those without any at the left end)" if by_kind else "10^9 MACs")
    axes.set_ylabel("measured, ms")
    save(figure, path)


def panels(
    height: float = 5.0, rows: int = 1, columns: int = 1, width: float = 8.0
) -> tuple[Any, Any]:
    """An empty figure in the common style.

    Args:
      height: Height of the figure in inches.
      rows: Rows of axes.
      columns: Columns of axes.
      width: Width of the figure in inches.

    Returns:
      (figure, axes): one axes, or an array of them, [rows], [columns] or [rows, columns].
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no window

    figure = Figure(figsize=(width, height), layout="constrained")
    all_axes = figure.subplots(rows, columns)
    for axes in np.ravel(all_axes):
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(color="#e2e8f0", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, all_axes


def logarithmic(axes: Any) -> None:
    """Give both axes logarithmic scales with plain numbers, a few in each decade.

    Matplotlib's own labels are powers of ten, which take long to set, and half of them are missing
    where an axis spans less than a decade.

    Args:
      axes: Axes of `panels`, with all points.
    """
    from matplotlib.ticker import LogLocator

    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        low, high = axis.get_view_interval()
        decades = math.log10(high / low)
        digits = (1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
        axis.set_major_locator(LogLocator(subs=digits))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def save(figure: Any, path: str | pathlib.Path) -> None:
    """Write a figure as SVG.

    Args:
      figure: Figure of `panels`.
      path: SVG file to write.
    """
    files.write_atomically(path, text(figure))


def text(figure: Any) -> str:
    """A figure as SVG; the same picture gives the same bytes.

    Names of users are no mathematics ("$5 to $10"). Letters that the font lacks are left to the
    fonts of the reader.

    Args:
      figure: Figure of `panels`.

    Returns:
      Text of an SVG file.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = _svg(figure, "path")
    missing = [warning for warning in caught if "missing from" in str(warning.message)]
    for warning in caught:
        if warning not in missing:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if not missing:
        return drawn
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        return _svg(figure, "none")


def _svg(figure: Any, letters: str) -> str:
    """A figure as SVG, its letters as "path" or as text ("none")."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.text import Text

    # Names are texts: what stands between two dollars in them is no formula.
    for label in figure.findobj(Text):
        label.set_parse_math(False)
    out = io.StringIO()
    settings: Any = {"svg.hashsalt": "mnv4-nas", "svg.fonttype": letters, "text.parse_math": False}
    with matplotlib.rc_context(settings):
        for element in figure.findobj(Text):
            element.set_parse_math(False)
        # Not `savefig`, which draws everything once more beforehand.
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return out.getvalue()


def _interval_bars(
    axes: Any, names: Sequence[str], values: np.ndarray, errors: np.ndarray | None
) -> None:
    positions = np.arange(len(names))[::-1]
    axes.barh(
        positions,
        values,
        xerr=errors,
        color=COLOURS[0],
        ecolor="#1a202c",
        height=0.6,
        capsize=3,
    )
    axes.set_yticks(positions, names)
