"""Trial of a teacher: a table, a contact sheet and a page of its answers."""

from __future__ import annotations

import html

import numpy as np

from nas.data import codec
from nas.distillation.trial import Trial
from nas.host.terminal import one_line
from nas.report import distil
from nas.report.page import document

_TOP = 3  # classes of the teacher that are named


def text(trial: Trial) -> str:
    """A line for each image: label, the most likely classes, and a mark where they differ.

    Args:
      trial: The trial.
    """
    rows = [("label", "", *["teacher", "", ""][:_TOP])]
    for sample in _samples(trial):
        differs = bool(sample.label and sample.top) and sample.top[0][0] != sample.label
        top = [f"{value:.3f} {one_line(name)}" for name, value in sample.top]
        top += [""] * (_TOP - len(top))
        rows.append((one_line(sample.label) or "-", "x" if differs else " ", *top))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "x: the most likely class is not the label", *_lines(trial)])


def sheet(trial: Trial) -> bytes:
    """A contact sheet as PNG.

    Args:
      trial: The trial.
    """
    return distil.sheet(_samples(trial))


def page(source: str, trial: Trial) -> str:
    """A page with the images.

    Args:
      source: The source as given.
      trial: The trial.
    """
    title = f"{one_line(trial.name)} on {one_line(source)}"
    lines = html.escape("\n".join(_lines(trial)))
    body = (
        f"<h1>{html.escape(title)}</h1>\n<pre>{lines}</pre>\n"
        "<p>The label, and below it the most likely classes of the teacher.</p>\n"
        f"{distil.figures(_samples(trial))}"
    )
    return document(title, body, distil.STYLE)


def _lines(trial: Trial) -> list[str]:
    contradiction = [f"refused: {trial.contradiction}"] if trial.contradiction else []
    return [one_line(line) for line in (*trial.lines, *contradiction)]


def _samples(trial: Trial) -> list[distil.Sample]:
    found = []
    for row, (image, label) in enumerate(zip(trial.images, trial.labels.tolist(), strict=True)):
        top: tuple[tuple[str, float], ...] = ()
        if len(trial.probabilities):
            values = trial.probabilities[row]
            order = np.argsort(-values, kind="stable")[:_TOP].tolist()
            top = tuple((trial.class_names[i], float(values[i])) for i in order)
        name = trial.class_names[label] if label >= 0 else ""
        found.append(distil.Sample(codec.to_array(image), name, top))
    return found
