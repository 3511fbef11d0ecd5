r"""Question: do searches beat random networks of equal cost, and two stages a single one?

    nas-search --workdir runs/a && nas-search --stage one-stage --workdir runs/b
    python -m experiments.found_vs_random two-stage=runs/a/fine one-stage=runs/b/one-stage \
        --out runs/compared

Each GROUP=STAGE names the folder of a finished stage; those after the first may also be folders of
`nas-search derive`. A group may have several, of other seeds. Random networks are drawn from the
union of the coarse and the fine space, within 5 % of the first stage's target. All networks are
trained from scratch with the same recipe and several seeds. These differ from the seeds that
finalists are chosen with. The test split is opened at the end of each training, not before. Rows
are kept in OUT/trainings.csv; rerun the same command to resume.

Expected time: about two minutes a training and core; one training runs on each core at a time.
Results: experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import search_spaces
from nas.data import load
from nas.engine import diagnose, planning, standalone
from nas.host import backend, cores, parallel
from nas.run.folder import RunRecord, StageFolder, TrainingsFolder
from nas.run.train_config import TrainConfig
from nas.training import training
from search_spaces import yaml_io
from search_spaces.frozen import FrozenModel

RANDOM = "random"
"""Name of the group of random networks."""

_FILE = "trainings.csv"
_COLUMNS = (
    *("group", "architecture", "network", "seed", "macs"),
    *("validation_accuracy", "test_accuracy", "seconds"),
)
_FIRST_SEED = 1000
"""Finalists are chosen by trainings with seeds from 0; luck there does not carry over to these."""


class ComparisonRecord(FrozenModel):
    """The data and the recipe that the rows belong to.

    Attributes:
      dataset_hash: Fingerprint of the data set.
      recipe: Recipe of the trainings.
    """

    dataset_hash: str
    recipe: TrainConfig


class Key(NamedTuple):
    """Identity of a training.

    Attributes:
      architecture: File of the network.
      network: Hash of the network, without its name and provenance.
      seed: Random seed.
    """

    architecture: str
    network: str
    seed: str


class NetworkTraining(NamedTuple):
    """A training to run.

    Attributes:
      group: Group of the network.
      path: File of the network.
      seed: Random seed.
    """

    group: str
    path: pathlib.Path
    seed: int

    @property
    def key(self) -> Key:
        """Identity of the training."""
        spec = search_spaces.load(self.path).model_copy(update={"name": "", "found": None})
        return Key(str(self.path), spec.digest(), str(self.seed))


def main() -> None:
    """Parse, draw, train, summarise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("found", nargs="+", metavar="GROUP=STAGE", help="folder of a finished stage")
    add("--out", type=pathlib.Path, required=True, help="folder of the trainings")
    add("--random", type=int, default=10, help="random architectures (default 10)")
    add("--seeds", type=int, default=3, help="trainings of each architecture (default 3)")
    add("--steps", type=int, default=1500, help="steps of a training (default 1500)")
    add("--batch", type=int, default=32, help="batch size (default 32)")
    add("--workers", type=int, default=cores.count(), help="trainings at a time, one core each")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(
            f"--seeds: got {options.seeds}; give at least 2, which show how far two trainings of "
            "one network differ"
        )
    if without_group := [text for text in options.found if "=" not in text]:
        parser.error(f"{without_group[0]}: expected GROUP=STAGE, e.g. two-stage=runs/a/fine")
    backend.prepare(1)
    stages = [
        (group, StageFolder(pathlib.Path(path)))
        for group, path in (text.split("=", 1) for text in options.found)
    ]
    run = yaml_io.load_model(stages[0][1].record, RunRecord)
    recipe = standalone.recipe_of(run.config, steps=options.steps, batch=options.batch)
    record = ComparisonRecord(dataset_hash=run.dataset_hash, recipe=recipe)
    try:
        standalone.keep_record(TrainingsFolder(options.out), record)
    except ValueError as error:
        parser.error(str(error))
    networks = [
        *((group, folder.architecture) for group, folder in stages),
        *_random(run, options.out, options.random),
    ]
    seeds = range(_FIRST_SEED, _FIRST_SEED + options.seeds)
    jobs = [NetworkTraining(group, path, seed) for group, path in networks for seed in seeds]
    rows = [dict(row.cells) for row in standalone.rows_of(options.out / _FILE, _COLUMNS)]
    known = {_key(row) for row in rows}
    todo = [job for job in jobs if job.key not in known]
    train = functools.partial(_train, run.config.data.source, recipe)
    pool = parallel.WorkerPool(options.workers)
    for row in pool.map_unordered(train, todo, dedicated_core=True):
        rows.append(row)
        standalone.append_row(options.out / _FILE, row)
        print("  ".join(f"{column} {value}" for column, value in row.items()), flush=True)
    wanted = {job.key for job in jobs}
    print(summary([row for row in rows if _key(row) in wanted]))


