"""Question: do the searchers perform on NAS-Bench-Macro as correct implementations do?

    python -m experiments.benchmarks.nas_bench_macro --table nas-bench-macro_cifar10.json

The table (github.com/xiusu/NAS-Bench-Macro, Apache-2.0) contains three test accuracies for each of
6,561 networks. Random search, evolution and REINFORCE observe the first one exactly, one network
per evaluation. TuNAS observes the accuracy on 512 random images, in separate rows with the mean of
the three trainings and with the first one as the true accuracy. With the first one another network
is best, two swaps from the policy's most likely one. Reported: mean accuracy (of three trainings)
of the chosen network over the searches, and how often it is one of the ten best. Expected time:
five minutes on two cores. Answer: `results/nas-bench-macro*.csv` and experiments/RESULTS.md.
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
from nas.engine.repair import swap_neighbourhood
from nas.searchers import reinforce
from nas.searchers.base import Searcher, Vector
from nas.searchers.host import Evolution, Random
from nas.searchers.reinforce import Controller, PolicyState
from search_spaces import ArchSpec, SearchSpace, yaml_io

LAYERS, OPTIONS, IMAGES = 8, 3, 512
_TOP = 10


class Table:
    """Accuracy and cost of every network.

    Args:
      path: JSON file of NAS-Bench-Macro.

    Attributes:
      first: [3, ...] accuracy of the first training, percent.
      mean: [3, ...] mean accuracy of three trainings, percent.
      flops: [3, ...] FLOPs.
      rank: [3, ...] rank by `mean`, from 0.
    """

    def __init__(self, path: pathlib.Path):
        shape = (OPTIONS,) * LAYERS
        accuracy, self.flops = np.zeros((*shape, 3)), np.zeros(shape)
        for name, row in json.loads(path.read_text(encoding="utf-8")).items():
            vector = tuple(map(int, name))
            accuracy[vector] = row["test_acc"]
            self.flops[vector] = row["flops"]
        self.first, self.mean = accuracy[..., 0], accuracy.mean(-1)
        self.rank = np.empty(self.mean.size, int)
        self.rank[np.argsort(-self.mean.ravel())] = np.arange(self.mean.size)
        self.rank = self.rank.reshape(shape)

    def row(self, method: str, budget: str, picks: list[Vector], **more: float) -> dict[str, str]:
        """Row of the results.

        Args:
          method: Name of the search method.
          budget: Description of its budget.
          picks: Chosen network of each search.
          **more: Further columns.

        Returns:
          {column: text}.
        """
        values = np.array([self.mean[pick] for pick in picks])
        top = np.mean([self.rank[pick] < _TOP for pick in picks])
        columns = {
            "method": method,
            "budget": budget,
            "searches": str(len(picks)),
            "accuracy": f"{values.mean():.3f}",
            "deviation": f"{values.std():.3f}",
            "in_top_10": f"{top:.2f}",
        }
        return columns | {name: f"{value:.3f}" for name, value in more.items()}


def space() -> SearchSpace:
    """Search space of eight independent decisions with three options each."""
    kernel = "{one_of: [0, 3, 5], name: d%d}"
    blocks = [
        f"- {{kind: uib, filters: 8, expansion: 1.0, start_dw: {kernel % layer}}}"
        for layer in range(LAYERS)
    ]
    text = "name: macro\nresolution: 8\nblocks:\n- {kind: conv, filters: 8}\n" + "\n".join(blocks)
    text += "\n- {kind: pool}\n- {kind: classifier, classes: 2}\n"
    return SearchSpace(yaml_io.parse_model(text, ArchSpec, "macro"))


def by_searcher(table: Table, kind: str, budget: int, searches: int) -> dict[str, str]:
    """Row of random search or evolution, which choose the best of their exact evaluations.

    Args:
      table: The benchmark.
      kind: "random" or "evolution".
      budget: Number of evaluations.
      searches: Number of searches.

    Returns:
      {column: text}.
    """
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
    steps: int,
    samples: int,
    images: int,
    rate: Any,
    reward: Any,
    searches: int,
    accuracy: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Run searches of the project's controller.

    Args:
      steps: Number of steps.
      samples: Number of networks per step.
      images: Number of images that the controller observes the accuracy on; 0: it observes it
        exactly.
      rate: Function from the step to the learning rate.
      reward: Function from accuracies and vectors to rewards.
      searches: Number of searches.
      accuracy: [3, ...] true accuracy, percent.

    Returns:
      Final logits [searches, d, k], and the best sampled vector [searches, d].
    """
    policy = Controller.build(_SPACE)
    true = jnp.asarray(accuracy / 100, jnp.float32)

    def step(carry: Any, number: jax.Array, key: jax.Array) -> tuple[Any, None]:
        state, best, value = carry
        sample_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        vectors = policy.sample(state, sample_key, samples)
        exact = true[tuple(vectors.T)]
        seen = exact
        # Normal approximation, because jax.random.binomial was found to be biased (RESULTS).
        if images:
            seen = exact + jax.random.normal(noise_key, exact.shape) * jnp.sqrt(
                exact * (1 - exact) / images
            )
        new, _ = policy.update(state, vectors, reward(seen, vectors), rate(number))
        top = exact.argmax()
        better = exact[top] > value
        return (new, jnp.where(better, vectors[top], best), jnp.maximum(exact[top], value)), None

    def search(key: jax.Array) -> tuple[PolicyState, jax.Array]:
        start = (policy.init(), jnp.zeros(LAYERS, jnp.int32), jnp.zeros(()))
        (state, best, _), _ = jax.lax.scan(
            lambda carry, n: step(carry, n, key), start, jnp.arange(steps)
        )
        return state.logits, best

    logits, best = jax.jit(jax.vmap(search))(jax.random.split(jax.random.key(0), searches))
    return np.asarray(logits), np.asarray(best)


