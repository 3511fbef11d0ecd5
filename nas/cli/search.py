"""`nas-search`: the coarse and the fine stage of a search."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.cli import derive, describe, diagnose

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.run.config import RunConfig, Stage

_COMMANDS = {"describe": describe, "derive": derive, "diagnose": diagnose}
_EXAMPLES = """\
examples:
  nas-search --stage coarse                      embedded data, 2 minutes: runs/quickstart/coarse/architecture.yaml
  nas-search --stage fine                        on from it: runs/quickstart/fine/architecture.yaml
  nas-search                                     both, one after the other
  nas-search --stage hybrid                      on from fine: attention where it pays
  nas-search describe mnv4-conv-s                layers, shapes, parameters, MACs of any network
  nas-search --device pixel6-cpu:0.08ms --workdir runs/fast
  nas-search --config my.yaml --set search.steps.coarse=2000 --data npz:photos.npz

The same command again goes on where an interrupted run stopped.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C, 1 if the search diverged."""
    options = _parser().parse_args(arguments)
    if options.command is not None:
        _COMMANDS[options.command].run(options)
        return
    from nas.cli.errors import one_line_for_users

    with one_line_for_users("nas-search"):
        from nas.cli import config_files
        from nas.run.config import RunConfig

        extra = {}
        if options.device:
            extra["targets"] = options.device
        if options.data:
            extra["data.source"] = options.data
        if options.separate:
            extra["separate"] = True
        if options.seed is not None:
            extra["seed"] = options.seed
        config = config_files.load(options.config, RunConfig, options.set, extra)
    workdir = pathlib.Path(options.workdir or pathlib.Path("runs", config.name))
    stages = ("coarse", "fine") if options.stage is None else (options.stage,)
    if options.dry_run and len(stages) > 1 and not (workdir / "coarse" / "architecture.yaml").exists():
        stages = stages[:1]
        print("(the space of the fine stage follows from the result of the coarse one)\n")
    for stage in stages:
        _run_stage(stage, config, workdir, dry_run=options.dry_run, tensorboard=options.tensorboard)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-search",
        description="Search a network for your device and data: widths, expansions and depth (coarse), "
        "then the depthwise layers of every block (fine).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stage", choices=("coarse", "fine", "hybrid", "one-stage"), help="one; without it, coarse and fine"
    )
    parser.add_argument("--config", default="quickstart", metavar="NAME|FILE", help="default: quickstart")
    parser.add_argument("--workdir", metavar="DIR", help="default: runs/NAME of the configuration")
    parser.add_argument(
        "--data", metavar="SOURCE", help="builtin:NAME, distilled:DIR, imagefolder:DIR, npz:FILE or tfds:NAME"
    )
    parser.add_argument(
        "--device", action="append", metavar="NAME:VALUE", help="target, e.g. pixel6-cpu:2.4ms; repeat for several"
    )
    parser.add_argument("--separate", action="store_true", help="a network for each target, from one supernet")
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting; repeatable"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write metrics for TensorBoard too (extra tensorboard)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check and describe everything, run nothing")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in _COMMANDS.values():
        command.add(commands)
    return parser


def _run_stage(stage: Stage, config: RunConfig, workdir: pathlib.Path, *, dry_run: bool, tensorboard: bool) -> None:
    from nas.cli.errors import one_line_for_users
    from nas.run import backend
    from nas.run.log import console as make_console

    backend.prepare(config.search.replicas)
    with one_line_for_users("nas-search"):
        from nas.run import tensorboard as sink
        from nas.search import planning, stages

        plan = planning.plan(stage, config, workdir)
        if tensorboard:
            sink.check()
    from nas.search import describe as say

    if dry_run:
        print(say.plan(plan))
        return
    console = make_console()
    if plan.finished:
        there = ", ".join(str(goal.result) for goal in plan.goals)
        console.print(f"{there}: found already; for another run choose another --workdir", soft_wrap=True)
        return
    for line in (say.headline(plan), *say.filled_in(plan)):
        console.print(line, soft_wrap=True)
    again = " ".join(["nas-search", *sys.argv[1:]])
    try:
        found = stages.run(plan, console, tensorboard=tensorboard)
    except KeyboardInterrupt:
        console.print(f"\nstopped and saved in {plan.folder}; to go on: {again}", soft_wrap=True)
        raise SystemExit(130) from None
    except stages.loop.NotFinite as error:
        console.print(
            f"nas-search: error: {error}; the last good checkpoint is kept in {plan.folder / 'checkpoints'}; "
            "try a smaller weights.learning_rate in another --workdir",
            soft_wrap=True,
        )
        raise SystemExit(1) from None
    for path, spec in found.items():
        print(say.result(spec, path))
    from nas.report import search as report

    for path in report.write(stage, workdir):
        print(f"report: {path}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