def summary(rows: Sequence[dict[str, str]]) -> str:
    """Compare each group with the random networks, in standard errors.

    The error of a group's mean counts the spread between its architectures and, for one or two of
    them, the noise between trainings.

    Args:
      rows: A row for each training.

    Returns:
      A line for each architecture with its mean over the seeds, then one for each group.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    lines, means, noises = [], {}, []
    for group in groups:
        of_group = [row for row in rows if row["group"] == group]
        for name in dict.fromkeys(row["architecture"] for row in of_group):
            scores = [
                float(row["test_accuracy"]) for row in of_group if row["architecture"] == name
            ]
            mean = statistics.fmean(scores)
            means.setdefault(group, []).append(mean)
            noises.append(statistics.variance(scores) / len(scores))
            each = ", ".join(f"{score:.4f}" for score in scores)
            lines.append(f"{group:12} {name}  {mean:.4f}  ({each})")
    noise = statistics.fmean(noises)
    lines.append(f"standard deviation of an architecture's mean over its seeds: {noise**0.5:.4f}")
    if RANDOM not in means:
        return "\n".join(lines)
    base, base_error = statistics.fmean(means[RANDOM]), _squared_error(means[RANDOM], noise)
    for group in groups:
        mean, error = statistics.fmean(means[group]), _squared_error(means[group], noise)
        line = f"{group}: mean {mean:.4f} of {len(means[group])}"
        if group != RANDOM:
            better = sum(one > other for one in means[group] for other in means[RANDOM])
            pairs, gain = len(means[group]) * len(means[RANDOM]), mean - base
            errors = gain / (error + base_error) ** 0.5
            line += f", {gain:+.4f} against random, {errors:.1f} standard errors; "
            line += f"better in {better} of {pairs} pairs"
        lines.append(line)
    return "\n".join(lines)


def _key(row: dict[str, str]) -> Key:
    return Key(row["architecture"], row["network"], row["seed"])


def _squared_error(means: Sequence[float], noise: float) -> float:
    """Squared standard error of a group's mean.

    It comes from the group's own spread if it has three architectures, and is never less than the
    noise.
    """
    spread = statistics.variance(means) if len(means) > 2 else 0.0
    return max(spread, noise) / len(means)


def _random(run: RunRecord, out: pathlib.Path, count: int) -> list[tuple[str, pathlib.Path]]:
    """Files of random members of the union space near the target, the same ones every time."""
    if not count:
        return []
    plan = planning.plan("one-stage", run.config, out / "none")
    networks = []
    for number, vector in enumerate(diagnose.draw_near_target(plan, count).tolist()):
        path = out / f"{RANDOM}-{number}.yaml"
        search_spaces.dump(search_spaces.freeze(plan.space, vector, path.stem), path)
        networks.append((RANDOM, path))
    return networks


def _train(source: str, recipe: TrainConfig, job: NetworkTraining) -> dict[str, str]:
    """Train a network; returns its row."""
    backend.prepare(1)
    begun, spec = time.monotonic(), search_spaces.load(job.path)
    data = load.load_dataset(source, spec.resolution)
    trained = training.train(spec, data.train, recipe, mean=data.mean, std=data.std, seed=job.seed)
    key = job.key
    return {
        "group": job.group,
        "architecture": key.architecture,
        "network": key.network,
        "seed": key.seed,
        "macs": str(search_spaces.macs(spec)),
        "validation_accuracy": f"{trained.accuracy(data.validation):.5f}",
        "test_accuracy": f"{trained.accuracy(data.test):.5f}",
        "seconds": f"{time.monotonic() - begun:.0f}",
    }


if __name__ == "__main__":
    main()
