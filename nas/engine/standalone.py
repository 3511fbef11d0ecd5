"""Stand-alone trainings of networks of a stage's space, from scratch and by one recipe.

Finished ones are kept.
"""

from __future__ import annotations

import csv
import functools
import os
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import search_spaces
from latency_tables import csv_files
from nas.engine import planning
from nas.host import backend, parallel
from nas.host.progress import Progress
from nas.run import loop
from nas.run.config import RunConfig, StageName
from nas.run.folder import RunRecord, TrainingsFolder
from nas.run.train_config import TrainConfig
from nas.training import training
from search_spaces import files, yaml_io
from search_spaces.frozen import FrozenModel

_COLUMNS = ("vector", "seed", "accuracy", "seconds")


class TrainingsRecord(FrozenModel):
    """The stage, space, data and recipe that the trainings of a folder belong to.

    Attributes:
      stage: Name of the stage.
      space: Digest of the search space.
      dataset_hash: Fingerprint of the data set.
      recipe: Recipe of the trainings.
    """

    stage: StageName
    space: str
    dataset_hash: str
    recipe: TrainConfig

    @classmethod
    def of(cls, stage: str, run: RunRecord, recipe: TrainConfig) -> TrainingsRecord:
        """The record of trainings of a stage that has been run.

        Args:
          stage: Name of the stage.
          run: Record of the stage.
          recipe: Recipe of the trainings.
        """
        return cls(stage=stage, space=run.space, dataset_hash=run.dataset_hash, recipe=recipe)


class TrainingJob(NamedTuple):
    """One training.

    Attributes:
      vector: Decisions of the network.
      seed: Random seed.
    """

    vector: tuple[int, ...]
    seed: int


class TrainingResult(NamedTuple):
    """A training that has ended.

    Attributes:
      job: The training.
      accuracy: Held-out accuracy, 0..1.
      seconds: Duration.
    """

    job: TrainingJob
    accuracy: float
    seconds: float


def train(
    stage: str,
    workdir: pathlib.Path,
    recipe: TrainConfig,
    vectors: np.ndarray,
    *,
    seeds: int,
    path: pathlib.Path,
    progress: Progress,
    workers: parallel.WorkerPool,
) -> np.ndarray:
    """Held-out accuracy of trained networks.

    Finished trainings are read from a file, new ones are added to it.

    Args:
      stage: Name of a stage that has been run, whose space, data and labels are used.
      workdir: Folder of the search.
      recipe: Recipe of the trainings.
      vectors: [n, decisions] int32.
      seeds: Trainings of each network.
      path: File with one row a training.
      progress: Where progress goes: trainings done.
      workers: Pool that runs the trainings, one dedicated core each; with an accelerator, this
        process.

    Returns:
      [n, seeds] float64.

    Raises:
      ValueError: A training diverged.
    """
    jobs = [
        TrainingJob(tuple(vector.tolist()), seed) for seed in range(seeds) for vector in vectors
    ]
    known = {done.job: done.accuracy for done in map(_result, rows_of(path))}
    todo = [job for job in jobs if job not in known]
    function = functools.partial(_train_one, stage, workdir.absolute(), recipe)
    dedicated_core = True
    if (
        workers.cluster is None and jax.default_backend() != "cpu"
    ):  # this process has the accelerator
        workers = parallel.ALONE
        dedicated_core = False
    for result in workers.map_unordered(function, todo, dedicated_core=dedicated_core):
        known[result.job] = result.accuracy
        append_row(path, _row(result))
        done = sum(job in known for job in jobs)
        progress.update(done, f"accuracy {result.accuracy:.3f}  {result.seconds:.0f} s")
    flat = np.array([known[job] for job in jobs])
    return flat.reshape(seeds, len(vectors)).T


def recipe_of(config: RunConfig, **fields: Any) -> TrainConfig:
    """A recipe that uses the data as a run does: the same labels, smoothing and flips.

    Args:
      config: Configuration of the run.
      **fields: Fields of the recipe.

    Raises:
      ValueError: A field does not fit.
    """
    data = config.data
    shared = {
        "labels": data.labels,
        "label_smoothing": data.label_smoothing,
        "flip": data.flip,
    }
    return yaml_io.validate({**shared, **fields}, TrainConfig, "training")


def keep_record(folder: TrainingsFolder, record: FrozenModel) -> None:
    """Write what the trainings of a folder belong to, or check that it holds the same.

    Args:
      folder: The folder.
      record: What they belong to.

    Raises:
      ValueError: The folder holds other trainings.
    """
    path = folder.record
    if not path.exists() and any(folder.path.glob("*.csv")):
        raise ValueError(
            f"{folder.path} holds trainings, and no {path.name} that says of what; choose another "
            "`out`"
        )
    if path.exists():
        changes = yaml_io.differences(yaml_io.load_model(path, type(record)), record)
        if changes:
            raise ValueError(
                f"{folder.path} holds other trainings ({changes}); choose another `out`"
            )
    files.write_atomically(path, yaml_io.to_yaml(record, defaults=True))


@functools.cache
def _plan(stage: str, workdir: pathlib.Path) -> planning.Plan:
    return planning.reopen(stage, workdir)


def _train_one(
    stage: str, workdir: pathlib.Path, recipe: TrainConfig, job: TrainingJob
) -> TrainingResult:
    backend.prepare(1)
    plan = _plan(stage, workdir)
    begun = time.monotonic()
    spec = search_spaces.freeze(plan.space, job.vector)
    data = plan.dataset
    try:
        trained = training.train(
            spec, data.train, recipe, mean=data.mean, std=data.std, seed=job.seed
        )
    except loop.NotFinite as error:
        raise ValueError(
            f"training network {job.vector}: {error}; use a smaller `learning_rate`"
        ) from None
    # Rounded as the file keeps it, so that equal accuracies are equal after a resume.
    accuracy = round(trained.accuracy(data.validation), 6)
    return TrainingResult(job, accuracy, time.monotonic() - begun)


def rows_of(path: pathlib.Path, columns: Sequence[str] = _COLUMNS) -> list[csv_files.CsvRow]:
    """The rows of a CSV file.

    A last line that is not complete, because the process died writing it, is cut off.

    Args:
      path: The file; none: no rows.
      columns: Its columns.

    Returns:
      The rows.

    Raises:
      ValueError: A damaged file.
    """
    try:
        content = files.read_bytes(path)
    except FileNotFoundError:
        return []
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with files.writing(path):
            os.truncate(path, end)
    text = files.decode(content[:end], path)
    if text.count("\n") < 2:
        return []
    return csv_files.parse(text, str(path), columns)


def _result(row: csv_files.CsvRow) -> TrainingResult:
    if not re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})*", row["vector"]):
        raise ValueError(f"{row.where}: vector: got {row['vector']!r}, expected e.g. 0-2-1")
    job = TrainingJob(tuple(map(int, row["vector"].split("-"))), row.integer("seed", 0))
    return TrainingResult(job, row.share("accuracy"), row.nonnegative("seconds", "seconds"))


def append_row(path: pathlib.Path, row: Mapping[str, str]) -> None:
    """Append a row to a CSV file, which gets a header with its first row.

    Args:
      path: The file; its folder is made if it does not exist.
      row: {column: text}, in the order of the columns.
    """
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if not path.stat().st_size:
                writer.writeheader()
            writer.writerow(row)


def _row(result: TrainingResult) -> dict[str, str]:
    return {
        "vector": "-".join(map(str, result.job.vector)),
        "seed": str(result.job.seed),
        "accuracy": f"{result.accuracy:.6f}",
        "seconds": f"{result.seconds:.1f}",
    }
