"""Report of a ranking diagnosis: text for a terminal, a picture."""

from __future__ import annotations

import pathlib

import numpy as np

from latency_tables import csv_files
from nas.engine.ranking import Diagnosis, RankAgreement
from nas.report import plots
from nas.run.folder import DiagnosisFolder

_CEILING = "two trainings"


def text(diagnosis: Diagnosis) -> str:
    """The verdict and the figures behind it.

    Args:
      diagnosis: The diagnosis.

    Returns:
      Lines of text.
    """
    width = max(map(len, (*diagnosis.estimates, _CEILING)))
    near = f"among {diagnosis.near_pairs} pairs of nearly equal cost"
    lines = [
        diagnosis.verdict,
        f"{diagnosis.networks} networks, {diagnosis.seeds} trainings each; "
        "intervals: 95 %, bootstrap over networks",
        f"{'':{width}}  {'Kendall':19}  {'Spearman':19}  {near}",
    ]
    rows: dict[str, RankAgreement] = {
        **({_CEILING: diagnosis.ceiling} if diagnosis.ceiling else {}),
        **diagnosis.estimates,
    }
    for name, row in rows.items():
        cells = f"{row.kendall!s:19}  {row.spearman!s:19}  {row.near}"
        lines.append(f"{name:{width}}  {cells}")
    lines.append(f"Kendall of the supernet minus that of MACs: {diagnosis.gain}")
    regrets = ", ".join(f"{value:.3f} for the top {k}" for k, value in diagnosis.regret.items())
    lines.append(f"accuracy lost by training only the supernet's best: {regrets}")
    # Without agreement of the trainings, a bias cannot be told from noise.
    if diagnosis.ceiling and diagnosis.ceiling.spearman.value > 0:
        lines.append(f"bias towards wide networks beyond noise, 0 for none: {diagnosis.bias}")
    return "\n".join(lines)


def write(folder: DiagnosisFolder) -> list[pathlib.Path]:
    """Draw the accuracies of a diagnosis, from its files.

    Args:
      folder: Files of the diagnosis.

    Returns:
      The files that were written.
    """
    rows = csv_files.read(folder.architectures, ("supernet", "MACs", "seed_0"), others=True)
    seeds = [name for name in rows[0].cells if name.startswith("seed_")]
    supernet = np.array([row.share("supernet") for row in rows])
    trained = np.array([[row.share(name) for name in seeds] for row in rows])
    macs = np.array([row.nonnegative("MACs", "") for row in rows]) / 1e6
    figure, axes = plots.panels(width=9.0, height=4.0, columns=2)
    for panel, x, label in (
        (axes[0], supernet, "accuracy inside the supernet"),
        (axes[1], macs, "10^6 MACs"),
    ):
        panel.vlines(x, trained.min(1), trained.max(1), color="#a0aec0", linewidth=1)
        points = panel.scatter(x, trained.mean(1), c=macs, s=18, cmap="viridis", zorder=2)
        panel.set_xlabel(label)
        panel.set_ylabel("stand-alone held-out accuracy")
    figure.colorbar(points, ax=axes, label="10^6 MACs")
    plots.save(figure, folder.picture)
    return [folder.picture]
