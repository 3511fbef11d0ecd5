"""Ranking diagnostics of a finished stage.

Networks of its space trained one by one, against the supernet's ranking.
"""

from __future__ import annotations

import csv
import io
import json
import pathlib
import random

import numpy as np

import search_spaces
from nas.engine import derive, ranking, runner, standalone
from nas.engine.planning import Plan, reopen
from nas.host import parallel
from nas.host.progress import SILENT, Progress
from nas.run.folder import DiagnosisFolder
from nas.run.train_config import TrainConfig
from search_spaces import files, yaml_io
from search_spaces.frozen import FrozenModel

_POOL = 20_000  # random vectors from which networks are drawn
_NEAR_TARGET = 0.05  # largest difference of log cost
_LEAST_ARCHITECTURES = 5


class DiagnosisConfig(FrozenModel):
    """A diagnosis.

    Attributes:
      architectures: Number of networks: two thirds spread evenly over the costs of the space, the
        rest near the target.
      seeds: Trainings of each network; at least two, for the test-retest ceiling.
      recipe: Recipe of the trainings.
    """

    architectures: int = 30
    seeds: int = 2
    recipe: TrainConfig = TrainConfig()


def run(
    stage: str,
    workdir: pathlib.Path,
    config: DiagnosisConfig,
    progress: Progress = SILENT,
    *,
    workers: parallel.WorkerPool,
) -> tuple[ranking.Diagnosis, DiagnosisFolder]:
    """Train what has not been trained yet, and compare.

    Args:
      stage: Name of a finished stage.
      workdir: Folder of the search.
      config: What to do; an interrupted diagnosis is resumed, seeds can be added, another one is
        refused.
      progress: Where progress goes; its total is the number of trainings.
      workers: Pool that runs the trainings, one dedicated core each.

    Returns:
      The diagnosis, and its files.

    Raises:
      ValueError: The stage is not finished, the folder holds another diagnosis, or a training
        diverged.
    """
    if config.architectures < _LEAST_ARCHITECTURES or config.seeds < 1:
        raise ValueError(
            f"`architectures` must be at least {_LEAST_ARCHITECTURES}, `seeds` at least 1; "
            f"got {config.architectures} and {config.seeds}"
        )
    plan = reopen(stage, workdir)
    folder = plan.folder.diagnosis
    _check_same(folder, config)
    # Before anything is trained: a damaged supernet has nothing to be compared with.
    search = runner.build_search(plan)
    params = runner.latest_state(plan, search, progress.message)[0].params
    files.write_atomically(folder.record, yaml_io.to_yaml(config, defaults=True))
    vectors = draw(plan, config.architectures)
    trained = standalone.train(
        stage,
        workdir,
        config.recipe,
        vectors,
        seeds=config.seeds,
        path=folder.trainings,
        progress=progress,
        workers=workers,
    )
    supernet = derive.score(plan, search, params, vectors, len(plan.dataset.validation))[0]
    specs = [search_spaces.freeze(plan.space, vector.tolist()) for vector in vectors]
    cost = plan.objective.costs(vectors)
    proxies = {
        "MACs": np.array([search_spaces.macs(spec) for spec in specs], float),
        "parameters": np.array([search_spaces.params(spec) for spec in specs], float),
    }
    devices = plan.objective.costs.devices
    proxies |= {device.name: cost[:, index] for index, device in enumerate(devices)}
    diagnosis = ranking.diagnose(supernet, trained, cost[:, 0], proxies)
    _write(folder, plan, vectors, supernet, trained, proxies)
    result = json.dumps(diagnosis.model_dump(mode="json"), indent=1)
    files.write_atomically(folder.result, result + "\n")
    return diagnosis, folder


def draw(plan: Plan, count: int) -> np.ndarray:
    """Different architectures: two thirds spread evenly over log cost, the rest near the target.

    Args:
      plan: Plan of the stage.
      count: Number of architectures.

    Returns:
      [count, decisions] int32.

    Raises:
      ValueError: The space has fewer.
    """
    vectors, cost = _pool(plan)
    if len(vectors) < count:
        raise ValueError(
            f"space {plan.space.name}: only {len(vectors)} different networks were drawn, asked "
            f"{count}"
        )
    near = _near_target(plan, cost)[: count // 3]
    chosen = list(near)
    free = np.setdiff1d(np.arange(len(cost)), near)
    for wanted in np.linspace(cost.min(), cost.max(), count - len(near)):
        nearest = free[np.argmin(np.abs(cost[free] - wanted))]
        chosen.append(nearest)
        free = free[free != nearest]
    return vectors[np.array(chosen)]


def draw_near_target(plan: Plan, count: int) -> np.ndarray:
    """Random architectures whose cost is within 5 % of the target: the first of `draw`.

    Args:
      plan: Plan of the stage.
      count: Number of architectures.

    Returns:
      [count, decisions] int32.

    Raises:
      ValueError: Fewer were drawn.
    """
    vectors, cost = _pool(plan)
    near = _near_target(plan, cost)[:count]
    if len(near) < count:
        raise ValueError(
            f"space {plan.space.name}: only {len(near)} of those drawn are near the target, asked "
            f"{count}"
        )
    return vectors[near]


def _pool(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Different random architectures [n, decisions], and the log of their cost [n].

    The cost is that on the first target's device.
    """
    rng = random.Random(plan.seed)
    drawn = (plan.space.canonical(plan.space.random(rng)) for _ in range(_POOL))
    vectors = np.array(list(dict.fromkeys(drawn)), np.int32)
    return vectors, np.log(plan.objective.costs(vectors)[:, 0])


def _near_target(plan: Plan, cost: np.ndarray) -> np.ndarray:
    target = np.log(plan.objective.effective_values[0])
    return np.flatnonzero(np.abs(cost - target) <= _NEAR_TARGET)


def _check_same(folder: DiagnosisFolder, config: DiagnosisConfig) -> None:
    if not folder.record.exists():
        return
    old = yaml_io.load_model(folder.record, DiagnosisConfig)
    if changes := yaml_io.differences(old.model_copy(update={"seeds": config.seeds}), config):
        raise ValueError(
            f"{folder.path} holds a diagnosis with other settings ({changes}); move it away for "
            "another one"
        )


def _write(
    folder: DiagnosisFolder,
    plan: Plan,
    vectors: np.ndarray,
    supernet: np.ndarray,
    trained: np.ndarray,
    proxies: dict[str, np.ndarray],
) -> None:
    """One row an architecture, for people and other programs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    decisions = [decision.name for decision in plan.space.decisions]
    seeds = [f"seed_{seed}" for seed in range(trained.shape[1])]
    writer.writerow([*decisions, *proxies, "supernet", *seeds])
    for row, vector in enumerate(vectors):
        labels = plan.space.labels(vector.tolist()).values()
        costs = [f"{values[row]:.6g}" for values in proxies.values()]
        accuracies = [f"{value:.5f}" for value in trained[row]]
        writer.writerow([*labels, *costs, f"{supernet[row]:.5f}", *accuracies])
    files.write_atomically(folder.architectures, text.getvalue())
