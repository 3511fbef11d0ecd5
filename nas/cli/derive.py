"""`nas-search derive`: another network from a supernet that has been trained."""

from __future__ import annotations

import argparse
import sys

from nas.cli import diagnose, on_cluster, paths
from nas.cli.errors import INTERRUPTED, one_line_for_users
from nas.cli.messages import say

_ROUNDS = 4


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser.

    Args:
      commands: Subcommands of the parser.
    """
    parser = commands.add_parser(
        "derive",
        help="another network from the supernet of a finished stage: other target, other searcher",
        description="Derive another network from the supernet of a finished stage: for another "
        "target, by another "
        "searcher, or by training the best candidates one by one. A policy knows only the targets "
        "that it was trained "
        "for; derive others by evolution.",
    )
    add = parser.add_argument
    diagnose.add_run(parser)
    evaluations = (
        "networks that random search or evolution evaluates; default: the run's "
        "derive.evaluations, else 128"
    )
    add(
        "--by",
        default="evolution",
        metavar="SEARCHER",
        help="evolution (default), random or policy",
    )
    add(
        "--device",
        action="append",
        metavar="NAME:VALUE",
        help="target; default: the run's; repeat for several",
    )
    add("--evaluations", type=int, metavar="N", help=evaluations)
    add("--out", required=True, metavar="DIR|URL", help="folder of the result")
    finals = parser.add_argument_group(
        "finalists",
        "The supernet's best candidates are trained one by one, the better half of them again with "
        "another seed, and so "
        "on; the best reward of the mean of held-out accuracies wins.",
    )
    count = "candidates in the first round (default 0: none are trained)"
    finals.add_argument("--finalists", type=int, default=0, metavar="N", help=count)
    diagnose.add_trainings(parser, "rounds: trainings of the last finalists", seeds=_ROUNDS)


def run(options: argparse.Namespace) -> None:
    """Derive, print.

    Args:
      options: Parsed options.

    Raises:
      SystemExit: A user's mistake, or Ctrl-C.
    """
    with one_line_for_users("nas-search derive"):
        from nas.api.results import derive
        from nas.host import remote
        from nas.report import describe

        for name in diagnose.RECIPE:
            if not options.finalists and getattr(options, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} goes with --finalists: without, nothing is trained")
        if options.finalists:
            paths.only_local(options, "--workdir", options.workdir, "training finalists")
        out = remote.Folder(options.out)
        try:
            result = derive(
                options.workdir,
                out=out,
                stage=options.stage,
                targets=tuple(options.device or ()),
                by=options.by,
                evaluations=options.evaluations,
                finalists=options.finalists,
                rounds=options.seeds,
                recipe=diagnose.recipe_fields(options),
                ray=on_cluster.spec(options),
                workers=getattr(options, "workers", None),
            )
        except KeyboardInterrupt:
            print(
                "\nstopped; finished trainings are kept; rerun the same command to resume",
                file=sys.stderr,
            )
            raise SystemExit(INTERRUPTED) from None
    say(describe.result(result.architecture, out.display_name(result.folder.architecture)))
