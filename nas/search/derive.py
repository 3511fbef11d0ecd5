"""From a trained supernet and its policy to one architecture."""

from __future__ import annotations

import numpy as np

import search_spaces
from nas.data.order import batch_indices
from nas.model.network import Arrays
from nas.policy import repair
from nas.search.planning import Plan
from nas.search.steps import Search, SearchState
from rewards import REWARDS
from search_spaces import ArchSpec, Found, FoundCost


def derive(plan: Plan, search: Search, state: SearchState, seconds: float) -> ArchSpec:
    """The found architecture: the policy's most likely one, repaired to the target, chosen by held-out reward."""
    settings, config = plan.config.derive, plan.config
    best = search.controller.best(state.policy)
    probabilities = np.asarray(search.controller.probabilities(state.policy.logits))
    values = tuple(target.aim for target in plan.targets)
    pool = repair.candidates(
        plan.costs,
        values,
        np.log(np.maximum(probabilities, 1e-30)),
        best,
        miss=REWARDS[config.reward.kind].miss,
        tolerance=settings.tolerance,
        survivors=settings.survivors,
    )
    quality, images = score(plan, search, state.params, pool, settings.images)
    ratios = plan.costs(pool) / np.array(values)
    rewards = REWARDS[config.reward.kind](quality, ratios, config.reward.exponent)
    winner = int(np.argmax(rewards))
    vector = plan.space.canonical(pool[winner].tolist())
    spec = search_spaces.freeze(plan.space, vector, name=f"{plan.config.name}-{plan.stage}")
    argmax_cost = plan.costs(np.array(best))
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
        },
        cost={
            target.device.name: FoundCost(
                value=float(f"{cost:.6g}"),
                target=target.value,
                unit=target.device.unit,
                most_likely=float(f"{before:.6g}"),
            )
            for target, cost, before in zip(plan.targets, plan.costs(pool[winner]), argmax_cost, strict=True)
        },
        decisions=plan.space.mapping(vector),
        versions=plan.record.versions,
        seconds=round(seconds, 1),
    )
    return spec.model_copy(update={"found": found})


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
    at_once = search.settings.replicas
    groups = np.resize(pool, (-(-len(pool) // at_once), at_once, pool.shape[1]))  # the last is filled up with the first
    out = np.zeros(groups.shape[:2])
    for number in range(count):
        index = batch_indices(len(data), size, number, plan.seed)
        examples = data.read(index)
        images, labels = (
            search.share_out(np.broadcast_to(values, (at_once, *values.shape)))
            for values in (examples.images, examples.labels)
        )
        out += np.array([search.scorer(params, images, labels, search.place(group)) for group in groups]) / count
    return out.reshape(-1)[: len(pool)], count * size
