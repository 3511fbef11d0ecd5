"""The report of a search: one HTML file for each stage, without scripts or network, readable on a phone.

It is made from the files of a stage's folder alone, so it can be made again at any time, also of an unfinished run.
"""

from __future__ import annotations

import csv
import html
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import latency_tables
import search_spaces
from latency_tables.kinds import RooflineDevice
from nas.report import compare, diagnosis, layers, plots
from nas.report.page import inline, page
from nas.run.config import Stage
from nas.run.log import read_log
from nas.run.targets import parse_targets
from nas.search import planning
from nas.search.derive import CANDIDATES
from nas.search.diagnose import FOLDER, RESULT
from nas.search.loop import METRICS, POLICY
from nas.search.ranking import Diagnosis
from search_spaces import ArchSpec, Found, SearchSpace, yaml_io

PAGE = "report.html"
_MISS = 0.01  # of the target that counts as met
_DEFAULT_ROOFLINE = RooflineDevice(
    name="roofline", source="arXiv 2404.10518, figures 7-9", date="2024-04", ridge_point=50.0, bandwidth_gb_s=40.0
)


def write(stage: Stage, workdir: pathlib.Path) -> list[pathlib.Path]:
    """Write the report of a stage; of separate targets one for each, and one that compares what was found.

    Raises:
      ValueError: the folder holds no such stage.
    """
    folder = workdir / stage
    record = planning.read_record(stage, workdir)
    space = planning.space_of(stage, record.config, workdir)
    targets = [target for text in record.config.targets for target in parse_targets(text)]
    if not record.config.separate:
        return [_write(folder, folder, record, space, targets, None)]
    folders = [(workdir / target.device.name / stage, target) for target in targets]
    found = [(number, own, target) for number, (own, target) in enumerate(folders) if own.exists()]
    written = [_write(folder, own, record, space, [target], number) for number, own, target in found]
    if all((own / planning.RESULT).exists() for own, _ in folders):
        yaml_io.write_atomically(folder / PAGE, compare.compare([own for own, _ in folders])[1])
        written.append(folder / PAGE)
    return written


def _write(
    shared: pathlib.Path,
    own: pathlib.Path,
    record: planning.RunRecord,
    space: SearchSpace,
    targets: Sequence[latency_tables.Target],
    number: int | None,
) -> pathlib.Path:
    path = own / planning.RESULT
    spec = search_spaces.load(path) if path.exists() else None
    found = spec.found if spec else None
    metrics, policy = read_log(shared / METRICS), read_log(shared / POLICY)
    title = spec.name if spec else f"{record.config.name}: not finished"
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if spec and found:
        parts.append(_verdict(spec, found, metrics))
    known = _diagnosis(shared / FOLDER)
    if known:
        parts.append(f"<p>Ranking: {html.escape(known.verdict)}.</p>")
    if spec:
        parts += ["<h2>The network</h2>", layers.section(spec)]
        for target in targets:
            parts.append(_latency(spec, target))
        parts.append(_roofline(spec, targets))
    if metrics:
        parts += ["<h2>The search</h2>", _curves(metrics, targets, number)]
    if (own / CANDIDATES).exists() and found:
        parts += ["<h2>Candidates</h2>", _pareto(own / CANDIDATES, found, targets)]
    if policy:
        parts += ["<h2>What the policy came to prefer</h2>", _decisions(policy, space, number or 0)]
    if known:
        parts.append("<h2>Can the ranking be trusted?</h2>")
        parts.append(f"<pre>{html.escape(diagnosis.text(known))}</pre>")
        picture = shared / FOLDER / diagnosis.PICTURE
        if picture.exists():
            parts.append(inline(picture.read_text(encoding="utf-8")))
    parts += ["<h2>What was run</h2>", f"<pre>{html.escape(yaml_io.to_yaml(record, defaults=True))}</pre>"]
    yaml_io.write_atomically(own / PAGE, page(title, "\n".join(parts)))
    return own / PAGE


