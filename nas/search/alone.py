"""Networks of a stage's space trained one by one from scratch, with the same recipe; finished trainings are kept."""

from __future__ import annotations

import csv
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import search_spaces
from nas.run import backend, parallel
from nas.run.config import RunConfig, Stage, TrainConfig
from nas.search import planning
from nas.train import loop
from search_spaces import yaml_io
from search_spaces.choice import Frozen

FOLDER, RECORD, TRAINED = "trained", "config.yaml", "trained.csv"
_COLUMNS = ("vector", "seed", "accuracy", "seconds")


class Record(Frozen):
    """What the accuracies of a folder of trainings belong to."""

    stage: Stage
    space: str
    dataset_hash: str
    recipe: TrainConfig

    @classmethod
    def of(cls, stage: Stage, run: planning.RunRecord, recipe: TrainConfig) -> Record:
        """Of networks of a stage that has been run."""
        return cls(stage=stage, space=run.space, dataset_hash=run.dataset_hash, recipe=recipe)


class Job(NamedTuple):
    """One training."""

    vector: tuple[int, ...]
    seed: int


class Done(NamedTuple):
    """A training and its held-out accuracy."""

    job: Job
    accuracy: float
    seconds: float


def train(
    stage: Stage,
    workdir: pathlib.Path,
    recipe: TrainConfig,
    vectors: np.ndarray,
    *,
    seeds: int,
    path: pathlib.Path,
    show: Callable[[int, str], None],
    workers: parallel.Workers,
) -> np.ndarray:
    """Held-out accuracy [n, seeds] of trained networks; finished trainings are read from a file, new ones added to it.

    Args:
      stage, workdir: of a stage that has been run: whose space, data and labels these are.
      recipe: of the trainings.
      vectors: [n, decisions].
      seeds: trainings of each.
      path: of the file, a row a training.
      show: told how many are done, and how the last one went.
      workers: who train, each on a core of its own; where this machine has an accelerator, this process.

    Raises:
      ValueError: a training diverged.
    """
    jobs = [Job(tuple(vector.tolist()), seed) for seed in range(seeds) for vector in vectors]
    known = {done.job: done.accuracy for done in map(_done, rows_of(path))}
    todo = [job for job in jobs if job not in known]
    function = functools.partial(_train_one, stage, workdir.absolute(), recipe)
    own_core = True
    if workers.place is None and jax.default_backend() != "cpu":  # this process has the accelerator
        workers, own_core = parallel.ALONE, False
    for done in workers.each(function, todo, own_core=own_core):
        known[done.job] = done.accuracy
        _append(path, done)
        show(sum(job in known for job in jobs), f"accuracy {done.accuracy:.3f}  {done.seconds:.0f} s")
    flat = np.array([known[job] for job in jobs])
    return flat.reshape(seeds, len(vectors)).T


def recipe_of(config: RunConfig, **fields: Any) -> TrainConfig:
    """A recipe that uses the data as a run does: the same labels, smoothing and mirroring.

    Args:
      config: of the run.
      fields: of the recipe.

    Raises:
      ValueError: bad fields.
    """
    data = config.data
    shared = {"labels": data.labels, "label_smoothing": data.label_smoothing, "flip": data.flip}
    return yaml_io.validate({**shared, **fields}, TrainConfig, "training")


def keep(folder: pathlib.Path, record: Frozen) -> None:
    """Write what the trainings of a folder belong to; refuse a folder of others. Raises ValueError."""
    path = folder / RECORD
    if not path.exists() and any(folder.glob("*.csv")):
        raise ValueError(f"{folder} holds trainings, and no {RECORD} that says of what; choose another --out")
    if path.exists() and (changes := yaml_io.differences(yaml_io.load_model(path, type(record)), record)):
        raise ValueError(f"{folder} holds other trainings ({changes}); choose another --out")
    yaml_io.write_atomically(path, yaml_io.to_yaml(record, defaults=True))


@functools.cache
def _plan(stage: Stage, workdir: pathlib.Path) -> planning.Plan:
    return planning.reopen(stage, workdir)


def _train_one(stage: Stage, workdir: pathlib.Path, recipe: TrainConfig, job: Job) -> Done:
    backend.prepare(1)
    plan, begun = _plan(stage, workdir), time.monotonic()
    spec = search_spaces.freeze(plan.space, job.vector)
    data = plan.dataset
    try:
        trained = loop.train(spec, data.train, recipe, mean=data.mean, std=data.std, seed=job.seed)
    except FloatingPointError as error:
        raise ValueError(f"training network {job.vector}: {error}; use a smaller --learning-rate") from None
    accuracy = round(trained.accuracy(data.validation), 6)  # as the file keeps it: equal ones are equal after a resume
    return Done(job, accuracy, time.monotonic() - begun)


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a CSV file; a last line that is not whole (the process died while it wrote it) is taken out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        yaml_io.write_atomically(path, whole)
    return list(csv.DictReader(whole.splitlines()))


def _done(row: dict[str, str]) -> Done:
    job = Job(tuple(map(int, row["vector"].split("-"))), int(row["seed"]))
    return Done(job, float(row["accuracy"]), float(row["seconds"]))


def _append(path: pathlib.Path, done: Done) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not path.stat().st_size:
            writer.writerow(_COLUMNS)
        vector = "-".join(map(str, done.job.vector))
        writer.writerow((vector, done.job.seed, f"{done.accuracy:.6f}", f"{done.seconds:.1f}"))
