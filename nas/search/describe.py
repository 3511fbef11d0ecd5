"""What a search says to people, as plain text."""

from __future__ import annotations

import collections
import pathlib

import search_spaces
from latency_tables import cost_model
from nas.report import layers
from nas.search import planning
from nas.search.planning import Plan
from search_spaces import ArchSpec, yaml_io


def headline(plan: Plan, where: str) -> str:
    """One line: what is about to run, and where its files will be."""
    goals = ", ".join(target.text for target in plan.targets)
    space = f"{plan.space.name} of {plan.space.size:.2e} decision vectors"
    return f"{plan.stage} stage: {space}, target {goals}, in {where}"


def plan(plan: Plan) -> str:
    """The resolved configuration, the space, and what can be reached."""
    lines = [yaml_io.to_yaml(plan.config, defaults=True).rstrip(), ""]
    lines.append(f"space {plan.space.name}: {len(plan.space.decisions)} decisions, {plan.space.size:.3e} vectors")
    width = max(len(decision.name) for decision in plan.space.decisions)
    lines += [f"  {decision.name:{width}}  {', '.join(decision.labels)}" for decision in plan.space.decisions]
    for goal in plan.goals:
        missed, nearest = planning.closest(goal)
        for place, target in enumerate(goal.targets):
            low, high = goal.costs.range(place)
            unit = target.device.unit
            lines.append(
                f"target {target.text}: reachable, the space goes from {low:.4g} to {high:.4g} {unit}; "
                f"an architecture at {nearest[place]:.4g} is known"
            )
        if len(goal.targets) > 1:
            lines.append(f"all targets together: one architecture is within {missed:.2%} of each")
    lines += filled_in(plan)
    largest = search_spaces.freeze(plan.space, [d.largest for d in plan.space.decisions], f"{plan.space.name}-largest")
    lines += ["", "the largest network of the space:", layers.text(largest), ""]
    data = plan.dataset
    parts = ", ".join(f"{name} {len(split)}" for name, split in data.splits().items())
    lines.append(f"data {data.name}: {parts} images; fingerprint {data.fingerprint[:16]}")
    return "\n".join(lines)


def filled_in(plan: Plan) -> list[str]:
    """A line a device whose table lacks operations of the space, for which its declared fallback answers."""
    ops, lines = cost_model.operations(plan.space), []
    for target in plan.targets:
        missing = target.device.missing(ops)
        if missing:
            kinds = ", ".join(
                f"{count} {kind}" for kind, count in collections.Counter(op.kind for op in missing).items()
            )
            lines.append(
                f"{target.device.name}: {len(missing)} of {len(ops)} operations of the space have no row in its table "
                f"and are estimated ({kinds}); to measure them: nas-latency measure"
            )
    return lines


def result(spec: ArchSpec, path: pathlib.Path | str) -> str:
    """The found architecture and where it lies, in a few lines."""
    found = spec.found
    assert found is not None
    lines = [f"found {spec.name}: {path}"]
    for name, cost in found.cost.items():
        miss = cost.value / cost.target - 1
        lines.append(f"  {name}: {cost.value:.4g} {cost.unit}, target {cost.target:.4g} ({miss:+.1%})")
    lines.append(f"  {search_spaces.macs(spec) / 1e6:.1f} M MACs, {search_spaces.params(spec) / 1e3:.0f} k parameters")
    accuracy = found.quality["supernet_validation_accuracy"]
    trained = found.quality.get(planning.TRAINED_ALONE)
    alone = "" if trained is None else f", {trained:.3f} trained alone"
    took = f"; {found.seconds:.0f} s" if found.seconds else ""  # a derived one took no search of its own
    lines.append(f"  held-out accuracy {accuracy:.3f} inside the supernet{alone}{took}")
    return "\n".join(lines)