def by_reinforce(table: Table, budget: int, searches: int) -> dict[str, str]:
    """Row of REINFORCE with one sample per step and learning rate 0.1; it chooses the best.

    Args:
      table: The benchmark.
      budget: Number of evaluations.
      searches: Number of searches.

    Returns:
      {column: text}.
    """
    _, best = _search(
        budget, 1, 0, lambda number: 0.1, lambda seen, vectors: seen, searches, table.first
    )
    return table.row("REINFORCE", f"{budget} evaluations", [tuple(row) for row in best.tolist()])


def by_tunas(
    table: Table, sees: str, steps: int, first: float, searches: int
) -> list[dict[str, str]]:
    """Rows of TuNAS with 32 samples per step.

    It chooses its most likely network, or the best of 16 in its swap neighbourhood, as a supernet
    would evaluate them.

    Args:
      table: The benchmark.
      sees: See `_seen`.
      steps: Number of steps.
      first: Initial learning rate.
      searches: Number of searches.

    Returns:
      Two rows, {column: text} each.
    """
    accuracy = _seen(table, sees)

    def rate(number: jax.Array) -> jax.Array:
        return reinforce.learning_rate(number, steps, delay=0.25, initial=first)

    logits, _ = _search(steps, 32, IMAGES, rate, lambda seen, vectors: seen, searches, accuracy)
    picks = [tuple(row) for row in logits.argmax(-1).tolist()]
    exchanged = [
        _exchange(accuracy, pick, row, 16) for pick, row in zip(picks, logits, strict=True)
    ]
    budget = f"{steps} steps, first rate {first:.3g}, sees {sees}"
    return [
        table.row("TuNAS, argmax", budget, picks),
        table.row("TuNAS, best of 16 exchanges", budget, exchanged),
    ]


def _seen(table: Table, sees: str) -> np.ndarray:
    """True accuracy [3, ...] in percent: "the mean" of three trainings, or "the first"."""
    return {"the mean": table.mean, "the first": table.first}[sees]


def _exchange(accuracy: np.ndarray, pick: Vector, logits: np.ndarray, survivors: int) -> Vector:
    """Best by `accuracy` among the most likely architectures that are at most two swaps away."""
    pool = swap_neighbourhood((OPTIONS,) * LAYERS, pick)
    likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    order = np.argsort(-likely[np.arange(LAYERS), pool].sum(-1), kind="stable")[:survivors]
    return max(
        (tuple(row) for row in pool[order].tolist()), key=lambda vector: float(accuracy[vector])
    )


def _repair(pick: Vector, cost: np.ndarray, reward: np.ndarray) -> Vector:
    """Best reward of the neighbourhood within 1 % of the target, else the nearest to it.

    It is the procedure of `nas.engine.repair`.
    """
    while True:
        pool = swap_neighbourhood((OPTIONS,) * LAYERS, pick)
        miss = np.abs(cost[tuple(pool.T)] - 1)
        if miss.min() <= 0.01:
            feasible = pool[miss <= 0.01]
            return tuple(feasible[reward[tuple(feasible.T)].argmax()].tolist())
        nearest = tuple(pool[miss.argmin()].tolist())
        if not miss.min() < miss[0]:
            return nearest
        pick = nearest


def by_target(table: Table, sees: str, millions: float, searches: int) -> dict[str, str]:
    """Row of TuNAS with a target, the absolute reward and 8,000 steps: its distance to the target.

    Args:
      table: The benchmark.
      sees: See `_seen`.
      millions: Target in millions of FLOPs.
      searches: Number of searches.

    Returns:
      {column: text}.
    """
    accuracy = _seen(table, sees)
    ratios = jnp.asarray(table.flops / (millions * 1e6), jnp.float32)

    def reward(seen: jax.Array, vectors: jax.Array) -> jax.Array:
        return seen - 0.1 * jnp.abs(ratios[tuple(vectors.T)] - 1)

    def rate(number: jax.Array) -> jax.Array:
        return reinforce.learning_rate(number, 8000, delay=0.25, initial=0.0048)

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
    """Run all searches, print their rows, and write the CSV file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=pathlib.Path, required=True)
    parser.add_argument("--searches", type=int, default=100)
    options = parser.parse_args()
    table = Table(options.table)
    many = options.searches
    rows = [
        by_searcher(table, kind, budget, many)
        for kind in ("random", "evolution")
        for budget in (50, 100, 200, 500)
    ]
    rows += [by_reinforce(table, budget, many) for budget in (50, 100, 200, 500)]
    scaled = reinforce.initial_rate_for_length(8000, 8000 * 32 * IMAGES, delay=0.25)
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
