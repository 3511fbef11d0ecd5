"""Found networks side by side."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

import latency_tables
import search_spaces
from nas.report import layers, plots
from nas.report.page import inline, page
from nas.search import planning
from search_spaces import ArchSpec


def compare(runs: Sequence[pathlib.Path], named: Callable[[pathlib.Path], str] = str) -> tuple[str, str]:
    """Several found networks side by side.

    Args:
      runs: folders of stages, or `architecture.yaml` files.
      named: what a folder or file is called, e.g. `nas.run.remote.named_in`.

    Returns:
      A table for a terminal, and an HTML page.

    Raises:
      ValueError: no architecture there.
    """
    specs = []
    for run in runs:
        path = run / planning.RESULT if run.is_dir() else run
        if run.is_dir() and not path.exists():
            inner = sorted(run.glob(f"*/{planning.RESULT}")) or sorted(run.glob(f"*/*/{planning.RESULT}"))
            if not inner:
                raise ValueError(f"{run}: holds no {planning.RESULT}; give the folder of a finished stage")
            specs += [(named(one.parent), search_spaces.load(one)) for one in inner]
        else:
            specs.append((named(path.parent if run.is_dir() else path), search_spaces.load(path)))
    devices = list(dict.fromkeys(name for _, spec in specs if spec.found for name in spec.found.cost))
    head = ["run", "accuracy", "trained alone", *devices, "M MACs", "k parameters", "seconds"]
    rows = []
    for name, spec in specs:
        found = spec.found
        quality = found.quality if found else {}
        costs = [_cost(spec, device) for device in devices]
        rows.append(
            [
                name,
                *(_number(quality.get(name), 3) for name in ("supernet_validation_accuracy", planning.TRAINED_ALONE)),
                *costs,
                f"{search_spaces.macs(spec) / 1e6:.1f}",
                f"{search_spaces.params(spec) / 1e3:.0f}",
                _number(found.seconds or None if found else None, 0),
            ]
        )
    if not any(row[2] for row in rows):
        for row in (head, *rows):
            row.pop(2)
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    text = "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    parts = [
        "<h1>Networks compared</h1>",
        "<p>Accuracies are held-out ones inside each run's own supernet: they rank networks of one run, not runs. "
        "Finalists were also trained alone.</p>",
        f'<div class="scroll"><table class="layers"><tr>{table}</tr>{cells}</table></div>',
        _picture(specs, devices),
        *(part for name, spec in specs for part in (f"<h2>{html.escape(name)}</h2>", layers.section(spec))),
    ]
    return text, page("Networks compared", "\n".join(parts))


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _cost(spec: ArchSpec, device: str) -> str:
    """What a network costs on a device, and by how much it misses its target there, if it has one."""
    cost = spec.found.cost.get(device) if spec.found else None
    if cost:
        return f"{cost.value:.4g} {cost.unit} ({cost.value / cost.target - 1:+.1%})"
    if device not in latency_tables.devices():  # of a sweep
        return ""
    estimate = latency_tables.estimate(spec, device)
    return f"{estimate.value:.4g} {estimate.unit}"


def _picture(specs: Sequence[tuple[str, ArchSpec]], devices: Sequence[str]) -> str:
    """Accuracy against cost, a picture a device, a point a network."""
    known = [device for device in devices if device in latency_tables.devices()][:3]
    shown = [(name, spec) for name, spec in specs if spec.found]
    if not known or not shown:
        return ""
    figure, axes = plots.panels(height=3.6, width=3.2 * len(known) + 1.6, columns=len(known))
    for panel, device in zip(np.ravel(axes), known, strict=True):
        for place, (name, spec) in enumerate(shown):
            estimate = latency_tables.estimate(spec, device)
            quality = spec.found.quality["supernet_validation_accuracy"] if spec.found else 0.0
            panel.plot(
                estimate.value, quality, "o", color=plots.COLOURS[place % len(plots.COLOURS)], markersize=7, label=name
            )
            panel.set_xlabel(f"{device}, {estimate.unit}")
    np.ravel(axes)[0].set_ylabel("held-out accuracy inside the supernet")
    np.ravel(axes)[0].legend(fontsize=7, frameon=False)
    return inline(plots.text(figure))
