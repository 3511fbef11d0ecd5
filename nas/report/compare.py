"""Found networks side by side."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Sequence

import search_spaces
from nas.report import layers
from nas.report.page import page
from nas.search import planning


def compare(runs: Sequence[pathlib.Path]) -> tuple[str, str]:
    """Several found networks side by side.

    Args:
      runs: folders of stages, or `architecture.yaml` files.

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
            specs += [(str(one.parent), search_spaces.load(one)) for one in inner]
        else:
            specs.append((str(path.parent if run.is_dir() else path), search_spaces.load(path)))
    devices = list(dict.fromkeys(name for _, spec in specs if spec.found for name in spec.found.cost))
    head = ["run", "accuracy", *devices, "M MACs", "k parameters", "seconds"]
    rows = []
    for name, spec in specs:
        found = spec.found
        quality = found.quality.get("supernet_validation_accuracy") if found else None
        costs = []
        for device in devices:
            cost = found.cost.get(device) if found else None
            costs.append(f"{cost.value:.4g} {cost.unit} ({cost.value / cost.target - 1:+.1%})" if cost else "")
        rows.append(
            [
                name,
                "" if quality is None else f"{quality:.3f}",
                *costs,
                f"{search_spaces.macs(spec) / 1e6:.1f}",
                f"{search_spaces.params(spec) / 1e3:.0f}",
                f"{found.seconds:.0f}" if found else "",
            ]
        )
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    text = "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    parts = [
        "<h1>Networks compared</h1>",
        "<p>Accuracies are held-out ones inside each run's own supernet: they rank networks of one run, not runs.</p>",
        f'<div class="scroll"><table class="layers"><tr>{table}</tr>{cells}</table></div>',
        *(part for name, spec in specs for part in (f"<h2>{html.escape(name)}</h2>", layers.section(spec))),
    ]
    return text, page("Networks compared", "\n".join(parts))
