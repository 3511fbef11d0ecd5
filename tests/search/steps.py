"""A search of four blocks and 8 px images, and all its steps; run as `main` on two devices."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from nas.engine.state import Batch, SearchState
from nas.engine.step import Search
from search_spaces import SearchSpace

from ..searches import objective_of, search_of, space_of

STEPS, REPLICAS, RATE = 8, 2, 0.5
DELAY, WARM = 0.5, 0.25  # the policy learns from step 4, warm-up ends at step 2
SPEC = """
name: steps
resolution: 8
blocks:
- {kind: conv, filters: {one_of: [8, 16], name: width}, stride: 2}
- {kind: uib, filters: {one_of: [8, 16], name: width}, middle_dw: {one_of: [0, 3], name: kernel},
   expansion: 1.0, present: {one_of: [true, false], name: depth}}
- {kind: pool}
- {kind: classifier, classes: 3}
"""


class Run(NamedTuple):
    """All steps of a search, on the host."""

    states: list[SearchState]
    metrics: list[dict[str, float]]


def build_search(
    space: SearchSpace | None = None, exponent: float | tuple[float, ...] = -0.1, **settings: Any
) -> Search:
    """The search on two devices' costs; a step is new = old - RATE * gradient."""
    devices = ("macs", "pixel6-cpu")
    objective = objective_of(space or space_of(SPEC), None, devices, exponent=exponent)
    values = objective.costs.table.sum(1) / 4
    objective = objective_of(objective.space, values, devices, exponent=exponent)
    usual: dict[str, Any] = {
        "steps": STEPS,
        "replicas": REPLICAS,
        "batch": 4,
        "warmup": WARM,
        "delay": DELAY,
        "policy_learning_rate": 0.1,
        "flip": True,
        "mean": 0.4,
        "std": 0.2,
    }
    return search_of(objective, optax.sgd(RATE), label_smoothing=0.1, **{**usual, **settings})


def batch_of(step: int) -> Batch:
    """Random images and class probabilities."""
    rng = np.random.default_rng(step)
    images = rng.integers(0, 256, (REPLICAS, 4, 8, 8, 3), np.uint8)
    targets = rng.dirichlet([0.3] * 3, (REPLICAS, 4)).astype(np.float32)
    held_out = rng.integers(0, 256, (REPLICAS, 16, 8, 8, 3), np.uint8)
    return Batch(images, targets, held_out, rng.integers(0, 3, (REPLICAS, 16), np.int32))


def run_all(search: Search, state: SearchState, root: jax.Array) -> Run:
    """All steps of a search."""
    states, metrics = [jax.tree.map(np.array, state)], []
    for number in range(STEPS):
        state, report = search.step(state, batch_of(number), root)
        states.append(jax.tree.map(np.array, state))
        metrics.append({name: float(value) for name, value in report.items()})
    return Run(states, metrics)


def programs(search: Search, state: SearchState) -> list[int]:
    """Number of compiled programs of each part, after steps and after results were scored too."""
    batch, vectors = batch_of(0), np.zeros((REPLICAS, len(search.space.decisions)), np.int32)
    search.jitted_score(
        search.replicas.replicate(state.params),
        batch.validation_images,
        batch.validation_reference,
        search.replicas.replicate(vectors),
    )
    parts: list[Any] = [search.jitted_train, search.jitted_score, search.jitted_learn]
    return [part._cache_size() for part in parts]


def main(path: str) -> None:
    """Write the last state, the metrics and the number of programs of a search into a file."""
    search = build_search()
    run = run_all(search, search.init(0), jax.random.key(0))
    leaves = {f"leaf{i}": leaf for i, leaf in enumerate(jax.tree.leaves(run.states[-1]))}
    rows = np.array([list(row.values()) for row in run.metrics])
    devices = search.replicas.mesh.size
    counts = programs(search, run.states[-1])
    np.savez(path, devices=devices, programs=counts, rows=rows, **leaves)
