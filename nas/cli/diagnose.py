"""`nas-search diagnose`: whether the supernet's ranking of networks can be trusted."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nas.cli import on_cluster, paths

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.run.config import TrainConfig


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "diagnose",
        help="can the supernet's ranking be trusted? trains networks of a finished stage's space one by one",
        description="Train networks of a finished stage's space one by one, with the same short recipe, and compare "
        "their accuracies with those inside the supernet: rank correlations with intervals, the ceiling that two "
        "trainings of the same networks set, and what MACs and parameters know. An interrupted diagnosis goes on.",
    )
    add_run(parser)
    add = parser.add_argument
    add("--architectures", type=int, default=30, metavar="N", help="how many (default 30)")
    add_trainings(parser, "trainings of each", seeds=2)


def add_trainings(parser: argparse.ArgumentParser, trainings: str, *, seeds: int) -> None:
    """Add the options of networks that are trained one by one."""
    add = parser.add_argument
    add("--seeds", type=int, default=seeds, metavar="N", help=f"{trainings} (default {seeds})")
    add("--steps", type=int, default=1500, metavar="N", help="of a training (default 1500)")
    add("--batch", type=int, default=32, metavar="N", help="images of a step (default 32)")
    add("--learning-rate", type=float, default=0.1, metavar="RATE", help="peak, SGD (default 0.1)")
    cores = "trainings at a time, a core each; default: all cores"
    add("--workers", type=int, default=argparse.SUPPRESS, metavar="N", help=cores)
    on_cluster.add(parser, "trainings are its tasks", below=True)


def recipe_of(options: argparse.Namespace) -> TrainConfig:
    """The recipe that these options mean. Raises ValueError."""
    from nas.run.config import TrainConfig
    from search_spaces import yaml_io

    fields = {"steps": options.steps, "batch": options.batch, "learning_rate": options.learning_rate}
    return yaml_io.validate(fields, TrainConfig, f"nas-search {options.command}")


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
        default="coarse",
        help="which (default coarse)",
    )


def run(options: argparse.Namespace) -> None:
    """Diagnose, print, draw."""
    from nas.cli.errors import one_line_for_users

    with one_line_for_users("nas-search diagnose"):
        from nas.run import backend
        from nas.run.log import LiveLine, console

        if options.architectures < 5 or options.seeds < 1:
            raise ValueError("--architectures must be at least 5, --seeds at least 1")
        backend.prepare(1)
        from nas.report import diagnosis as report
        from nas.search import diagnose

        paths.only_local(options, "--workdir", options.workdir, "diagnose")
        workdir = paths.place(options.workdir)
        workdir.pull()
        recipe = recipe_of(options)
        settings = diagnose.Settings(architectures=options.architectures, seeds=options.seeds, recipe=recipe)
        total, workers = options.architectures * options.seeds, on_cluster.workers(options)
        try:
            with LiveLine("diagnose", total, console()) as line:
                found, folder = diagnose.run(options.stage, workdir.path, settings, line, workers=workers)
        except KeyboardInterrupt:
            print("\nstopped; finished trainings are kept; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
        finally:
            workdir.push()
    print(report.text(found))
    from nas.report import search as search_report

    for path in (*report.write(folder), *search_report.write(options.stage, workdir.path)):
        print(f"written: {workdir.named(path)}")
    with one_line_for_users("nas-search diagnose"):
        workdir.push()
