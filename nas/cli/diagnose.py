"""`nas-search diagnose`: can the supernet's ranking of networks be trusted?"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nas.cli import on_cluster, paths
from nas.cli.errors import INTERRUPTED, one_line_for_users
from nas.cli.messages import say

_SEEDS = 2
RECIPE = {"steps": 1500, "batch": 32, "learning_rate": 0.1}
"""Defaults of the recipe for help texts; a test holds them equal to `nas.api.results.RECIPE`."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser.

    Args:
      commands: Subcommands of the parser.
    """
    parser = commands.add_parser(
        "diagnose",
        help="can the supernet's ranking be trusted? trains networks of a finished stage's "
        "space one by one",
        description="Train networks of a finished stage's space one by one, with the same short "
        "recipe, and compare "
        "their accuracies with those inside the supernet: rank correlations with intervals, the "
        "test-retest ceiling (a "
        "yardstick, not a bound), and the ranking by MACs and parameters. Rerun the same command "
        "to resume.",
    )
    add_run(parser)
    add = parser.add_argument
    add(
        "--architectures", type=int, default=30, metavar="N", help="number of networks (default 30)"
    )
    add_trainings(parser, "trainings per network", seeds=_SEEDS)


def add_trainings(parser: argparse.ArgumentParser, trainings: str, *, seeds: int) -> None:
    """Add the options of networks that are trained one by one; those that are not given are None.

    Args:
      parser: Parser of the command.
      trainings: What the seeds count, for the help.
      seeds: Default number of seeds, for the help.
    """
    add = parser.add_argument
    add("--seeds", type=int, metavar="N", help=f"{trainings} (default {seeds})")
    steps = (
        "steps per training; near the length that you will train for: short trainings rank "
        "by how fast networks learn"
    )
    add("--steps", type=int, metavar="N", help=f"{steps} (default {RECIPE['steps']})")
    add("--batch", type=int, metavar="N", help=f"batch size (default {RECIPE['batch']})")
    rate = f"peak SGD learning rate (default {RECIPE['learning_rate']})"
    add("--learning-rate", type=float, metavar="RATE", help=rate)
    cores = "trainings at a time, a core each; default: all cores"
    add("--workers", type=int, default=argparse.SUPPRESS, metavar="N", help=cores)
    on_cluster.add(parser, "trainings are its tasks", below=True)


def recipe_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of the recipe that were given.

    Args:
      options: Parsed options.
    """
    return {name: value for name in RECIPE if (value := getattr(options, name)) is not None}


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a finished stage.

    Args:
      parser: Parser of the command.
    """
    workdir = "folder of the search (default runs/quickstart)"
    parser.add_argument("--workdir", default="runs/quickstart", metavar="DIR|URL", help=workdir)
    stage = f"{paths.STAGES}; default: the last one there"
    parser.add_argument("--stage", metavar="STAGE", help=stage)


def run(options: argparse.Namespace) -> None:
    """Diagnose, print.

    Args:
      options: Parsed options.
    """
    with one_line_for_users("nas-search diagnose"):
        from nas.api.result import open_result
        from nas.api.results import diagnose
        from nas.report import diagnosis as report

        paths.only_local(options, "--workdir", options.workdir, "diagnose")
        result = open_result(options.workdir, options.stage)
        try:
            diagnosis = diagnose(
                result,
                architectures=options.architectures,
                seeds=_SEEDS if options.seeds is None else options.seeds,
                recipe=recipe_fields(options),
                ray=on_cluster.spec(options),
                workers=getattr(options, "workers", None),
            )
        except KeyboardInterrupt:
            print(
                "\nstopped; finished trainings are kept; rerun the same command to resume",
                file=sys.stderr,
            )
            raise SystemExit(INTERRUPTED) from None
    say(report.text(diagnosis))
    display = result.workdir.display_name
    for page in (result.supernet_folder.diagnosis.picture, result.supernet_folder.page):
        say(f"written: {display(page)}")
