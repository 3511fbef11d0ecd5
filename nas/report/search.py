"""Report of a search: one HTML file for each stage, without scripts or network access.

It is made from the files of a stage's folder alone. It can be made again at any time, also of a
run that has not finished.
"""

from __future__ import annotations

import html
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import search_spaces
from latency_tables import Target, csv_files
from latency_tables.kinds import RooflineDevice
from latency_tables.targets import parse_targets
from nas.engine.ranking import Diagnosis
from nas.engine.spaces import space_of
from nas.report import compare, diagnosis, layers, plots
from nas.report.compare import measured
from nas.report.page import document, inline_svg
from nas.run import log
from nas.run.folder import SUPERNET_ACCURACY, DiagnosisFolder, RunFolder, RunRecord, StageFolder
from nas.run.log import read_log
from search_spaces import ArchSpec, Provenance, SearchSpace, files, plain_json, yaml_io

_MET = 0.01  # largest relative miss of a target that counts as met
_CONVERGED = 0.25  # share of the initial entropy below which a policy counts as converged
_CURVES = 8  # most targets whose costs are drawn
_Z = 1.96  # half width of a 95 % interval, in standard errors
_DEFAULT_ROOFLINE = RooflineDevice(
    name="roofline",
    source="arXiv 2404.10518, figures 7-9",
    date="2024-04",
    ridge_point=50.0,
    bandwidth_gb_s=40.0,
)

Rows = Sequence[dict[str, Any]]


class _Result(NamedTuple):
    """One architecture that a stage searches.

    Attributes:
      folder: Files of the architecture.
      targets: Its targets.
      policy: Index of its policy; None where the stage has one for all targets.
    """

    folder: StageFolder
    targets: Sequence[Target]
    policy: int | None


def write(stage: str, workdir: pathlib.Path) -> list[pathlib.Path]:
    """Write the report of a stage.

    Separate targets get a report each, and one more that compares the architectures once all of
    them have been found.

    Args:
      stage: Name of a stage that has begun.
      workdir: Folder of the search.

    Returns:
      The pages that were written.

    Raises:
      ValueError: The folder holds no such stage.
    """
    run = RunFolder(workdir)
    record, supernet = run.read_record(stage), run.stage(stage)
    space = space_of(stage, record.config, workdir)
    targets = [target for text in record.config.targets for target in parse_targets(text)]
    if not record.config.separate:
        return [_write(_Result(supernet, targets, None), supernet, record, space)]
    results = [
        _Result(run.separate(target.device.name).stage(stage), [target], index)
        for index, target in enumerate(targets)
    ]
    written = [
        _write(result, supernet, record, space) for result in results if result.folder.path.exists()
    ]
    if all(result.folder.architecture.exists() for result in results):
        _, page = compare.compare([result.folder.path for result in results])
        files.write_atomically(supernet.page, page)
        written.append(supernet.page)
    return written


def _write(
    result: _Result, supernet: StageFolder, record: RunRecord, space: SearchSpace
) -> pathlib.Path:
    folder, targets, policy = result
    spec = search_spaces.load(folder.architecture) if folder.architecture.exists() else None
    found = spec.found if spec else None
    metrics, probabilities = read_log(supernet.metrics), read_log(supernet.policy)
    ranking = _diagnosis(supernet.diagnosis)
    title = spec.name if spec else f"{record.config.name}: not finished"
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if spec and found:
        parts.append(_verdict(spec, found, metrics, supernet.metrics))
    if ranking:
        parts.append(f"<p>Ranking: {html.escape(ranking.verdict)}.</p>")
    if spec:
        parts += ["<h2>Architecture</h2>", layers.section(spec)]
        parts += [_latency(spec, target) for target in targets]
        parts.append(_roofline(spec, targets))
    if metrics:
        separate = policy is not None
        curves = _curves(metrics, targets, supernet.metrics, separate=separate)
        parts += ["<h2>Search</h2>", curves]
    if folder.candidates.exists() and found:
        parts += ["<h2>Candidates</h2>", _candidates(folder.candidates, found, targets[0])]
    if probabilities:
        parts.append("<h2>Policy probabilities over time</h2>")
        parts.append(_decisions(probabilities, space, policy or 0, supernet.policy))
    if ranking:
        parts.append("<h2>Ranking diagnosis</h2>")
        parts.append(f"<pre>{html.escape(diagnosis.text(ranking))}</pre>")
        picture = supernet.diagnosis.picture
        if picture.exists():
            parts.append(inline_svg(files.read_text(picture)))
    configuration = html.escape(yaml_io.to_yaml(record, defaults=True))
    parts += ["<h2>Configuration</h2>", f"<pre>{configuration}</pre>"]
    files.write_atomically(folder.page, document(title, "\n".join(parts)))
    return folder.page


