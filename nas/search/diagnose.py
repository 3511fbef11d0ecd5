"""Ranking diagnostics of a finished stage: networks of its space trained one by one, against the supernet's opinion."""

from __future__ import annotations

import csv
import json
import pathlib
import random

import numpy as np

import search_spaces
from nas.run import parallel
from nas.run.config import Stage, TrainConfig
from nas.run.log import LiveLine
from nas.search import alone, derive, planning, ranking, stages
from search_spaces import yaml_io
from search_spaces.choice import Frozen

FOLDER = "diagnose"
SETTINGS, RANKED, RESULT = "config.yaml", "architectures.csv", "diagnosis.json"
_POOL = 20_000
_NEAR_TARGET = 0.05


class Settings(Frozen):
    """What a diagnosis does.

    Attributes:
      architectures: how many are drawn: two thirds spread evenly over the costs of the space, the rest near the target.
      seeds: trainings of each; two at least, for the ceiling.
      recipe: of the trainings.
    """

    architectures: int = 30
    seeds: int = 2
    recipe: TrainConfig = TrainConfig()


def run(
    stage: Stage, workdir: pathlib.Path, settings: Settings, line: LiveLine, *, workers: parallel.Workers
) -> tuple[ranking.Diagnosis, pathlib.Path]:
    """Train what is still to be trained, and compare.

    Args:
      stage, workdir: of a finished stage.
      settings: what to do; an interrupted diagnosis goes on, seeds can be added; another one in the same folder is
        refused.
      line: shows progress; its total is the number of trainings.
      workers: who train, each on a core of its own.

    Returns:
      The diagnosis, and the folder of its files.

    Raises:
      ValueError: the stage is not finished, the folder holds another diagnosis, or a training diverged.
    """
    plan = planning.reopen(stage, workdir)
    folder = plan.folder / FOLDER
    _check_same(folder, settings)
    yaml_io.write_atomically(folder / SETTINGS, yaml_io.to_yaml(settings, defaults=True))
    vectors = draw(plan, settings.architectures)
    trained = alone.train(
        stage,
        workdir,
        settings.recipe,
        vectors,
        seeds=settings.seeds,
        path=folder / alone.TRAINED,
        show=line.show,
        workers=workers,
    )
    supernet = _supernet(plan, vectors)
    specs = [search_spaces.freeze(plan.space, vector.tolist()) for vector in vectors]
    cost = plan.costs(vectors)
    free = {
        "MACs": np.array([search_spaces.macs(spec) for spec in specs], float),
        "parameters": np.array([search_spaces.params(spec) for spec in specs], float),
    }
    free |= {device.name: cost[:, place] for place, device in enumerate(plan.costs.devices)}
    found = ranking.diagnose(supernet, trained, cost[:, 0], free)
    _write(folder, plan, vectors, supernet, trained, free)
    yaml_io.write_atomically(folder / RESULT, json.dumps(found.model_dump(mode="json"), indent=1) + "\n")
    return found, folder


def draw(plan: planning.Plan, count: int) -> np.ndarray:
    """[count, decisions] different architectures: two thirds spread evenly over log cost, the rest near the target.

    Raises:
      ValueError: the space has fewer.
    """
    vectors, cost = _pool(plan)
    if len(vectors) < count:
        raise ValueError(f"space {plan.space.name}: only {len(vectors)} different networks were drawn, asked {count}")
    near = _near_target(plan, cost)[: count // 3]
    chosen = list(near)
    free = np.setdiff1d(np.arange(len(cost)), near)
    for goal in np.linspace(cost.min(), cost.max(), count - len(near)):
        place = free[np.argmin(np.abs(cost[free] - goal))]
        chosen.append(place)
        free = free[free != place]
    return vectors[np.array(chosen)]


def draw_near_target(plan: planning.Plan, count: int) -> np.ndarray:
    """[count, decisions] random architectures whose cost is within 5 % of the target: the first of `draw`.

    Raises:
      ValueError: so many were not drawn.
    """
    vectors, cost = _pool(plan)
    near = _near_target(plan, cost)[:count]
    if len(near) < count:
        raise ValueError(f"space {plan.space.name}: only {len(near)} of those drawn are near the target, asked {count}")
    return vectors[near]


def _pool(plan: planning.Plan) -> tuple[np.ndarray, np.ndarray]:
    """Different random architectures [n, decisions], and the log of their cost [n] on the first target's device."""
    rng = random.Random(plan.seed)
    pool = list(dict.fromkeys(plan.space.canonical(plan.space.random(rng)) for _ in range(_POOL)))
    vectors = np.array(pool, np.int32)
    return vectors, np.log(plan.costs(vectors)[:, 0])


def _near_target(plan: planning.Plan, cost: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.abs(cost - np.log(plan.targets[0].aim)) <= _NEAR_TARGET)


def _supernet(plan: planning.Plan, vectors: np.ndarray) -> np.ndarray:
    """[n] accuracy inside the supernet as it was when the stage ended, on all held-out images."""
    search = stages.make_search(plan)
    params = stages.last_state(plan, search).params
    return derive.score(plan, search, params, vectors, len(plan.dataset.validation))[0]


def _check_same(folder: pathlib.Path, settings: Settings) -> None:
    path = folder / SETTINGS
    if not path.exists():
        return
    old = yaml_io.load_model(path, Settings).model_copy(update={"seeds": settings.seeds})
    if changes := yaml_io.differences(old, settings):
        raise ValueError(f"{folder} holds a diagnosis with other settings ({changes}); move it away for another one")


def _write(
    folder: pathlib.Path,
    plan: planning.Plan,
    vectors: np.ndarray,
    supernet: np.ndarray,
    trained: np.ndarray,
    free: dict[str, np.ndarray],
) -> None:
    """A row an architecture, for people and other programs."""
    with (folder / RANKED).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [d.name for d in plan.space.decisions]
            + [*free, "supernet"]
            + [f"seed_{s}" for s in range(trained.shape[1])]
        )
        for row, vector in enumerate(vectors):
            costs = [f"{values[row]:.6g}" for values in free.values()]
            labels = plan.space.labels(vector.tolist()).values()
            writer.writerow([*labels, *costs, f"{supernet[row]:.5f}", *(f"{value:.5f}" for value in trained[row])])
