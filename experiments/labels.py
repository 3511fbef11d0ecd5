r"""Question: are a teacher's soft labels worth it, in the search and in the training after it?

    nas-search matrix labels.yaml       # seeds x variants `soft` and `hard` of data.labels
    python -m experiments.labels soft=runs/labels/soft-seed0/one-stage \
        hard=runs/labels/hard-seed0/one-stage ... --out runs/labels/compared

The searches see the same images, for the same number of steps; only the labels differ. Every
network that they found is trained from scratch with soft and with hard labels, each with several
seeds, and evaluated once on the test split. Two differences are shown with 95 % intervals of
Student's t: networks of soft searches less those of hard ones (Welch's test, over networks), and
trainings with soft labels less those with hard ones (paired, over networks and seeds). Rows are
kept in OUT/trainings.csv; rerun the same command to resume.

Expected time: about a minute and a half a training and core for 1,500 steps. Results:
experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

import search_spaces
from nas.data import load
from nas.engine import standalone
from nas.host import backend, cores, parallel
from nas.run.folder import RunRecord, StageFolder
from nas.run.train_config import TrainConfig
from nas.training import training
from search_spaces import yaml_io

LABELS = ("soft", "hard")
_FIRST_SEED = 1000
_FILE = "trainings.csv"


class Job(NamedTuple):
    """A training to run, and the key of its row.

    Attributes:
      searched: Labels that the search saw.
      path: File of the network.
      labels: Labels that the training sees.
      seed: Random seed.
    """

    searched: str
    path: str
    labels: str
    seed: str


def main() -> None:
    """Train, summarise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("found", nargs="+", metavar="soft|hard=STAGE", help="folder of a finished stage")
    add("--out", type=pathlib.Path, required=True, help="folder of the trainings")
    add("--seeds", type=int, default=3, help="trainings of each network and label (default 3)")
    add("--steps", type=int, default=1500, help="steps of a training (default 1500)")
    add("--batch", type=int, default=32, help="batch size (default 32)")
    add("--workers", type=int, default=cores.count(), help="trainings at a time, one core each")
    options = parser.parse_args()
    groups = [text.partition("=") for text in options.found]
    if odd := ["".join(parts) for parts in groups if parts[0] not in LABELS]:
        parser.error(f"{odd[0]}: expected soft=STAGE or hard=STAGE")
    backend.prepare(1)
    stages = [(group, StageFolder(pathlib.Path(path))) for group, _, path in groups]
    run = yaml_io.load_model(stages[0][1].record, RunRecord)
    recipe = standalone.recipe_of(run.config, steps=options.steps, batch=options.batch)
    jobs = [
        Job(group, str(folder.architecture), labels, str(_FIRST_SEED + seed))
        for group, folder in stages
        for labels in LABELS
        for seed in range(options.seeds)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [row.cells for row in standalone.rows_of(options.out / _FILE)]
    known = {_key(row) for row in rows}
    pool = parallel.WorkerPool(options.workers)
    train = functools.partial(_train, run.config.data.source, recipe)
    todo = [job for job in jobs if job not in known]
    for row in pool.map_unordered(train, todo, dedicated_core=True):
        rows.append(row)
        standalone.append_row(options.out / _FILE, row)
        print("  ".join(f"{column} {value}" for column, value in row.items()), flush=True)
    print(summary([row for row in rows if _key(row) in set(jobs)]))


def summary(rows: Sequence[Mapping[str, str]]) -> str:
    """Both differences of test accuracy, with their intervals.

    Args:
      rows: A row for each training.

    Returns:
      A line for each group, then one for each difference.
    """
    accuracy = {_key(row): float(row["test_accuracy"]) for row in rows}
    lines = []
    for searched in LABELS:
        for labels in LABELS:
            found = [value for job, value in accuracy.items() if job[::2] == (searched, labels)]
            if found:
                lines.append(
                    f"searched with {searched}, trained with {labels} labels: "
                    f"{statistics.fmean(found):.4f} ({len(found)} trainings)"
                )
    networks: dict[str, dict[str, list[float]]] = {label: {} for label in LABELS}
    for job, value in accuracy.items():
        networks[job.searched].setdefault(job.path, []).append(value)
    means = [[statistics.fmean(values) for values in networks[label].values()] for label in LABELS]
    if min(map(len, means)) > 1:
        mean = statistics.fmean(means[0]) - statistics.fmean(means[1])
        test = stats.ttest_ind(*means, equal_var=False)
        lines.append(f"searches, soft less hard: {_interval(mean, test)}")
    pairs = [
        value - accuracy[job._replace(labels="hard")]
        for job, value in accuracy.items()
        if job.labels == "soft" and job._replace(labels="hard") in accuracy
    ]
    if len(pairs) > 1:
        test = stats.ttest_1samp(pairs, 0)
        lines.append(f"trainings, soft less hard: {_interval(statistics.fmean(pairs), test)}")
    return "\n".join(lines)


def _interval(mean: float, test: Any) -> str:
    ends = test.confidence_interval()
    return f"{mean:+.4f} [{ends.low:+.4f}, {ends.high:+.4f}]"


def _key(row: Mapping[str, str]) -> Job:
    return Job(*(row[name] for name in Job._fields))


def _train(source: str, recipe: TrainConfig, job: Job) -> dict[str, str]:
    """Train a network; returns its row."""
    backend.prepare(1)
    spec = search_spaces.load(job.path)
    data = load.load_dataset(source, spec.resolution)
    recipe = recipe.model_copy(update={"labels": job.labels})
    trained = training.train(
        spec, data.train, recipe, mean=data.mean, std=data.std, seed=int(job.seed)
    )
    return {
        **job._asdict(),
        "macs": str(search_spaces.macs(spec)),
        "validation_accuracy": f"{trained.accuracy(data.validation):.5f}",
        "test_accuracy": f"{trained.accuracy(data.test):.5f}",
    }


if __name__ == "__main__":
    main()
