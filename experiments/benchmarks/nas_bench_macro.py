"""Question: do the searchers find on NAS-Bench-Macro what correct ones find?

    python -m experiments.benchmarks.nas_bench_macro --table nas-bench-macro_cifar10.json

The table (github.com/xiusu/NAS-Bench-Macro, Apache-2.0) holds three test accuracies of each of 6,561 networks. Random
search, evolution and REINFORCE see the first, exactly, one network an evaluation. TuNAS sees the share of 512 images
that are right: where the mean of the three trainings is the network's true accuracy, and, in rows of their own, where
the first is (then another network is best, two exchanges from the policy's first guess). Reported: the mean of the
three of its pick, over searches, and how often the pick is among the ten best. Expected: five minutes on two cores.
Answer: see `results/nas-bench-macro*.csv` and experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import side_by_side
from nas.policy import controller
from nas.policy.controller import Controller, PolicyState
from nas.policy.repair import exchanges
from nas.policy.searchers import Evolution, Random, Searcher, Vector
from search_spaces import ArchSpec, SearchSpace, yaml_io

LAYERS, OPTIONS, IMAGES = 8, 3, 512
_TOP = 10


class Table:
    """What is known of every network.

    Attributes:
      first: [3, ...] accuracy of the first training, percent.
      mean: [3, ...] mean of three.
      flops: [3, ...].
      rank: [3, ...] place by `mean`, from 0.
    """

    def __init__(self, path: pathlib.Path):
        shape = (OPTIONS,) * LAYERS
        accuracy, self.flops = np.zeros((*shape, 3)), np.zeros(shape)
        for name, row in json.loads(path.read_text(encoding="utf-8")).items():
            place = tuple(map(int, name))
            accuracy[place], self.flops[place] = row["test_acc"], row["flops"]
        self.first, self.mean = accuracy[..., 0], accuracy.mean(-1)
        self.rank = np.empty(self.mean.size, int)
        self.rank[np.argsort(-self.mean.ravel())] = np.arange(self.mean.size)
        self.rank = self.rank.reshape(shape)

    def row(self, method: str, budget: str, picks: list[Vector], **more: float) -> dict[str, str]:
        """A row of the results."""
        values = np.array([self.mean[pick] for pick in picks])
        top = np.mean([self.rank[pick] < _TOP for pick in picks])
        found = {"method": method, "budget": budget, "searches": str(len(picks)), "accuracy": f"{values.mean():.3f}"}
        found |= {"deviation": f"{values.std():.3f}", "in_top_10": f"{top:.2f}"}
        return found | {name: f"{value:.3f}" for name, value in more.items()}


def space() -> SearchSpace:
    """Eight independent decisions of three options: the searchers need no more of the space than that."""
    kernel = "{one_of: [0, 3, 5], name: d%d}"
    blocks = [f"- {{kind: uib, filters: 8, expansion: 1.0, start_dw: {kernel % place}}}" for place in range(LAYERS)]
    text = "name: macro\nresolution: 8\nblocks:\n- {kind: conv, filters: 8}\n" + "\n".join(blocks)
    text += "\n- {kind: pool}\n- {kind: classifier, classes: 2}\n"
    return SearchSpace(yaml_io.parse_model(text, ArchSpec, "macro"))


def by_searcher(table: Table, kind: str, budget: int, searches: int) -> dict[str, str]:
    """The best seen in `budget` exact evaluations."""
    picks = []
    for seed in range(searches):
        rng = random.Random(seed)
        searcher: Searcher = (
            Random(_SPACE, tuple, rng)
            if kind == "random"
            else Evolution(_SPACE, tuple, rng, population=10, tournament=3)
        )
        seen: dict[Vector, float] = {}
        for _ in range(budget):
            vector = searcher.ask()
            seen[vector] = float(table.first[vector])
            searcher.tell(vector, seen[vector])
        picks.append(max(seen, key=seen.__getitem__))
    return table.row(kind, f"{budget} evaluations", picks)


def _search(
    steps: int, samples: int, images: int, rate: Any, reward: Any, searches: int, accuracy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [searches, d, k] at the end, and the best vector seen [searches, d], of the project's controller.

    `accuracy` [3, ...] in percent is what it sees of the networks, exactly or as that of so many images.
    """
    policy = Controller.build(_SPACE)
    true = jnp.asarray(accuracy / 100, jnp.float32)

    def step(carry: Any, number: jax.Array, key: jax.Array) -> tuple[Any, None]:
        state, best, value = carry
        sample_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        vectors = policy.sample(state, sample_key, samples)
        exact = true[tuple(vectors.T)]
        seen = exact
        if images:  # the normal approximation: jax.random.binomial was seen to be off (RESULTS)
            seen = exact + jax.random.normal(noise_key, exact.shape) * jnp.sqrt(exact * (1 - exact) / images)
        new, _ = policy.update(state, vectors, reward(seen, vectors), rate(number))
        top = exact.argmax()
        better = exact[top] > value
        return (new, jnp.where(better, vectors[top], best), jnp.maximum(exact[top], value)), None

    def search(key: jax.Array) -> tuple[PolicyState, jax.Array]:
        start = (policy.init(), jnp.zeros(LAYERS, jnp.int32), jnp.zeros(()))
        (state, best, _), _ = jax.lax.scan(lambda carry, n: step(carry, n, key), start, jnp.arange(steps))
        return state.logits, best

    logits, best = jax.jit(jax.vmap(search))(jax.random.split(jax.random.key(0), searches))
    return np.asarray(logits), np.asarray(best)