def _diagnosis(folder: DiagnosisFolder) -> Diagnosis | None:
    if not folder.result.exists():
        return None
    path = folder.result
    data = plain_json.parse(files.read_text(path), str(path), finite=False)
    return yaml_io.validate(data, Diagnosis, str(path))


def _verdict(spec: ArchSpec, found: Provenance, metrics: Rows, path: pathlib.Path) -> str:
    """Costs, accuracy, policy and size, a list item each."""
    items = []
    for name, cost in found.cost.items():
        miss = cost.value / cost.target - 1
        state = "target missed" if miss > 0 else "below the target"
        if abs(miss) <= _MET:
            state = "target met"
        items.append(
            f"<b>{html.escape(f'{name}: {cost.value:.4g} {cost.unit}')}</b>, "
            f"{state} ({cost.target:.4g} {html.escape(cost.unit)}, {miss:+.1%})"
        )
    accuracy, images = measured(spec, SUPERNET_ACCURACY), measured(spec, "images")
    error = _Z * (accuracy * (1 - accuracy) / max(images, 1)) ** 0.5
    items.append(
        f"held-out accuracy {accuracy:.3f} ± {error:.3f} inside the supernet "
        f"({images:.0f} images); the network itself has not been trained"
    )
    if metrics:
        first, last = log.values([metrics[0], metrics[-1]], "entropy", path)
        state = "converged" if last < _CONVERGED * first else "not converged"
        items.append(f"policy {state}: entropy {first:.2f} to {last:.2f} nats per decision")
    items.append(
        f"{search_spaces.macs(spec) / 1e6:.1f} M MACs, "
        f"{search_spaces.params(spec) / 1e3:.0f} k parameters; {found.seconds:.0f} s of search"
    )
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a window of 1/50 of the steps: single steps are noise."""
    window = max(len(values) // 50, 1)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _curves(metrics: Rows, targets: Sequence[Target], path: pathlib.Path, *, separate: bool) -> str:
    """Reward, accuracy, cost and entropy over the steps; of separate targets those of one."""
    steps = np.array([row["step"] for row in metrics])

    def series(name: str) -> np.ndarray:
        of_target = f"{name}/{targets[0].device.name}"
        key = of_target if separate and of_target in metrics[0] else name
        return _smooth(log.values(metrics, key, path))

    figure, axes = plots.panels(width=9.0, height=6.0, rows=2, columns=2)
    for panel, name, label in (
        (axes[0, 0], "reward", "reward"),
        (axes[0, 1], "quality", "held-out accuracy of the sampled architectures"),
        (axes[1, 1], "entropy", "entropy, nats per decision"),
    ):
        panel.plot(steps, series(name), color=plots.COLOURS[0], linewidth=1.3)
        panel.set_title(label, fontsize=10, loc="left")
    panel = axes[1, 0]
    panel.axhline(1, color="#1a202c", linewidth=0.8)
    for target, colour in zip(targets[:_CURVES], plots.COLOURS, strict=False):
        cost = log.values(metrics, f"cost/{target.device.name}", path)
        ratio = _smooth(cost / target.effective_value)
        panel.plot(steps, ratio, color=colour, linewidth=1.3, label=target.device.name)
    panel.set_title("cost of the sampled architectures / target", fontsize=10, loc="left")
    panel.legend(fontsize=8, frameon=False)
    for panel in axes[1]:
        panel.set_xlabel("step")
    return inline_svg(plots.text(figure))


def _shares(rows: Rows, space: SearchSpace, policy: int, path: pathlib.Path) -> list[np.ndarray]:
    """[rows, options] of each decision; raises ValueError for a row of another form."""
    options = [decision.options for decision in space.decisions]
    shares: list[list[list[float]]] = [[] for _ in options]
    for line, row in enumerate(rows, 1):
        policies = row.get("probabilities")
        found = policies[policy] if isinstance(policies, list) and len(policies) > policy else None
        if not isinstance(found, list) or [_length(each) for each in found] != options:
            raise ValueError(
                f"{path}:{line}: probabilities: expected those of the {len(options)} decisions of "
                f"{space.name}"
            )
        for kept, each in zip(shares, found, strict=True):
            kept.append(each)
    return [np.array(each) for each in shares]


def _length(shares: Any) -> int:
    """Number of probabilities; -1 for anything else."""
    if not isinstance(shares, list) or not all(
        isinstance(share, int | float) and 0 <= share <= 1 for share in shares
    ):
        return -1
    return len(shares)


def _decisions(history: Rows, space: SearchSpace, policy: int, path: pathlib.Path) -> str:
    """A small picture for each decision: the probabilities of its options over time, stacked."""
    steps, columns = [row["step"] for row in history], 4
    shares = _shares(history, space, policy, path)
    rows = -(-len(space.decisions) // columns)
    figure, axes = plots.panels(width=9.0, height=1.45 * rows + 0.4, rows=rows, columns=columns)
    flat = np.ravel(axes)
    for index, (panel, decision) in enumerate(zip(flat, space.decisions, strict=False)):
        panel.stackplot(steps, shares[index].T, colors=plots.COLOURS, labels=decision.labels)
        panel.set(ylim=(0, 1), yticks=[], xticks=[steps[-1]])
        panel.margins(x=0)
        panel.set_title(decision.name, fontsize=8, loc="left")
        panel.legend(fontsize=6, loc="lower left", framealpha=0.7, handlelength=0.8, borderpad=0.2)
    for panel in flat[len(space.decisions) :]:
        panel.set_axis_off()
    return inline_svg(plots.text(figure))


def _candidates(path: pathlib.Path, found: Provenance, target: Target) -> str:
    """Accuracy against cost of the evaluated architectures, the best one marked."""
    name, images = target.device.name, max(found.metrics.get("images", 1), 1)
    rows = csv_files.read(path, ("reward", "accuracy", name), others=True)
    cost = np.array([row.nonnegative(name, "") for row in rows])
    accuracy = np.array([row.share("accuracy") for row in rows])
    error = _Z * np.sqrt(accuracy * (1 - accuracy) / images)
    figure, axes = plots.panels(height=4.0)
    style = {"color": plots.COLOURS[0], "ecolor": "#a0aec0", "markersize": 4, "linewidth": 1}
    axes.errorbar(cost, accuracy, error, fmt="o", **style)
    axes.plot(cost[:1], accuracy[:1], "o", color=plots.COLOURS[1], markersize=8, label="found")
    axes.axvline(target.effective_value, color="#1a202c", linewidth=0.8, label="target")
    axes.set_xlabel(f"{name}, {target.device.unit}")
    axes.set_ylabel("held-out accuracy inside the supernet")
    axes.legend(fontsize=8, frameon=False)
    note = (
        f"Architectures evaluated at the end: {len(rows)}. Bars: 95 % intervals over "
        f"{images:.0f} images."
    )
    return f"<p>{note}</p>" + inline_svg(plots.text(figure))


def _latency(spec: ArchSpec, target: Target) -> str:
    """Cost of each block."""
    ops = search_spaces.lower(spec)
    estimate, blocks = target.device.estimate(ops), np.array([op.block for op in ops])
    names = [f"{index} {block.kind}" for index, block in enumerate(spec.blocks)]
    values = np.array([estimate.per_op[blocks == index].sum() for index in range(len(names))])
    figure, axes = plots.panels(height=0.9 + 0.22 * len(names))
    positions = np.arange(len(names))[::-1]
    axes.barh(positions, values, color=plots.COLOURS[0], height=0.7)
    axes.set_yticks(positions, names, fontsize=8)
    interval = ""
    if estimate.low is not None:
        interval = f", {estimate.level:.0%} interval {estimate.low:.4g} to {estimate.high:.4g}"
    title = f"{target.device.name}: {estimate.value:.4g} {estimate.unit}{interval}, by block"
    axes.set_title(title, fontsize=10, loc="left")
    return inline_svg(plots.text(figure))


def _roofline(spec: ArchSpec, targets: Sequence[Target]) -> str:
    """Speed of every operation over its operational intensity, with the roof if there is one.

    On the first target in ms; without such a target on the paper's default roofline.
    """
    in_ms = (target.device for target in targets if target.device.unit == "ms")
    device = next(in_ms, _DEFAULT_ROOFLINE)
    ops = search_spaces.lower(spec)
    timed = [
        (op, ms)
        for op, ms in zip(ops, device.estimate(ops).per_op, strict=True)
        if op.macs and ms > 0
    ]
    longest = max(ms for _, ms in timed)
    figure, axes = plots.panels(height=4.0)
    for index, role in enumerate(dict.fromkeys(op.role for op, _ in timed)):
        of_role = [(op, ms) for op, ms in timed if op.role == role]
        axes.scatter(
            [op.intensity for op, _ in of_role],
            [op.macs / ms / 1e6 for op, ms in of_role],
            s=[10 + 90 * ms / longest for _, ms in of_role],
            color=plots.COLOURS[index % len(plots.COLOURS)],
            alpha=0.75,
            label=role,
        )
    plots.logarithmic(axes)
    if isinstance(device, RooflineDevice) and device.ridge_point:
        left, right = axes.get_xlim()
        x = np.geomspace(left, right, 50)
        speed = np.minimum(x / device.element_bytes, device.ridge_point) * device.bandwidth_gb_s
        label = f"roof, ridge {device.ridge_point:g}"
        axes.plot(x, speed, color="#1a202c", linewidth=1, zorder=0, label=label)
    title = f"{device.name}: speed of every operation; area: its time"
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("operational intensity, MACs/byte")
    axes.set_ylabel("10^9 MACs/s")
    axes.legend(fontsize=7, frameon=False, ncols=2)
    return inline_svg(plots.text(figure))
