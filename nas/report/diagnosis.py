"""What a ranking diagnosis says: text for a terminal, a picture."""

from __future__ import annotations

import csv
import pathlib

import numpy as np

from nas.report import plots
from nas.search.diagnose import RANKED
from nas.search.ranking import Agreement, Diagnosis

PICTURE = "ranking.svg"


def text(found: Diagnosis) -> str:
    """The verdict, and the figures behind it."""
    width = max(map(len, (*found.estimates, "two trainings")))
    lines = [
        found.verdict,
        f"{found.networks} networks, {found.seeds} trainings each; intervals: 95 %, bootstrap over networks",
        f"{'':{width}}  Kendall              Spearman             among {found.near_pairs} pairs of nearly equal cost",
    ]
    rows: dict[str, Agreement] = {**({"two trainings": found.ceiling} if found.ceiling else {}), **found.estimates}
    for name, row in rows.items():
        lines.append(f"{name:{width}}  {row.kendall.text:19}  {row.spearman.text:19}  {row.near.text}")
    lines.append(f"Kendall of the supernet less that of MACs: {found.gain.text}")
    regrets = ", ".join(f"{value:.3f} of the first {k}" for k, value in found.regret.items())
    lines.append(f"accuracy lost by training only the supernet's first: {regrets}")
    if found.ceiling and found.ceiling.spearman.value > 0:  # else nothing is known that noise could be told from
        lines.append(f"bias towards wide networks beyond noise, 0 for none: {found.bias.text}")
    return "\n".join(lines)


def write(folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw what the folder of a diagnosis holds; returns the files."""
    with (folder / RANKED).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seeds = [name for name in rows[0] if name.startswith("seed_")]
    supernet = np.array([float(row["supernet"]) for row in rows])
    trained = np.array([[float(row[name]) for name in seeds] for row in rows])
    macs = np.array([float(row["MACs"]) for row in rows])
    figure, axes = plots.panels(width=9.0, height=4.0, columns=2)
    for panel, x, name in ((axes[0], supernet, "accuracy inside the supernet"), (axes[1], macs / 1e6, "10^6 MACs")):
        panel.vlines(x, trained.min(1), trained.max(1), color="#a0aec0", linewidth=1)
        points = panel.scatter(x, trained.mean(1), c=macs / 1e6, s=18, cmap="viridis", zorder=2)
        panel.set_xlabel(name)
        panel.set_ylabel("held-out accuracy when trained alone")
    figure.colorbar(points, ax=axes, label="10^6 MACs")
    plots.save(figure, folder / PICTURE)
    return [folder / PICTURE]
