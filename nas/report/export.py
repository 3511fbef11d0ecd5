"""The exports of a training in its report: how each file was checked, and its latency. No JAX."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import numpy as np

from latency_tables.comparison import Comparison
from nas.exporters.record import ExportRecord
from nas.report import plots
from nas.report.latency import size
from nas.report.page import inline_svg
from nas.run.folder import TrainFolder
from search_spaces import yaml_io

STYLE = """
table.exports{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem;
margin-bottom:.6rem}
table.exports td,table.exports th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}
table.exports td{white-space:nowrap}
table.exports td:last-child{white-space:normal;min-width:9rem}
table.exports th{border-bottom:2px solid #1b2733;vertical-align:bottom}
table.exports td{border-bottom:1px solid #e2e8f0}
table.exports td.inside{color:#2f855a}
table.exports td.outside{color:#c05621}
"""
"""CSS of the section."""

_Cell = tuple[str, str]  # text, and class


def section(folder: TrainFolder) -> str:
    """The section about exports.

    Args:
      folder: Folder of the training.

    Returns:
      HTML; "" if nothing was exported.
    """
    records, damaged = _records(folder)
    if not records and not damaged:
        return ""
    parts = ["<h2>Export</h2>"]
    if records:
        parts += [_checks(records), _timing_note(records), _warnings(records)]
    if damaged:
        parts.append(f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in damaged)}</ul>")
    compared = [(record, one) for record in records for one in record.predictions]
    if compared:
        parts += ["<h2>Latency, predicted and measured</h2>", _comparisons(compared)]
        parts.append(_picture(compared))
    return "\n".join(parts)


def _records(folder: TrainFolder) -> tuple[list[ExportRecord], list[str]]:
    """Records in the folder of exports, those of TFLite first, and what is wrong with others."""
    records, damaged = [], []
    for path in sorted(folder.exports.rglob("*.yaml")):
        try:
            records.append(yaml_io.load_model(path, ExportRecord))
        except ValueError as error:
            damaged.append(f"not shown: {error}")
    return sorted(records, key=lambda r: (not r.format.startswith("tflite"), r.format)), damaged


def _checks(records: Sequence[ExportRecord]) -> str:
    columns = (
        *("format", "file", "size", "accuracy", "of the network", "same class"),
        *("logits differ by", "ms", "float32 ms", "left out by XNNPACK"),
    )
    rows = [
        [
            (record.format, ""),
            (record.file, ""),
            (size(record.bytes), ""),
            (_number(record.accuracy, ".4f"), ""),
            (_number(record.float_accuracy, ".4f"), ""),
            (_number(record.agreement, ".1%"), ""),
            (_number(record.difference, ".1e"), ""),
            (_times(record), ""),
            (_number(record.float_milliseconds, ".4g"), ""),
            (_left_out(record), ""),
        ]
        for record in records
    ]
    return _table(columns, rows)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _times(record: ExportRecord) -> str:
    if record.milliseconds is None:
        return "-"
    if not record.float_milliseconds:
        return f"{record.milliseconds:.4g}"
    return f"{record.milliseconds:.4g} ({record.milliseconds / record.float_milliseconds:.2f})"


def _left_out(record: ExportRecord) -> str:
    if record.milliseconds is None:
        return "-"
    return ", ".join(record.left_out) or "nothing"


def _timing_note(records: Sequence[ExportRecord]) -> str:
    images = sorted({record.images for record in records if record.images})
    text = "Accuracies: top-1 on " + " or ".join(f"{count:,}" for count in images)
    text = f"{text} validation images. " if images else ""
    text += "Differences of logits: the largest one, as a share of their range. "
    processors = sorted({record.processor for record in records if record.processor})
    if processors:
        text += (
            f"Times: one image, CPU time of a thread of {', '.join(processors)}, in turn with the "
            "float32 model; in brackets the ratio to it."
        )
    return f"<p>{html.escape(text)}</p>"


def _warnings(records: Sequence[ExportRecord]) -> str:
    items = [
        f"<li>{html.escape(f'{record.format}: {warning}')}</li>"
        for record in records
        for warning in record.warnings
    ]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _comparisons(compared: Iterable[tuple[ExportRecord, Comparison]]) -> str:
    columns = ("format", "device", "predicted, ms", "interval, ms", "measured, ms", "")
    rows = []
    for record, one in compared:
        state = {True: "inside", False: "outside", None: ""}[one.is_inside]
        rows.append(
            [
                (record.format, ""),
                (one.device, ""),
                (f"{one.predicted_ms:.4g}", ""),
                (one.interval or "-", ""),
                (_number(one.measured_ms, ".4g"), ""),
                (one.verdict, state),
            ]
        )
    return _table(columns, rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[_Cell]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{state}">{html.escape(text)}</td>'
            if state
            else f"<td>{html.escape(text)}</td>"
            for text, state in row
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="exports"><tr>{head}</tr>{body}</table></div>'


def _picture(compared: Sequence[tuple[ExportRecord, Comparison]]) -> str:
    """Predictions with their intervals, and measured times where they can be compared."""
    figure, axes = plots.panels(height=1.1 + 0.45 * len(compared))
    places = np.arange(len(compared))[::-1]
    for place, (_, one) in zip(places, compared, strict=True):
        if one.low_ms is not None and one.high_ms is not None and np.isfinite(one.high_ms):
            ends = [one.low_ms, one.high_ms]
            axes.plot(ends, [place, place], color="#a0aec0", linewidth=5, solid_capstyle="butt")
    predicted = [one.predicted_ms for _, one in compared]
    axes.plot(predicted, places, "o", color=plots.COLOURS[0], label="predicted, with interval")
    pairs = zip(places, compared, strict=True)
    measured = [(one.measured_ms, place) for place, (_, one) in pairs if one.measured_ms]
    if measured:
        axes.plot(*zip(*measured, strict=True), "D", color=plots.COLOURS[1], label="measured")
    axes.set_yticks(places, [f"{record.format}, {one.device}" for record, one in compared])
    axes.set_ylim(-0.7, len(compared) - 0.3)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms")
    axes.legend(fontsize=8, frameon=False)
    return inline_svg(plots.text(figure))
