"""`nas-search diagnose`: whether the supernet's ranking of networks can be trusted."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nas.cli import on_cluster, paths

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.run.config import RunConfig, TrainConfig


_SEEDS = 2
RECIPE = {"steps": 1500, "batch": 32, "learning_rate": 0.1}
"""The recipe of trainings where options say nothing."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "diagnose",
        help="can the supernet's ranking be trusted? trains networks of a finished stage's space one by one",
        description="Train networks of a finished stage's space one by one, with the same short recipe, and compare "
        "their accuracies with those inside the supernet: rank correlations with intervals, what two trainings of the "
        "same network agree on (a yardstick, not a bound), and what MACs and parameters know. An interrupted diagnosis "
        "goes on.",
    )
    add_run(parser)
    add = parser.add_argument
    add("--architectures", type=int, default=30, metavar="N", help="how many (default 30)")
    add_trainings(parser, "trainings of each", seeds=_SEEDS)


def add_trainings(parser: argparse.ArgumentParser, trainings: str, *, seeds: int) -> None:
    """Add the options of networks that are trained one by one; those that are not given are None."""
    add = parser.add_argument
    add("--seeds", type=int, metavar="N", help=f"{trainings} (default {seeds})")
    steps = "of a training; near the length that you will train for: short trainings rank by how fast networks learn"
    add("--steps", type=int, metavar="N", help=f"{steps} (default {RECIPE['steps']})")
    add("--batch", type=int, metavar="N", help=f"images of a step (default {RECIPE['batch']})")
    add("--learning-rate", type=float, metavar="RATE", help=f"peak, SGD (default {RECIPE['learning_rate']})")
    cores = "trainings at a time, a core each; default: all cores"
    add("--workers", type=int, default=argparse.SUPPRESS, metavar="N", help=cores)
    on_cluster.add(parser, "trainings are its tasks", below=True)


def recipe_of(options: argparse.Namespace, config: RunConfig) -> TrainConfig:
    """The recipe that these options mean for networks of a run. Raises ValueError."""
    from nas.search import alone

    given = {name: value for name in RECIPE if (value := getattr(options, name)) is not None}
    return alone.recipe_of(config, **{**RECIPE, **given})


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which finished stage is meant."""
    parser.add_argument(
        "--workdir",
        default="runs/quickstart",
        metavar="DIR|URL",
        help="of the search (default runs/quickstart)",
    )
    parser.add_argument(
        "--stage",
        choices=("coarse", "fine", "hybrid", "one-stage"),
        help="which (default: the last one there)",
    )


def run(options: argparse.Namespace) -> None:
    """Diagnose, print, draw."""
    from nas.cli.errors import one_line_for_users

    with one_line_for_users("nas-search diagnose"):
        from nas.run import backend
        from nas.run.log import LiveLine, console

        seeds = _SEEDS if options.seeds is None else options.seeds
        if options.architectures < 5 or seeds < 1:
            raise ValueError("--architectures must be at least 5, --seeds at least 1")
        backend.prepare(1)
        from nas.report import diagnosis as report
        from nas.search import diagnose, planning

        paths.only_local(options, "--workdir", options.workdir, "diagnose")
        workdir = paths.place(options.workdir)
        workdir.pull()
        stage = options.stage or planning.last_stage(workdir.path)
        recipe = recipe_of(options, planning.read_record(stage, workdir.path).config)
        settings = diagnose.Settings(architectures=options.architectures, seeds=seeds, recipe=recipe)
        total, workers = options.architectures * seeds, on_cluster.workers(options)
        try:
            with LiveLine("diagnose", total, console()) as line:
                found, folder = diagnose.run(stage, workdir.path, settings, line, workers=workers)
        except KeyboardInterrupt:
            print("\nstopped; finished trainings are kept; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
        finally:
            workdir.push()
    print(report.text(found))
    from nas.report import search as search_report

    for path in (*report.write(folder), *search_report.write(stage, workdir.path)):
        print(f"written: {workdir.named(path)}")
    with one_line_for_users("nas-search diagnose"):
        workdir.push()