def by_reinforce(table: Table, budget: int, searches: int) -> dict[str, str]:
    """One sample a step, rate 0.1, the best seen."""
    _, best = _search(budget, 1, 0, lambda number: 0.1, lambda seen, vectors: seen, searches, table.first)
    return table.row("REINFORCE", f"{budget} evaluations", [tuple(row) for row in best.tolist()])


def by_tunas(table: Table, sees: str, steps: int, first: float, searches: int) -> list[dict[str, str]]:
    """32 samples a step; the pick is the argmax, or the best of its exchanges as a supernet would judge them."""
    accuracy = _seen(table, sees)

    def rate(number: jax.Array) -> jax.Array:
        return controller.learning_rate(number, steps, delay=0.25, first=first)

    logits, _ = _search(steps, 32, IMAGES, rate, lambda seen, vectors: seen, searches, accuracy)
    picks = [tuple(row) for row in logits.argmax(-1).tolist()]
    exchanged = [_exchange(accuracy, pick, row, 16) for pick, row in zip(picks, logits, strict=True)]
    budget = f"{steps} steps, first rate {first:.3g}, sees {sees}"
    return [table.row("TuNAS, argmax", budget, picks), table.row("TuNAS, best of 16 exchanges", budget, exchanged)]


def _seen(table: Table, sees: str) -> np.ndarray:
    """[3, ...]: "the mean" of three trainings, or "the first"."""
    return {"the mean": table.mean, "the first": table.first}[sees]


def _exchange(accuracy: np.ndarray, pick: Vector, logits: np.ndarray, survivors: int) -> Vector:
    """The best by `accuracy` among the most likely architectures at most two exchanges away."""
    pool = exchanges((OPTIONS,) * LAYERS, pick)
    likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    order = np.argsort(-likely[np.arange(LAYERS), pool].sum(-1), kind="stable")[:survivors]
    return max((tuple(row) for row in pool[order].tolist()), key=lambda vector: float(accuracy[vector]))


def _repair(pick: Vector, cost: np.ndarray, reward: np.ndarray) -> Vector:
    """The best reward among those near by that miss by 1 %, else the nearest: as `repair.candidates` finds them."""
    while True:
        pool = exchanges((OPTIONS,) * LAYERS, pick)
        missed = np.abs(cost[tuple(pool.T)] - 1)
        if missed.min() <= 0.01:
            inside = pool[missed <= 0.01]
            return tuple(inside[reward[tuple(inside.T)].argmax()].tolist())
        nearest = tuple(pool[missed.argmin()].tolist())
        if not missed.min() < missed[0]:
            return nearest
        pick = nearest


def by_target(table: Table, sees: str, millions: float, searches: int) -> dict[str, str]:
    """8,000 steps with the absolute reward; how far argmax and repaired pick are from the FLOPs that were asked for."""
    accuracy = _seen(table, sees)
    ratios = jnp.asarray(table.flops / (millions * 1e6), jnp.float32)

    def reward(seen: jax.Array, vectors: jax.Array) -> jax.Array:
        return seen - 0.1 * jnp.abs(ratios[tuple(vectors.T)] - 1)

    def rate(number: jax.Array) -> jax.Array:
        return controller.learning_rate(number, 8000, delay=0.25, first=0.0048)

    logits, _ = _search(8000, 32, IMAGES, rate, reward, searches, accuracy)
    cost = table.flops / (millions * 1e6)
    exact = accuracy / 100 - 0.1 * abs(cost - 1)
    picks = [tuple(row) for row in logits.argmax(-1).tolist()]
    repaired = [_repair(pick, cost, exact) for pick in picks]
    return table.row(
        "TuNAS, target",
        f"8000 steps, {millions:g} M FLOPs, sees {sees}",
        repaired,
        argmax_ratio=float(np.mean([cost[pick] for pick in picks])),
        argmax_worst_miss=float(np.max([abs(cost[pick] - 1) for pick in picks])),
        repaired_ratio=float(np.mean([cost[pick] for pick in repaired])),
        repaired_worst_miss=float(np.max([abs(cost[pick] - 1) for pick in repaired])),
        repaired_regret=float(100 * np.mean([exact.max() - exact[pick] for pick in repaired])),
    )


_SPACE = space()


def main() -> None:
    """Run all, print, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=pathlib.Path, required=True)
    parser.add_argument("--searches", type=int, default=100)
    options = parser.parse_args()
    table, many = Table(options.table), options.searches
    rows = [
        by_searcher(table, kind, budget, many) for kind in ("random", "evolution") for budget in (50, 100, 200, 500)
    ]
    rows += [by_reinforce(table, budget, many) for budget in (50, 100, 200, 500)]
    scaled = controller.rescaled(8000, 8000 * 32 * IMAGES, delay=0.25)
    for sees in ("the mean", "the first"):
        for steps, first in ((500, 0.048), (2000, 0.024), (8000, 0.0048), (8000, scaled)):
            rows += by_tunas(table, sees, steps, first, many)
        rows += [by_target(table, sees, millions, many) for millions in (30, 50, 70)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for row in rows:
        side_by_side.show(row)
    path = side_by_side.RESULTS / "nas-bench-macro.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
