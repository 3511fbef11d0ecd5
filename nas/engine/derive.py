"""From a trained supernet and its policy to one architecture."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Container, Iterable
from typing import Any, NamedTuple

import numpy as np

import search_spaces
from nas.data.order import batch_indices
from nas.engine.finalists import SuccessiveHalving
from nas.engine.planning import Plan
from nas.engine.repair import FeasibilityRepair, feasible_candidates
from nas.engine.step import Search
from nas.host.progress import SILENT, Progress
from nas.model.network import Arrays
from nas.run.folder import STANDALONE_ACCURACY, SUPERNET_ACCURACY
from nas.searchers.base import Vector
from nas.searchers.host import SEARCHERS
from search_spaces import ArchSpec, CostRecord, Provenance, files

_AT_ONCE = 8  # architectures that a searcher proposes before it is told their rewards
_TRIES = 8  # proposals for each of them: repair takes many to the same network


class Candidates(NamedTuple):
    """Evaluated architectures.

    Attributes:
      pool: [n, decisions] int32.
      quality: [n] held-out accuracy inside the supernet, 0..1.
      rewards: [n].
      images: Held-out images that each was evaluated on.
    """

    pool: np.ndarray
    quality: np.ndarray
    rewards: np.ndarray
    images: int


def derive(
    plan: Plan,
    search: Search,
    params: Arrays,
    policy: Any,
    *,
    seconds: float = 0.0,
    finalists: SuccessiveHalving | None = None,
    progress: Progress = SILENT,
) -> ArchSpec:
    """The best architecture.

    Of the candidates that meet the targets, the one of the highest held-out reward.

    Writes all candidates into the plan's folder.

    Args:
      plan: One of `Plan.sub_plans`.
      search: Functions of the stage.
      params: Weights of the supernet.
      policy: State of the policy that was trained for these targets.
      seconds: Duration of the stage; 0 for an architecture that is derived again.
      finalists: Trains the best candidates one by one, and that decides.
      progress: Where progress goes: evaluated architectures, of random search and evolution.

    Returns:
      The architecture with its provenance.
    """
    most_likely = search.policy.most_likely(policy)
    if plan.config.derive.by == "policy":
        candidates = _by_policy(plan, search, params, policy, most_likely)
    else:
        candidates = _by_searcher(plan, search, params, progress)
    _write_candidates(plan, candidates)
    order = np.argsort(-candidates.rewards, kind="stable")
    winner = int(order[0])
    metrics: dict[str, float] = {}
    if finalists:
        position, accuracy = finalists.best(candidates.pool[order], plan.objective.value)
        winner = int(order[position])
        metrics = {
            STANDALONE_ACCURACY: round(accuracy, 4),
            "trainings": float(finalists.rounds),
            "finalists": float(min(finalists.count, len(candidates.pool))),
        }
    vector = plan.space.canonical(candidates.pool[winner].tolist())
    spec = search_spaces.freeze(plan.space, vector, name=f"{plan.config.name}-{plan.stage}")
    provenance = Provenance(
        stage=plan.stage,
        space=plan.record.space,
        seed=plan.config.seed,
        config_hash=plan.record.config_hash,
        dataset_hash=plan.record.dataset_hash,
        metrics={
            SUPERNET_ACCURACY: round(float(candidates.quality[winner]), 4),
            "reward": round(float(candidates.rewards[winner]), 4),
            "images": float(candidates.images),
            "candidates": float(len(candidates.pool)),
            **metrics,
        },
        cost=_costs(plan, candidates.pool[winner], np.array(most_likely)),
        decisions=plan.space.mapping(vector),
        versions=plan.record.versions,
        seconds=round(seconds, 1),
    )
    return spec.model_copy(update={"found": provenance})


def _costs(plan: Plan, winner: np.ndarray, most_likely: np.ndarray) -> dict[str, CostRecord]:
    costs = plan.objective.costs
    pairs = zip(costs(winner), costs(most_likely), strict=True)
    return {
        target.device.name: CostRecord(
            value=float(f"{cost:.6g}"),
            target=target.value,
            unit=target.device.unit,
            most_likely=float(f"{before:.6g}"),
        )
        for target, (cost, before) in zip(plan.objective.targets, pairs, strict=True)
    }


def _write_candidates(plan: Plan, candidates: Candidates) -> None:
    """One row an architecture, the best first.

    For the report, and for people who want another one.
    """
    costs = plan.objective.costs(candidates.pool)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    devices = [target.device.name for target in plan.objective.targets]
    decisions = [decision.name for decision in plan.space.decisions]
    writer.writerow(["reward", "accuracy", *devices, *decisions])
    for row in np.argsort(-candidates.rewards, kind="stable"):
        scores = [f"{candidates.rewards[row]:.5f}", f"{candidates.quality[row]:.5f}"]
        labels = plan.space.labels(candidates.pool[row].tolist()).values()
        writer.writerow([*scores, *(f"{cost:.6g}" for cost in costs[row]), *labels])
    files.write_atomically(plan.folder.candidates, text.getvalue())


def _by_policy(
    plan: Plan, search: Search, params: Arrays, policy: Any, most_likely: Vector
) -> Candidates:
    probabilities = np.asarray(search.policy.probabilities(policy))
    pool = feasible_candidates(
        plan.objective,
        np.log(np.maximum(probabilities, 1e-30)),
        most_likely,
        survivors=plan.config.derive.survivors,
    )
    return _evaluate(plan, search, params, pool)


def _by_searcher(plan: Plan, search: Search, params: Arrays, progress: Progress) -> Candidates:
    """Architectures that a searcher proposes, which is told the rewards of the earlier ones.

    No network is evaluated twice; a searcher that proposes no new ones has exhausted what it can
    reach.
    """
    # A stream of its own: `diagnose` draws from Random(seed), and what a found network is compared
    # with must not be
    # what it was chosen from.
    rng = random.Random(f"derive {plan.seed}")
    settings = plan.config.derive
    repair = FeasibilityRepair(plan.objective)
    searcher = SEARCHERS.get(settings.by)(plan.space, repair, rng)
    batches: list[Candidates] = []
    known: set[Vector] = set()
    while (left := settings.evaluations - len(known)) > 0:
        proposals = (plan.space.canonical(searcher.ask()) for _ in range(_TRIES * _AT_ONCE))
        new = _first_new(proposals, known, min(left, _AT_ONCE))
        if not new:
            break
        known.update(new)
        batches.append(_evaluate(plan, search, params, np.array(new, np.int32)))
        for vector, reward in zip(new, batches[-1].rewards.tolist(), strict=True):
            searcher.tell(vector, reward)
        best = max(batch.rewards.max() for batch in batches)
        progress.update(len(known), f"best reward {best:.3f}")
    pool = np.concatenate([batch.pool for batch in batches])
    quality = np.concatenate([batch.quality for batch in batches])
    rewards = np.concatenate([batch.rewards for batch in batches])
    missed = plan.objective.miss(pool)
    # Where nothing meets the targets: the architectures that come closest.
    kept = missed <= max(settings.tolerance, missed.min())
    return Candidates(pool[kept], quality[kept], rewards[kept], batches[0].images)


def _first_new(proposals: Iterable[Vector], known: Container[Vector], count: int) -> list[Vector]:
    """The first `count` different vectors that are not known.

    No more are proposed than that takes.
    """
    new: dict[Vector, None] = {}
    for vector in proposals:
        if vector not in known:
            new[vector] = None
        if len(new) == count:
            break
    return list(new)


def _evaluate(plan: Plan, search: Search, params: Arrays, pool: np.ndarray) -> Candidates:
    quality, images = score(plan, search, params, pool, plan.config.derive.images)
    return Candidates(pool, quality, plan.objective.value(quality, pool), images)


def score(
    plan: Plan, search: Search, params: Arrays, pool: np.ndarray, most: int
) -> tuple[np.ndarray, int]:
    """Held-out accuracy of architectures inside the supernet, with batch statistics.

    All are evaluated on the same images.

    Args:
      plan: Plan of the stage.
      search: Functions of the stage.
      params: Weights of the supernet.
      pool: [n, decisions] int32.
      most: Largest number of images; the next lower multiple of the validation batch is taken.

    Returns:
      Accuracies [n] float64, and the number of images that they are of.
    """
    data, replicas = plan.dataset.validation, search.replicas
    size = min(plan.config.search.validation_batch, len(data))
    batches = max(min(most, len(data)) // size, 1)
    # The last group is filled up with the first architectures.
    shape = (-(-len(pool) // replicas.count), replicas.count, pool.shape[1])
    groups = np.resize(pool, shape)
    total = np.zeros(groups.shape[:2])
    for number in range(batches):
        examples = data.read(batch_indices(len(data), size, number, plan.seed))
        images, reference = (
            replicas.shard(np.broadcast_to(values, (replicas.local_count, *values.shape)))
            for values in (examples.images, plan.task.reference(examples))
        )
        scores = [
            search.jitted_score(params, images, reference, replicas.replicate(group))
            for group in groups
        ]
        total += np.array(scores) / batches
    return total.reshape(-1)[: len(pool)], batches * size