def _diagnosis(folder: pathlib.Path) -> Diagnosis | None:
    path = folder / RESULT
    return Diagnosis.model_validate(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _verdict(spec: ArchSpec, found: Found, metrics: Sequence[dict[str, Any]]) -> str:
    """What a reader in a hurry wants to know."""
    lines = []
    for name, cost in found.cost.items():
        miss = cost.value / cost.target - 1
        met = "target met" if abs(miss) <= _MISS else "target missed" if miss > 0 else "below the target"
        goal = f"{cost.target:.4g} {cost.unit}, {miss:+.1%}"
        lines.append(f"<b>{html.escape(name)}: {cost.value:.4g} {cost.unit}</b>, {met} ({goal})")
    quality, images = found.quality["supernet_validation_accuracy"], found.quality["images"]
    error = 1.96 * (quality * (1 - quality) / max(images, 1)) ** 0.5
    lines.append(
        f"held-out accuracy {quality:.3f} ± {error:.3f} inside the supernet ({images:.0f} images); the network itself "
        "is still to be trained"
    )
    if metrics:
        first, last = metrics[0]["entropy"], metrics[-1]["entropy"]
        sure = "has made up its mind" if last < 0.25 * first else "is still undecided in part"
        lines.append(f"the policy {sure}: entropy {first:.2f} to {last:.2f} nats a decision")
    lines.append(
        f"{search_spaces.macs(spec) / 1e6:.1f} M MACs, {search_spaces.params(spec) / 1e3:.0f} k parameters; "
        f"{found.seconds:.0f} s of search"
    )
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a window of 1/50 of the steps: single steps are noise."""
    window = max(len(values) // 50, 1)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _curves(metrics: Sequence[dict[str, Any]], targets: Sequence[latency_tables.Target], number: int | None) -> str:
    steps = np.array([row["step"] for row in metrics])

    def series(name: str) -> np.ndarray:
        own = f"{name}/{targets[0].device.name}"
        key = own if number is not None and own in metrics[0] else name
        return _smooth(np.array([row[key] for row in metrics], float))

    figure, axes = plots.panels(width=9.0, height=6.0, rows=2, columns=2)
    for panel, name, label in (
        (axes[0, 0], "reward", "reward"),
        (axes[0, 1], "quality", "held-out accuracy of what was sampled"),
        (axes[1, 1], "entropy", "entropy, nats a decision"),
    ):
        panel.plot(steps, series(name), color=plots.COLOURS[0], linewidth=1.3)
        panel.set_title(label, fontsize=10, loc="left")
    panel = axes[1, 0]
    panel.axhline(1, color="#1a202c", linewidth=0.8)
    for place, target in enumerate(targets[:8]):
        cost = np.array([row[f"cost/{target.device.name}"] for row in metrics], float) / target.aim
        panel.plot(steps, _smooth(cost), color=plots.COLOURS[place], linewidth=1.3, label=target.device.name)
    panel.set_title("cost of what was sampled / target", fontsize=10, loc="left")
    panel.legend(fontsize=8, frameon=False)
    for panel in axes[1]:
        panel.set_xlabel("step")
    return inline(plots.text(figure))


def _decisions(policy: Sequence[dict[str, Any]], space: SearchSpace, number: int) -> str:
    """A small picture for each decision: the probabilities of its options over time, stacked."""
    steps, columns = [row["step"] for row in policy], 4
    rows = -(-len(space.decisions) // columns)
    figure, axes = plots.panels(width=9.0, height=1.45 * rows + 0.4, rows=rows, columns=columns)
    flat = np.ravel(axes)
    for place, decision in enumerate(space.decisions):
        shares = np.array([row["probabilities"][number][place] for row in policy]).T
        flat[place].stackplot(steps, shares, colors=plots.COLOURS, labels=decision.labels)
        flat[place].set(ylim=(0, 1), yticks=[], xticks=[steps[-1]])
        flat[place].margins(x=0)
        flat[place].set_title(decision.name, fontsize=8, loc="left")
        flat[place].legend(fontsize=6, loc="lower left", framealpha=0.7, handlelength=0.8, borderpad=0.2)
    for panel in flat[len(space.decisions) :]:
        panel.set_axis_off()
    return inline(plots.text(figure))


def _pareto(path: pathlib.Path, found: Found, targets: Sequence[latency_tables.Target]) -> str:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    name, images = targets[0].device.name, max(found.quality["images"], 1)
    cost = np.array([float(row[name]) for row in rows])
    accuracy = np.array([float(row["accuracy"]) for row in rows])
    error = 1.96 * np.sqrt(accuracy * (1 - accuracy) / images)
    figure, axes = plots.panels(height=4.0)
    axes.errorbar(cost, accuracy, error, fmt="o", color=plots.COLOURS[0], ecolor="#a0aec0", markersize=4, linewidth=1)
    axes.plot(cost[:1], accuracy[:1], "o", color=plots.COLOURS[1], markersize=8, label="found")
    axes.axvline(targets[0].aim, color="#1a202c", linewidth=0.8, label="target")
    axes.set_xlabel(f"{name}, {targets[0].device.unit}")
    axes.set_ylabel("held-out accuracy inside the supernet")
    axes.legend(fontsize=8, frameon=False)
    note = f"{len(rows)} architectures were judged at the end; bars: 95 % interval of {images:.0f} images."
    return f"<p>{note}</p>" + inline(plots.text(figure))


def _latency(spec: ArchSpec, target: latency_tables.Target) -> str:
    """What each block of the network costs."""
    ops = search_spaces.lower(spec)
    estimate, blocks = target.device.estimate(ops), np.array([op.block for op in ops])
    names = [f"{place} {block.kind}" for place, block in enumerate(spec.blocks)]
    values = np.array([estimate.per_op[blocks == place].sum() for place in range(len(names))])
    figure, axes = plots.panels(height=0.9 + 0.22 * len(names))
    places = np.arange(len(names))[::-1]
    axes.barh(places, values, color=plots.COLOURS[0], height=0.7)
    axes.set_yticks(places, names, fontsize=8)
    ends = "" if estimate.low is None else f", {estimate.level:.0%} interval {estimate.low:.4g} to {estimate.high:.4g}"
    axes.set_title(
        f"{target.device.name}: {estimate.value:.4g} {estimate.unit}{ends}, by block", fontsize=10, loc="left"
    )
    return inline(plots.text(figure))


def _roofline(spec: ArchSpec, targets: Sequence[latency_tables.Target]) -> str:
    """Speed of every operation over its operational intensity on the first target in ms, and the roof if it has one.

    Without such a target: on the paper's default roofline.
    """
    device = next((target.device for target in targets if target.device.unit == "ms"), _DEFAULT_ROOFLINE)
    every = search_spaces.lower(spec)
    shown = [(op, ms) for op, ms in zip(every, device.estimate(every).per_op, strict=True) if op.macs and ms > 0]
    longest = max(ms for _, ms in shown)
    figure, axes = plots.panels(height=4.0)
    for place, kind in enumerate(dict.fromkeys(op.role for op, _ in shown)):
        own = [(op, ms) for op, ms in shown if op.role == kind]
        axes.scatter(
            [op.intensity for op, _ in own],
            [op.macs / ms / 1e6 for op, ms in own],
            s=[10 + 90 * ms / longest for _, ms in own],
            color=plots.COLOURS[place % len(plots.COLOURS)],
            alpha=0.75,
            label=kind,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    if isinstance(device, RooflineDevice) and device.ridge_point:
        left, right = axes.get_xlim()
        x = np.geomspace(left, right, 50)
        reach = np.minimum(x / device.element_bytes, device.ridge_point) * device.bandwidth_gb_s
        axes.plot(x, reach, color="#1a202c", linewidth=1, zorder=0, label=f"roof, ridge {device.ridge_point:g}")
    axes.set_title(f"{device.name}: speed of every operation; area: its time", fontsize=10, loc="left")
    axes.set_xlabel("operational intensity, MACs/byte")
    axes.set_ylabel("10^9 MACs/s")
    axes.legend(fontsize=7, frameon=False, ncols=2)
    return inline(plots.text(figure))
