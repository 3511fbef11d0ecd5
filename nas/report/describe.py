"""Descriptions of a search and of its result, as plain text."""

from __future__ import annotations

import collections
import pathlib
from typing import TYPE_CHECKING

import search_spaces
from latency_tables import cost_model
from nas.engine.repair import nearest_feasible
from nas.report import layers
from nas.report.compare import measured
from nas.run.folder import STANDALONE_ACCURACY, SUPERNET_ACCURACY
from search_spaces import ArchSpec, yaml_io

if TYPE_CHECKING:  # loads JAX
    from nas.engine.planning import Plan


def headline(plan: Plan, folder: str) -> str:
    """Stage, space, targets and folder of a search in one line.

    Args:
      plan: Plan of the stage.
      folder: Name of the folder that gets its files.

    Returns:
      The line.
    """
    targets = ", ".join(map(str, plan.objective.targets))
    space = f"{plan.space.name} of {plan.space.size:.2e} decision vectors"
    return f"{plan.stage} stage: {space}, target {targets}, in {folder}"


def plan(plan: Plan) -> str:
    """The resolved configuration, the space, what can be reached in it, and the data.

    Args:
      plan: Plan of the stage.

    Returns:
      Lines of text.
    """
    space, data = plan.space, plan.dataset
    lines = [yaml_io.to_yaml(plan.config, defaults=True).rstrip(), ""]
    lines.append(f"space {space.name}: {len(space.decisions)} decisions, {space.size:.3e} vectors")
    width = max(len(decision.name) for decision in space.decisions)
    lines += [
        f"  {decision.name:{width}}  {', '.join(decision.labels)}" for decision in space.decisions
    ]
    for sub_plan in plan.sub_plans:
        lines += _feasibility(sub_plan)
    lines += filled_in(plan)
    vector = [decision.largest for decision in space.decisions]
    largest = search_spaces.freeze(space, vector, f"{space.name}-largest")
    lines += ["", "the largest network of the space:", layers.text(largest), ""]
    sizes = ", ".join(f"{name} {len(split)}" for name, split in data.splits().items())
    lines.append(f"data {data.name}: {sizes} images; fingerprint {data.fingerprint[:16]}")
    return "\n".join(lines)


def _feasibility(plan: Plan) -> list[str]:
    """A line for each target, and one for all of them together if there are several."""
    objective = plan.objective
    missed, nearest = nearest_feasible(objective, plan.seed)
    lines = []
    for index, target in enumerate(objective.targets):
        low, high = objective.costs.range(index)
        unit = target.device.unit
        lines.append(
            f"target {target} is feasible: costs range from {low:.4g} to {high:.4g} {unit}; "
            f"closest architecture found: {nearest[index]:.4g} {unit}"
        )
    if len(objective.targets) > 1:
        lines.append(
            f"all targets together: the closest architecture found is within {missed:.2%} of each"
        )
    return lines


def filled_in(plan: Plan) -> list[str]:
    """Operations that the tables of the targets' devices lack, and that are estimated instead.

    Args:
      plan: Plan of the stage.

    Returns:
      A line for each device with missing operations.
    """
    ops, lines = cost_model.operations(plan.space), []
    for target in plan.objective.targets:
        missing = target.device.missing(ops)
        if missing:
            counts = collections.Counter(op.kind for op in missing)
            kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            lines.append(
                f"{target.device.name}: {len(missing)} of {len(ops)} operations of the space have "
                f"no row in its table and are estimated ({kinds}); "
                "to measure them run `nas-latency measure`"
            )
    return lines


def result(spec: ArchSpec, path: pathlib.Path | str) -> str:
    """The found architecture, its costs and its accuracy.

    Args:
      spec: Found architecture, with its provenance.
      path: Its file, as the user knows it.

    Returns:
      Lines of text.
    """
    found = spec.found
    assert found is not None
    lines = [f"found {spec.name}: {path}"]
    for name, cost in found.cost.items():
        miss = cost.value / cost.target - 1
        lines.append(
            f"  {name}: {cost.value:.4g} {cost.unit}, target {cost.target:.4g} ({miss:+.1%})"
        )
    lines.append(
        f"  {search_spaces.macs(spec) / 1e6:.1f} M MACs, "
        f"{search_spaces.params(spec) / 1e3:.0f} k parameters"
    )
    accuracy = f"held-out accuracy {measured(spec, SUPERNET_ACCURACY):.3f} inside the supernet"
    trained = found.metrics.get(STANDALONE_ACCURACY)
    standalone = "" if trained is None else f", {trained:.3f} stand-alone"
    # 0: derived again, without a search.
    seconds = f"; {found.seconds:.0f} s" if found.seconds else ""
    lines.append(f"  {accuracy}{standalone}{seconds}")
    return "\n".join(lines)
