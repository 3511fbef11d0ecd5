"""From a trained supernet and its policy to one architecture."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import random
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

import numpy as np

import search_spaces
from nas.data.order import batch_indices
from nas.model.network import Arrays
from nas.policy import repair, searchers
from nas.policy.controller import PolicyState
from nas.policy.searchers import Vector
from nas.search import planning
from nas.search.planning import Plan
from nas.search.steps import Search
from rewards import REWARDS
from search_spaces import ArchSpec, Found, FoundCost, yaml_io

CANDIDATES = "candidates.csv"


@dataclasses.dataclass(frozen=True)
class Finals:
    """Candidates that are trained one by one, because the supernet does not tell them apart surely enough.

    In rounds: all are trained once, the better half of them (two at least) again with another seed, and so on; the mean
    of its trainings speaks for a network. So most trainings are spent where the choice is close.

    Attributes:
      count: how many, those of the best reward in the supernet.
      rounds: trainings of the last ones, 1 at least.
      train: (vectors [n, decisions], seeds) -> held-out accuracy [n, seeds] after training.

    Source: successive halving (arXiv 1502.07943); another seed in the place of a longer training is ours.
    """

    count: int
    rounds: int
    train: Callable[[np.ndarray, int], np.ndarray]

    def best(self, pool: np.ndarray, rewards: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> tuple[int, float]:
        """The place in the pool of the network that is left, and the mean of its accuracies.

        Args:
          pool: [n, decisions], those of the best reward in the supernet first.
          rewards: (vectors [n, decisions], accuracies [n]) -> [n].
        """
        left, accuracies = np.arange(len(pool)), np.zeros(len(pool))
        for seeds, size in enumerate(halves(self.count, self.rounds), start=1):
            left = left[:size]
            accuracies = self.train(pool[left], seeds).mean(1)
            order = np.argsort(-rewards(pool[left], accuracies), kind="stable")
            left, accuracies = left[order], accuracies[order]
        return int(left[0]), float(accuracies[0])


def halves(count: int, rounds: int) -> list[int]:
    """How many are trained in each round: the better half of those before, two at least if there are two."""
    sizes = [count]
    while len(sizes) < rounds:
        sizes.append(min(max(-(-sizes[-1] // 2), 2), count))
    return sizes


Show = Callable[[int, str], None]
"""Told how many candidates are judged, and how it goes."""


def derive(
    plan: Plan,
    search: Search,
    params: Arrays,
    policy: PolicyState,
    seconds: float,
    finals: Finals | None = None,
    show: Show = lambda judged, text: None,
) -> ArchSpec:
    """The found architecture: of the candidates that meet the targets, the one of the best held-out reward.

    Args:
      plan: what is to be found, one of `Plan.goals`.
      search: functions of the stage.
      params: of the supernet.
      policy: that learned for these targets.
      seconds: that the stage took.
      finals: where given, the candidates of the best rewards are trained, and that decides.
      show: of random search and evolution.
    """
    config = plan.config
    best = search.controller.best(policy)
    if config.derive.by == "policy":
        judged = _by_policy(plan, search, params, policy, best)
    else:
        judged = _by_searcher(plan, search, params, show)
    pool, quality, rewards, images = judged
    _write_candidates(plan, pool, quality, rewards)
    order = np.argsort(-rewards, kind="stable")
    winner, trained = int(order[0]), {}
    if finals:
        place, accuracy = finals.best(pool[order], functools.partial(_rewards, plan))
        winner = int(order[place])
        trained = {
            planning.TRAINED_ALONE: round(accuracy, 4),
            "trainings": float(finals.rounds),
            "finalists": float(min(finals.count, len(pool))),
        }
    vector = plan.space.canonical(pool[winner].tolist())
    spec = search_spaces.freeze(plan.space, vector, name=f"{config.name}-{plan.stage}")
    found = Found(
        stage=plan.stage,
        space=plan.record.space,
        seed=config.seed,
        config_hash=plan.record.config_hash,
        dataset_hash=plan.record.dataset_hash,
        quality={
            "supernet_validation_accuracy": round(float(quality[winner]), 4),
            "reward": round(float(rewards[winner]), 4),
            "images": float(images),
            "candidates": float(len(pool)),
            **trained,
        },
        cost={
            target.device.name: FoundCost(
                value=float(f"{cost:.6g}"),
                target=target.value,
                unit=target.device.unit,
                most_likely=float(f"{before:.6g}"),
            )
            for target, cost, before in zip(
                plan.targets, plan.costs(pool[winner]), plan.costs(np.array(best)), strict=True
            )
        },
        decisions=plan.space.mapping(vector),
        versions=plan.record.versions,
        seconds=round(seconds, 1),
    )
    return spec.model_copy(update={"found": found})


def _write_candidates(plan: Plan, pool: np.ndarray, quality: np.ndarray, rewards: np.ndarray) -> None:
    """A row an architecture that was judged, the best first: for the report, and for people who want another one."""
    costs, out = plan.costs(pool), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [target.device.name for target in plan.targets]
    writer.writerow(["reward", "accuracy", *names, *(decision.name for decision in plan.space.decisions)])
    for row in np.argsort(-rewards, kind="stable"):
        labels = plan.space.labels(pool[row].tolist()).values()
        writer.writerow([f"{rewards[row]:.5f}", f"{quality[row]:.5f}", *(f"{c:.6g}" for c in costs[row]), *labels])
    yaml_io.write_atomically(plan.folder / CANDIDATES, out.getvalue())


class Candidates(NamedTuple):
    """Architectures [n, decisions] with held-out accuracy and reward [n] of each, and the images behind them."""

    pool: np.ndarray
    quality: np.ndarray
    rewards: np.ndarray
    images: int


def _by_policy(plan: Plan, search: Search, params: Arrays, policy: PolicyState, best: Vector) -> Candidates:
    settings = plan.config.derive
    probabilities = np.asarray(search.controller.probabilities(policy.logits))
    pool = repair.candidates(
        plan.costs,
        _aims(plan),
        np.log(np.maximum(probabilities, 1e-30)),
        best,
        miss=REWARDS[plan.config.reward.kind].miss,
        tolerance=settings.tolerance,
        survivors=settings.survivors,
    )
    return _judge(plan, search, params, pool)


def _by_searcher(plan: Plan, search: Search, params: Arrays, show: Show) -> Candidates:
    """As many networks as `evaluations` says, proposed by a searcher that sees the rewards of the earlier ones.

    No network is judged twice; a searcher that knows no other ones any more has found what it can.
    """
    # A stream of its own: `diagnose` draws from Random(seed), and what a found network is compared with must not be
    # what it was chosen from.
    settings, rng = plan.config.derive, random.Random(f"derive {plan.seed}")
    near = repair.Near(plan.costs, _aims(plan), REWARDS[plan.config.reward.kind].miss, settings.tolerance)
    searcher = searchers.SEARCHERS[settings.by](plan.space, near, rng)
    judged: list[Candidates] = []
    known: set[Vector] = set()
    while (left := settings.evaluations - len(known)) > 0:
        proposed = (plan.space.canonical(searcher.ask()) for _ in range(_TRIES * _AT_ONCE))
        asked = _first_new(proposed, known, min(left, _AT_ONCE))
        if not asked:
            break
        known.update(asked)
        judged.append(_judge(plan, search, params, np.array(asked, np.int32)))
        for vector, reward in zip(asked, judged[-1].rewards.tolist(), strict=True):
            searcher.tell(vector, reward)
        show(len(known), f"best reward {max(one.rewards.max() for one in judged):.3f}")
    pool, quality, rewards = (np.concatenate(values) for values in list(zip(*judged, strict=True))[:3])
    missed = REWARDS[plan.config.reward.kind].miss(plan.costs(pool) / np.array(_aims(plan)))
    kept = missed <= max(settings.tolerance, missed.min())  # where nothing meets the targets, what comes closest
    return Candidates(pool[kept], quality[kept], rewards[kept], judged[0].images)


def _first_new(proposed: Iterable[Vector], known: Container[Vector], count: int) -> list[Vector]:
    """The first `count` different ones that are not known; no more are proposed than that takes."""
    new: dict[Vector, None] = {}
    for vector in proposed:
        if vector not in known:
            new[vector] = None
        if len(new) == count:
            break
    return list(new)


_AT_ONCE = 8  # architectures that a searcher proposes before it hears of them
_TRIES = 8  # proposals for each of them: some are known already, because repair takes many to the same network


def _aims(plan: Plan) -> tuple[float, ...]:
    return tuple(target.aim for target in plan.targets)


def _judge(plan: Plan, search: Search, params: Arrays, pool: np.ndarray) -> Candidates:
    quality, images = score(plan, search, params, pool, plan.config.derive.images)
    return Candidates(pool, quality, _rewards(plan, pool, quality), images)


def _rewards(plan: Plan, pool: np.ndarray, quality: np.ndarray) -> np.ndarray:
    reward = plan.config.reward
    return REWARDS[reward.kind](quality, plan.costs(pool) / np.array(_aims(plan)), np.array(reward.exponent))


def score(plan: Plan, search: Search, params: Arrays, pool: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Held-out accuracy of architectures inside the supernet, with batch statistics, all on the same images.

    Args:
      plan: of the stage.
      search: its functions.
      params: of the supernet.
      pool: [n, decisions].
      most: images at most; the next lower multiple of the validation batch is taken.

    Returns:
      [n] accuracies, and how many images these are of.
    """
    data = plan.dataset.validation
    size = min(plan.config.search.validation_batch, len(data))
    count = max(min(most, len(data)) // size, 1)
    at_once, own = search.settings.replicas, len(range(search.settings.replicas)[search.own])
    groups = np.resize(pool, (-(-len(pool) // at_once), at_once, pool.shape[1]))  # the last is filled up with the first
    out = np.zeros(groups.shape[:2])
    for number in range(count):
        index = batch_indices(len(data), size, number, plan.seed)
        examples = data.read(index)
        images, labels = (
            search.share_out(np.broadcast_to(values, (own, *values.shape)))
            for values in (examples.images, examples.labels)
        )
        out += np.array([search.scorer(params, images, labels, search.place(group)) for group in groups]) / count
    return out.reshape(-1)[: len(pool)], count * size
