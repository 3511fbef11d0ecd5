"""`nas-search derive`: another network from a supernet that is trained already."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nas.cli import diagnose, on_cluster, paths

if TYPE_CHECKING:  # imported late, so that --help answers at once
    import numpy as np

    from nas.run.remote import Folder
    from search_spaces import ArchSpec


_ROUNDS = 4


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "derive",
        help="another network from the supernet of a finished stage: other target, other searcher",
        description="Take another network from the supernet of a finished stage: for another target, by another "
        "searcher, or by training the best candidates one by one. A policy knows the targets that it was trained for; "
        "for others use evolution.",
    )
    add = parser.add_argument
    diagnose.add_run(parser)
    evaluations = "networks that random search or evolution judges; default: the run's derive.evaluations, else 128"
    add("--by", choices=("policy", "random", "evolution"), default="evolution", help="searcher (default evolution)")
    add("--device", action="append", metavar="NAME:VALUE", help="target; default: the run's; repeat for several")
    add("--evaluations", type=int, metavar="N", help=evaluations)
    add("--out", required=True, metavar="DIR|URL", help="folder of the result")
    finals = parser.add_argument_group(
        "finalists",
        "The candidates that the supernet prefers are trained one by one, the better half of them again with another "
        "seed, and so on; the best reward of the mean of held-out accuracies wins.",
    )
    finals.add_argument(
        "--finalists",
        type=int,
        default=0,
        metavar="N",
        help="how many in the first round (default 0: none are trained)",
    )
    diagnose.add_trainings(parser, "rounds: trainings of the last finalists", seeds=_ROUNDS)


def run(options: argparse.Namespace) -> None:
    """Derive, write, print."""
    from nas.cli.errors import one_line_for_users

    with one_line_for_users("nas-search derive"):
        from nas.run import backend

        for name in ("seeds", "workers", "ray", *diagnose.RECIPE):
            if not options.finalists and getattr(options, name, None) is not None:
                raise ValueError(f"--{name.replace('_', '-')} goes with --finalists: without, nothing is trained")
        if options.by == "policy" and options.evaluations is not None:
            raise ValueError("--evaluations goes with --by random or evolution: the policy judges derive.survivors")
        if options.finalists < 0 or (options.seeds is not None and options.seeds < 1):
            raise ValueError("--finalists must be at least 0, --seeds at least 1")
        if options.finalists:
            paths.only_local(options, "--workdir", options.workdir, "training finalists")
        backend.prepare(2)
        from nas.search import describe, planning

        workdir, out = paths.place(options.workdir), paths.place(options.out)
        workdir.pull()
        out.pull()
        try:
            found = _derive(options, workdir, out)
        except KeyboardInterrupt:
            print("\nstopped; finished trainings are kept; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
        finally:
            out.push()
    print(describe.result(found, out.named(out.path / planning.RESULT)))


def _derive(options: argparse.Namespace, workdir: Folder, out: Folder) -> ArchSpec:
    import search_spaces
    from nas.run.log import LiveLine, console
    from nas.search import alone, planning, stages
    from nas.search.derive import Finals, halves
    from search_spaces import yaml_io

    stage = options.stage or planning.last_stage(workdir.path)
    run, seeds = planning.read_record(stage, workdir.path), _ROUNDS if options.seeds is None else options.seeds
    there = out.path / planning.RESULT
    old = search_spaces.load(there).found if there.exists() else None
    if (out.path / planning.RECORD).exists() or (there.exists() and (old is None or old.seconds)):  # ours took none
        raise ValueError(f"--out {out}: holds a search's own result, which would be lost; choose another")
    usual = run.config.derive
    changes = {"by": options.by, "survivors": max(usual.survivors, options.finalists)}
    if options.evaluations is not None:
        changes["evaluations"] = options.evaluations
    settings = yaml_io.validate({**usual.model_dump(), **changes}, type(usual), "nas-search derive")
    judged = 0 if settings.by == "policy" else settings.evaluations
    rounds = halves(options.finalists, seeds)
    finals = None
    with LiveLine("derive", judged, console()) as line:
        if options.finalists:
            recipe, workers = diagnose.recipe_of(options, run.config), on_cluster.workers(options)
            folder = out.path / alone.FOLDER
            alone.keep(folder, alone.Record.of(stage, run, recipe))

            def train(vectors: np.ndarray, seeds: int) -> np.ndarray:
                if seeds == 1:
                    line.then("finalists", sum(rounds))
                earlier = sum(rounds[: seeds - 1]) - len(vectors) * (seeds - 1)
                return alone.train(
                    stage,
                    workdir.path,
                    recipe,
                    vectors,
                    seeds=seeds,
                    path=folder / alone.TRAINED,
                    show=lambda trained, text: line.show(earlier + trained, text),
                    workers=workers,
                )

            finals = Finals(options.finalists, seeds, train)
        goals = tuple(options.device or ())
        return stages.again(stage, workdir.path, out.path, settings, goals, finals, line.show)
