"""Question: is the architecture that a search found better than random ones of the same cost?

    nas-search && python -m experiments.found_vs_random --run runs/quickstart

Draws architectures from the union of the coarse and the fine space (all that both stages could have found) whose cost
on every target is within 3 % of the found one's, trains them and the found one from scratch with the same recipe and
several seeds, and opens the test split at the end. Rows are kept in RUN/found_vs_random.csv; an interrupted run goes
on from them. Expected time with the defaults (1,000 steps): about 35 minutes on two cores.
Results: experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import random
import statistics
import time

import numpy as np

import latency_tables
import search_spaces
from nas.data import sources
from nas.run import backend
from nas.run.config import TrainConfig
from nas.run.targets import parse_targets
from nas.search.planning import RunRecord
from search_spaces import ArchSpec, CoarseOptions, FineOptions, yaml_io

_COLUMNS: tuple[str, ...] = (
    "architecture",
    "seed",
    "cost",
    "macs",
    "params",
    "validation_accuracy",
    "test_accuracy",
    "seconds",
)


def main() -> None:
    """Parse, draw, train, summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, default=pathlib.Path("runs/quickstart"))
    parser.add_argument("--random", type=int, default=8, help="random architectures (default 8)")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each architecture (default 2)")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of 64 images (default 1000)")
    options = parser.parse_args()
    backend.prepare(1)
    record = yaml_io.load_model(options.run / "fine" / "config.yaml", RunRecord)
    found = search_spaces.load(options.run / "fine" / "architecture.yaml")
    architectures = {"found": found} | _random(record, found, options.random)
    data = sources.load(record.config.data.source, found.resolution)
    recipe = TrainConfig(steps=options.steps, labels=record.config.data.labels)
    path = options.run / "found_vs_random.csv"
    rows = _read(path)
    for seed in range(options.seeds):
        for name, spec in architectures.items():
            if (name, str(seed)) not in {(row["architecture"], row["seed"]) for row in rows}:
                rows.append(_train(name, spec, seed, data, recipe, record))
                _append(path, rows[-1])
                print("  ".join(f"{column} {rows[-1][column]}" for column in _COLUMNS), flush=True)
    print(summary(rows))


def summary(rows: list[dict[str, str]]) -> str:
    """Means over seeds, the seed noise, and where the found architecture stands among the random ones."""
    names = list(dict.fromkeys(row["architecture"] for row in rows))
    scores = {name: [float(row["test_accuracy"]) for row in rows if row["architecture"] == name] for name in names}
    means = {name: statistics.fmean(values) for name, values in scores.items()}
    noise = [statistics.variance(values) for values in scores.values() if len(values) > 1]
    others = [mean for name, mean in means.items() if name != "found"]
    lines = [f"{name:12} {means[name]:.4f}  ({', '.join(f'{value:.4f}' for value in scores[name])})" for name in names]
    if noise:
        deviation = statistics.fmean(noise) ** 0.5
        lines.append(f"standard deviation between seeds of one architecture: {deviation:.4f}")
    beaten = sum(means["found"] > mean for mean in others)
    lines.append(
        f"found {means['found']:.4f}; random mean {statistics.fmean(others):.4f}, best {max(others):.4f}, "
        f"deviation {statistics.stdev(others):.4f}; found beats {beaten} of {len(others)}"
    )
    return "\n".join(lines)


def _random(record: RunRecord, found: ArchSpec, count: int) -> dict[str, ArchSpec]:
    """Random members of the union space with the found one's cost, within 3 % on every target."""
    config = record.config
    base = search_spaces.base(config.space.base)
    coarse = CoarseOptions.model_validate(config.space.coarse.model_dump())
    fine = FineOptions.model_validate(config.space.fine.model_dump())
    space = search_spaces.one_stage_space(base, coarse, fine)
    devices = [target.device for text in config.targets for target in parse_targets(text)]
    costs = latency_tables.CostModel.build(space, devices)
    wanted = np.array([latency_tables.estimate(found, device.name).value for device in devices])
    rng, chosen = random.Random(config.seed), {}
    while len(chosen) < count:
        vectors = np.array([space.random(rng) for _ in range(2000)])
        near = np.abs(costs(vectors) / wanted - 1).max(-1) <= 0.03
        for vector in vectors[near][: count - len(chosen)]:
            chosen[f"random-{len(chosen)}"] = search_spaces.freeze(space, vector.tolist(), f"random-{len(chosen)}")
    return chosen


def _train(name: str, spec: ArchSpec, seed: int, data, recipe: TrainConfig, record: RunRecord) -> dict[str, str]:
    from nas.train import loop

    begun = time.monotonic()
    trained = loop.train(spec, data.train, recipe, mean=data.mean, std=data.std, seed=seed)
    cost = latency_tables.estimate(spec, parse_targets(record.config.targets[0])[0].device.name).value
    values = (
        name,
        seed,
        f"{cost:.5g}",
        search_spaces.macs(spec),
        search_spaces.params(spec),
        f"{trained.accuracy(data.validation):.4f}",
        f"{trained.accuracy(data.test):.4f}",
        f"{time.monotonic() - begun:.0f}",
    )
    return dict(zip(_COLUMNS, map(str, values), strict=True))


def _read(path: pathlib.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _append(path: pathlib.Path, row: dict[str, str]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
