"""Question: do searches find better networks than chance at the same cost, and two stages better ones than one?

    nas-search --workdir runs/a && nas-search --stage one-stage --workdir runs/b
    python -m experiments.found_vs_random two-stage=runs/a/fine one-stage=runs/b/one-stage --out runs/compared

Each GROUP=STAGE names the folder of a finished stage, those after the first also one of `nas-search derive`; a group
may have several, of other seeds. Random ones are drawn from the union of the coarse and the fine space, within 5 % of
the first stage's target. All are trained from scratch with the same recipe and several seeds, other ones than finalists
are chosen with; the test split is opened at the end of each, and nothing looks at it before. Rows are kept in
OUT/trainings.csv; an interrupted run goes on from them.
Expected time: about two minutes a training and core, as many at a time as there are cores. Results:
experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import pathlib
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import search_spaces
from nas.data import sources
from nas.run import backend, cores, parallel
from nas.run.config import TrainConfig, config_hash
from nas.search import alone, diagnose, planning
from nas.train import loop
from search_spaces import yaml_io
from search_spaces.choice import Frozen

RANDOM = "random"
_FILE = "trainings.csv"
_FIRST_SEED = 1000
"""Finalists are chosen by trainings with seeds from 0: what was lucky there has to prove itself again."""
_COLUMNS: tuple[str, ...] = (
    "group",
    "architecture",
    "network",
    "seed",
    "macs",
    "validation_accuracy",
    "test_accuracy",
    "seconds",
)


class Record(Frozen):
    """What the rows belong to."""

    dataset_hash: str
    recipe: TrainConfig


class Key(NamedTuple):
    """Which training a row is of; `network`: hash of what stands in the file."""

    architecture: str
    network: str
    seed: str


@dataclasses.dataclass(frozen=True)
class Job:
    """One training of a network that stands in a file."""

    group: str
    path: pathlib.Path
    seed: int

    @functools.cached_property
    def key(self) -> Key:
        """Of its row."""
        spec = search_spaces.load(self.path)
        return Key(str(self.path), config_hash(spec.model_copy(update={"name": "", "found": None})), str(self.seed))


def main() -> None:
    """Parse, draw, train, summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", nargs="+", metavar="GROUP=STAGE", help="folder of a finished stage")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the trainings")
    parser.add_argument("--random", type=int, default=10, help="random architectures (default 10)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each architecture (default 3)")
    parser.add_argument("--steps", type=int, default=1500, help="of a training (default 1500)")
    parser.add_argument("--batch", type=int, default=32, help="images of a step (default 32)")
    parser.add_argument("--workers", type=int, default=cores.count(), help="trainings at a time, a core each")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds: 2 at least, since they tell how far two trainings of one network differ")
    if bare := [text for text in options.found if "=" not in text]:
        parser.error(f"{bare[0]}: expected GROUP=STAGE, e.g. two-stage=runs/a/fine")
    backend.prepare(1)
    found = [(group, pathlib.Path(stage)) for group, stage in (text.split("=", 1) for text in options.found)]
    run = yaml_io.load_model(found[0][1] / planning.RECORD, planning.RunRecord)
    recipe = alone.recipe_of(run.config, steps=options.steps, batch=options.batch)
    try:
        alone.keep(options.out, Record(dataset_hash=run.dataset_hash, recipe=recipe))
    except ValueError as error:
        parser.error(str(error))
    files = [*((group, stage / planning.RESULT) for group, stage in found), *_random(run, options)]
    seeds = range(_FIRST_SEED, _FIRST_SEED + options.seeds)
    jobs = [Job(group, path, seed) for group, path in files for seed in seeds]
    rows = alone.rows_of(options.out / _FILE)
    known = {Key(row["architecture"], row["network"], row["seed"]) for row in rows}
    todo = [job for job in jobs if job.key not in known]
    train = functools.partial(_train, run.config.data.source, recipe)
    for row in parallel.Workers(options.workers).each(train, todo, own_core=True):
        rows.append(row)
        _append(options.out / _FILE, row)
        print("  ".join(f"{column} {row[column]}" for column in _COLUMNS), flush=True)
    asked = {job.key for job in jobs}
    print(summary([row for row in rows if Key(row["architecture"], row["network"], row["seed"]) in asked]))


def summary(rows: Sequence[dict[str, str]]) -> str:
    """Every architecture's mean over seeds; then each group against the random ones, in standard errors.

    The error of a group's mean counts both the spread between its architectures and, where it has one only, the noise
    between trainings.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    lines, means, noises = [], {}, []
    for group in groups:
        own = [row for row in rows if row["group"] == group]
        for name in dict.fromkeys(row["architecture"] for row in own):
            scores = [float(row["test_accuracy"]) for row in own if row["architecture"] == name]
            means.setdefault(group, []).append(statistics.fmean(scores))
            noises.append(statistics.variance(scores) / len(scores))
            lines.append(
                f"{group:12} {name}  {statistics.fmean(scores):.4f}  ({', '.join(f'{s:.4f}' for s in scores)})"
            )
    noise = statistics.fmean(noises)
    lines.append(f"standard deviation of an architecture's mean over its seeds: {noise**0.5:.4f}")
    if RANDOM not in means:
        return "\n".join(lines)
    base, base_error = statistics.fmean(means[RANDOM]), _squared_error(means[RANDOM], noise)
    for group in groups:
        mean, error = statistics.fmean(means[group]), _squared_error(means[group], noise)
        text = f"{group}: mean {mean:.4f} of {len(means[group])}"
        if group != RANDOM:
            beaten = sum(one > other for one in means[group] for other in means[RANDOM])
            pairs, gain = len(means[group]) * len(means[RANDOM]), mean - base
            text += f", {gain:+.4f} against random, {gain / (error + base_error) ** 0.5:.1f} standard errors; "
            text += f"better in {beaten} of {pairs} pairs"
        lines.append(text)
    return "\n".join(lines)


def _squared_error(means: Sequence[float], noise: float) -> float:
    """Of the mean of a group: from its own spread if it has three architectures, and never less than the noise."""
    spread = statistics.variance(means) if len(means) > 2 else 0.0
    return max(spread, noise) / len(means)


def _random(run: planning.RunRecord, options: argparse.Namespace) -> list[tuple[str, pathlib.Path]]:
    """Files of random members of the union space near the target, the same ones every time."""
    if not options.random:
        return []
    plan = planning.plan("one-stage", run.config, options.out / "none")
    made = []
    for number, vector in enumerate(diagnose.draw_near_target(plan, options.random).tolist()):
        path = options.out / f"{RANDOM}-{number}.yaml"
        search_spaces.dump(search_spaces.freeze(plan.space, vector, path.stem), path)
        made.append((RANDOM, path))
    return made


def _train(source: str, recipe: TrainConfig, job: Job) -> dict[str, str]:
    backend.prepare(1)
    begun, spec = time.monotonic(), search_spaces.load(job.path)
    data = sources.load(source, spec.resolution)
    trained = loop.train(spec, data.train, recipe, mean=data.mean, std=data.std, seed=job.seed)
    accuracies = (trained.accuracy(data.validation), trained.accuracy(data.test))
    seconds = f"{time.monotonic() - begun:.0f}"
    values = (job.group, *job.key, search_spaces.macs(spec), *(f"{a:.5f}" for a in accuracies), seconds)
    return dict(zip(_COLUMNS, map(str, values), strict=True))


def _append(path: pathlib.Path, row: dict[str, str]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
