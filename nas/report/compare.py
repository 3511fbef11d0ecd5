"""Comparison of found architectures."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

import latency_tables
import search_spaces
from nas.report import layers, plots
from nas.report.page import document, inline_svg
from nas.run.folder import STANDALONE_ACCURACY, SUPERNET_ACCURACY, StageFolder
from search_spaces import ArchSpec

_STANDALONE = "stand-alone accuracy"
_PICTURES = 3  # panels that fit beside each other

Named = tuple[str, ArchSpec]


def compare(
    runs: Sequence[pathlib.Path], display_name: Callable[[pathlib.Path], str] = str
) -> tuple[str, str]:
    """Compare found architectures.

    Args:
      runs: Folders of searches or of stages, or `architecture.yaml` files.
      display_name: Name of a folder or file, e.g. `nas.host.remote.display_names`.

    Returns:
      A table for a terminal, and an HTML page.

    Raises:
      ValueError: A folder holds no architecture.
    """
    specs = [network for run in runs for network in _networks(run, display_name)]
    devices = list(
        dict.fromkeys(name for _, spec in specs if spec.found for name in spec.found.cost)
    )
    columns, rows = _table(specs, devices)
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [columns, *rows]
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    parts = [
        "<h1>Networks compared</h1>",
        "<p>Accuracies are held out and measured inside each run's own supernet: they rank the "
        f"networks of one run, not runs. The {_STANDALONE} of finalists comes from training "
        "each one from scratch.</p>",
        f'<div class="scroll"><table class="layers"><tr>{head}</tr>{body}</table></div>',
        _accuracy_over_cost(specs, devices),
    ]
    for name, spec in specs:
        parts += [f"<h2>{html.escape(name)}</h2>", layers.section(spec)]
    return text, document("Networks compared", "\n".join(parts))


def _networks(run: pathlib.Path, display_name: Callable[[pathlib.Path], str]) -> list[Named]:
    """The architectures of a file, a stage, a search, or a search with separate targets."""
    if not run.is_dir():
        return [(display_name(run), search_spaces.load(run))]
    for folders in ([run], sorted(run.glob("*")), sorted(run.glob("*/*"))):
        files = [(folder, StageFolder(folder).architecture) for folder in folders]
        if any(file.exists() for _, file in files):
            return [
                (display_name(folder), search_spaces.load(file))
                for folder, file in files
                if file.exists()
            ]
    name = StageFolder(run).architecture.name
    raise ValueError(f"{run}: holds no {name}; give the folder of a finished stage")


def _table(specs: Sequence[Named], devices: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and a row for each network."""
    columns = ["run", "accuracy", _STANDALONE, *devices, "M MACs", "k parameters", "seconds"]
    rows = []
    for name, spec in specs:
        metrics = spec.found.metrics if spec.found else {}
        seconds = spec.found.seconds if spec.found else 0
        rows.append(
            [
                name,
                _number(metrics.get(SUPERNET_ACCURACY), 3),
                _number(metrics.get(STANDALONE_ACCURACY), 3),
                *(_cost(spec, device) for device in devices),
                f"{search_spaces.macs(spec) / 1e6:.1f}",
                f"{search_spaces.params(spec) / 1e3:.0f}",
                _number(seconds or None, 0),
            ]
        )
    if not any(row[2] for row in rows):
        for row in (columns, *rows):
            del row[2]
    return columns, rows


def measured(spec: ArchSpec, name: str, where: str = "") -> float:
    """A metric of a found architecture.

    Args:
      spec: The architecture, with its provenance.
      name: Name of the metric.
      where: Folder or file of the architecture, for errors.

    Raises:
      ValueError: The provenance lacks it.
    """
    metrics = spec.found.metrics if spec.found else {}
    if name not in metrics:
        place = f"{where}: " if where else ""
        raise ValueError(
            f"{place}architecture {spec.name}: found.quality lacks {name}, which "
            "every search writes"
        )
    return metrics[name]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _cost(spec: ArchSpec, device: str) -> str:
    """Cost of a network on a device, and its relative miss if it had a target there."""
    cost = spec.found.cost.get(device) if spec.found else None
    if cost:
        return f"{cost.value:.4g} {cost.unit} ({cost.value / cost.target - 1:+.1%})"
    if not _is_known(device):  # a ridge point of a sweep, or from a file
        return ""
    estimate = latency_tables.estimate(spec, device)
    return f"{estimate.value:.4g} {estimate.unit}"


def _is_known(device: str) -> bool:
    return device in (*latency_tables.devices(), *latency_tables.registered_devices())


def _accuracy_over_cost(specs: Sequence[Named], devices: Sequence[str]) -> str:
    """Accuracy against cost, one panel a device, one point a network."""
    known = [device for device in devices if _is_known(device)][:_PICTURES]
    points = [
        (name, spec, measured(spec, SUPERNET_ACCURACY, name)) for name, spec in specs if spec.found
    ]
    if not known or not points:
        return ""
    figure, axes = plots.panels(height=3.6, width=3.2 * len(known) + 1.6, columns=len(known))
    for panel, device in zip(np.ravel(axes), known, strict=True):
        for index, (name, spec, accuracy) in enumerate(points):
            estimate = latency_tables.estimate(spec, device)
            colour = plots.COLOURS[index % len(plots.COLOURS)]
            panel.plot(estimate.value, accuracy, "o", color=colour, markersize=7, label=name)
            panel.set_xlabel(f"{device}, {estimate.unit}")
    np.ravel(axes)[0].set_ylabel("held-out accuracy inside the supernet")
    np.ravel(axes)[0].legend(fontsize=7, frameon=False)
    return inline_svg(plots.text(figure))
