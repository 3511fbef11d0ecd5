"""Comparison of trainings: means over seeds with intervals, as tables and as one page. No JAX."""

from __future__ import annotations

import csv
import html
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

import search_spaces
from nas.report import plots
from nas.report.page import document, inline_svg
from nas.training.matrix import TrainCell
from nas.training.record import TrainMeasures
from search_spaces import ArchSpec, yaml_io

_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom, from any table of it."""
_SPLITS = ("validation", "test")


class Interval(NamedTuple):
    """A mean over seeds.

    Attributes:
      mean: The mean.
      half_width: Half width of its 95 % interval by Student's t; nan for a single seed.
    """

    mean: float
    half_width: float

    def __str__(self) -> str:
        if np.isnan(self.half_width):
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} \u00b1 {self.half_width:.4f}"


class Summary(NamedTuple):
    """Trainings that differ in their seeds only.

    Attributes:
      network: Name of the network in the matrix.
      variant: Name of the variant; may be empty.
      seeds: Seeds of the finished trainings.
      validation: Accuracy of the best network on the validation split.
      test: Its accuracy on the test split.
      spec: The network.
    """

    network: str
    variant: str
    seeds: tuple[int, ...]
    validation: Interval
    test: Interval
    spec: ArchSpec


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of values of independent seeds.

    mean +- t(n - 1) * standard deviation / sqrt(n)

    Args:
      values: At least one value.
    """
    count, mean = len(values), float(np.mean(values))
    if count == 1:
        return Interval(mean, float("nan"))
    # Beyond the table an approximation, which is 0.001 too wide at most.
    quantile = _T[count - 2] if count - 2 < len(_T) else 1.96 + 2.5 / (count - 1)
    return Interval(mean, float(quantile * np.std(values, ddof=1) / count**0.5))


def summarise(cells: Iterable[TrainCell]) -> tuple[Summary, ...]:
    """Means over the seeds of finished trainings, in the order of the matrix.

    Args:
      cells: The trainings.
    """
    groups: dict[tuple[str, str], list[TrainCell]] = {}
    for cell in cells:
        if cell.folder.result.exists():
            groups.setdefault((cell.network, cell.variant), []).append(cell)
    summaries = []
    for (network, variant), group in groups.items():
        measures = [_measures(cell) for cell in group]
        validation = interval([one.validation["accuracy"] for one in measures])
        test = interval([one.test["accuracy"] for one in measures])
        spec = search_spaces.load(group[0].folder.best / "architecture.yaml")
        seeds = tuple(cell.seed for cell in group)
        summaries.append(Summary(network, variant, seeds, validation, test, spec))
    return tuple(summaries)


def compare(cells: Sequence[TrainCell]) -> tuple[str, dict[str, str], str]:
    """Compare trained networks.

    Args:
      cells: The trainings, of which one has finished at least.

    Returns:
      A table for a terminal, tables {name of the file: CSV}, and an HTML page.
    """
    summaries = summarise(cells)
    head = ("network", "variant", "seeds", *(f"{split} accuracy" for split in _SPLITS))
    head = (*head, "M MACs", "k parameters")
    rows = [
        (
            one.network,
            one.variant,
            str(len(one.seeds)),
            str(one.validation),
            str(one.test),
            f"{search_spaces.macs(one.spec) / 1e6:.1f}",
            f"{search_spaces.params(one.spec) / 1e3:.0f}",
        )
        for one in summaries
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
    tables = {"trainings.csv": _trainings(cells), "summary.csv": _summary(summaries)}
    return text, tables, _page(cells, summaries, head, rows)


def _measures(cell: TrainCell) -> TrainMeasures:
    return yaml_io.load_model(cell.folder.result, TrainMeasures)


def _trainings(cells: Sequence[TrainCell]) -> str:
    rows = []
    for cell in cells:
        row: dict[str, Any] = {"network": cell.network, "variant": cell.variant, "seed": cell.seed}
        if cell.folder.result.exists():
            measures = _measures(cell)
            row |= {
                f"{split}_{name}": value
                for split in _SPLITS
                for name, value in getattr(measures, split).items()
            }
            row |= {"steps": measures.steps, "best_step": measures.best_step}
            row |= {"averaged": measures.averaged, "seconds": measures.seconds}
        rows.append({**row, "folder": cell.name})
    return _csv(rows)


def _summary(summaries: Sequence[Summary]) -> str:
    rows = []
    for one in summaries:
        row: dict[str, Any] = {"network": one.network, "variant": one.variant}
        row["seeds"] = len(one.seeds)
        for split in _SPLITS:
            found: Interval = getattr(one, split)
            row[f"{split}_accuracy"] = round(found.mean, 6)
            single = np.isnan(found.half_width)
            row[f"{split}_half_width"] = "" if single else round(found.half_width, 6)
        row |= {"macs": search_spaces.macs(one.spec), "parameters": search_spaces.params(one.spec)}
        rows.append(row)
    return _csv(rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    longest = max(rows, key=len)
    writer = csv.DictWriter(text, list(longest), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _page(
    cells: Sequence[TrainCell],
    summaries: Sequence[Summary],
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> str:
    finished = [cell for cell in cells if cell.folder.result.exists()]
    links = "".join(
        f"<li><a href='{html.escape(os.path.join(cell.name, 'report.html'), quote=True)}'>"
        f"{html.escape(cell.name)}</a>: test accuracy {_measures(cell).test['accuracy']:.4f}</li>"
        for cell in finished
    )
    missing = len(cells) - len(finished)
    parts = [
        "<h1>Trained networks compared</h1>",
        "<p>Mean over seeds with the 95 % interval by Student's t. The best step of each training "
        "was chosen on the validation split; the test split was read once for each.</p>",
        f"<p>{missing} of {len(cells)} trainings are not finished.</p>" if missing else "",
        f'<div class="scroll"><table class="layers">{_row("th", head)}'
        f"{''.join(_row('td', row) for row in rows)}</table></div>",
        _picture(summaries, finished),
        f"<h2>Trainings</h2><ul>{links}</ul>",
    ]
    return document("Trained networks compared", "\n".join(parts))


def _row(tag: str, texts: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"


def _picture(summaries: Sequence[Summary], finished: Sequence[TrainCell]) -> str:
    """Test accuracies: each seed as a point, the mean with its interval."""
    figure, axes = plots.panels(height=1.2 + 0.4 * len(summaries), width=7.0)
    names = ["-".join(filter(None, (one.network, one.variant))) for one in summaries]
    for place, one in enumerate(summaries):
        colour = plots.COLOURS[place % len(plots.COLOURS)]
        error = None if np.isnan(one.test.half_width) else one.test.half_width
        axes.errorbar(one.test.mean, place, xerr=error, fmt="o", color=colour, capsize=4)
        values = [
            _measures(cell).test["accuracy"]
            for cell in finished
            if (cell.network, cell.variant) == (one.network, one.variant)
        ]
        axes.plot(values, [place + 0.2] * len(values), "|", color=colour, markersize=7)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("test accuracy: mean and 95 % interval; a tick for each seed")
    return inline_svg(plots.text(figure))
