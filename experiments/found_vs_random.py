"""Question: do searches find better networks than chance at the same cost, and two stages better ones than one?

    nas-search --workdir runs/a && nas-search --stage one-stage --workdir runs/b
    python -m experiments.found_vs_random two-stage=runs/a/fine one-stage=runs/b/one-stage --out runs/compared

Each GROUP=STAGE names the folder of a finished stage; a group may have several, of other seeds. Random ones are drawn
from the union of the coarse and the fine space, within 5 % of the first stage's target. All are trained from scratch
with the same recipe and several seeds; the test split is opened at the end of each, and nothing looks at it before.
Rows are kept in OUT/trainings.csv; an interrupted run goes on from them.
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

import search_spaces
from nas.data import sources
from nas.run import backend, cores, parallel
from nas.run.config import TrainConfig
from nas.search import diagnose, planning
from nas.train import loop
from search_spaces import yaml_io
from search_spaces.blocks import Block

RANDOM = "random"
_COLUMNS: tuple[str, ...] = ("group", "architecture", "seed", "macs", "validation_accuracy", "test_accuracy", "seconds")
_FILE = "trainings.csv"


@dataclasses.dataclass(frozen=True)
class Job:
    """One training of a network that stands in a file."""

    group: str
    path: pathlib.Path
    seed: int

    @property
    def name(self) -> str:
        """Of the network, in the CSV."""
        return str(self.path)


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
    if bare := [text for text in options.found if "=" not in text]:
        parser.error(f"{bare[0]}: expected GROUP=STAGE, e.g. two-stage=runs/a/fine")
    backend.prepare(1)
    found = [(group, pathlib.Path(stage)) for group, stage in (text.split("=", 1) for text in options.found)]
    record = yaml_io.load_model(found[0][1] / planning.RECORD, planning.RunRecord)
    files = [(group, stage / planning.RESULT) for group, stage in found]
    jobs = [
        Job(group, path, seed)
        for group, path in [*files, *_random(record, options, [path for _, path in files])]
        for seed in range(options.seeds)
    ]
    rows = _read(options.out / _FILE)
    known = {(row["architecture"], row["seed"]) for row in rows}
    todo = [job for job in jobs if (job.name, str(job.seed)) not in known]
    recipe = TrainConfig(steps=options.steps, batch=options.batch, labels=record.config.data.labels)
    train = functools.partial(_train, record.config.data.source, recipe)
    for row in parallel.Workers(options.workers).each(train, todo, own_core=True):
        rows.append(row)
        _append(options.out / _FILE, row)
        print("  ".join(f"{column} {row[column]}" for column in _COLUMNS), flush=True)
    print(summary(rows))


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
            noises += [statistics.variance(scores)] if len(scores) > 1 else []
            lines.append(
                f"{group:12} {name}  {statistics.fmean(scores):.4f}  ({', '.join(f'{s:.4f}' for s in scores)})"
            )
    seeds = len({row["seed"] for row in rows})
    noise = statistics.fmean(noises) / seeds if noises else float("nan")  # variance of a mean over seeds
    lines.append(f"standard deviation of an architecture's mean over {seeds} seeds: {noise**0.5:.4f}")
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


def _random(
    record: planning.RunRecord, options: argparse.Namespace, found: Sequence[pathlib.Path]
) -> list[tuple[str, pathlib.Path]]:
    """Files of random members of the union space near the target, the same ones every time, and none that was found."""
    if not options.random:
        return []
    plan, blocks = planning.plan("one-stage", record.config, options.out / "none"), [_blocks(path) for path in found]
    made = []
    for number, vector in enumerate(diagnose.draw_near_target(plan, options.random + len(found)).tolist()):
        path = options.out / f"{RANDOM}-{number}.yaml"
        spec = search_spaces.freeze(plan.space, vector, path.stem)
        if spec.blocks in blocks or len(made) == options.random:
            continue
        search_spaces.dump(spec, path)
        made.append((RANDOM, path))
    return made


def _blocks(path: pathlib.Path) -> tuple[Block, ...]:
    return search_spaces.load(path).blocks


def _train(source: str, recipe: TrainConfig, job: Job) -> dict[str, str]:
    backend.prepare(1)
    begun, spec = time.monotonic(), search_spaces.load(job.path)
    data = sources.load(source, spec.resolution)
    trained = loop.train(spec, data.train, recipe, mean=data.mean, std=data.std, seed=job.seed)
    accuracies = (trained.accuracy(data.validation), trained.accuracy(data.test))
    seconds = f"{time.monotonic() - begun:.0f}"
    values = (job.group, job.name, job.seed, search_spaces.macs(spec), *(f"{a:.5f}" for a in accuracies), seconds)
    return dict(zip(_COLUMNS, map(str, values), strict=True))


def _read(path: pathlib.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
