"""`nas-search derive`: another network from a supernet that is trained already."""

from __future__ import annotations

import argparse

from nas.cli import diagnose, paths


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "derive",
        help="another network from the supernet of a finished stage: other target, other searcher",
        description="Take another network from the supernet of a finished stage, without training: for another target, "
        "or by another searcher. A policy knows the targets that it was trained for; for others use evolution.",
    )
    add = parser.add_argument
    diagnose.add_run(parser)
    add("--by", choices=("policy", "random", "evolution"), default="evolution", help="searcher (default evolution)")
    add("--device", action="append", metavar="NAME:VALUE", help="target; default: the run's; repeat for several")
    add("--evaluations", type=int, metavar="N", help="networks that random search or evolution judges (default 128)")
    add("--out", required=True, metavar="DIR|URL", help="folder of the result")


def run(options: argparse.Namespace) -> None:
    """Derive, write, print."""
    from nas.cli.errors import one_line_for_users

    with one_line_for_users("nas-search derive"):
        from nas.run import backend

        backend.prepare(2)
        from nas.search import describe, planning, stages

        changes = {"by": options.by}
        if options.evaluations:
            changes["evaluations"] = options.evaluations
        workdir, out = paths.place(options.workdir), paths.place(options.out)
        workdir.pull()
        found = stages.again(options.stage, workdir.path, out.path, changes, tuple(options.device or ()))
        out.push()
    print(describe.result(found, out.named(out.path / planning.RESULT)))
