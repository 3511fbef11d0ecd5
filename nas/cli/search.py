"""`nas-search`: the coarse and the fine stage of a search."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.cli import derive, describe, diagnose, matrix, on_cluster, paths

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.run import remote
    from nas.run.config import RunConfig, Stage

_INTERRUPTED = 130
_COMMANDS = {"describe": describe, "derive": derive, "diagnose": diagnose, "matrix": matrix}
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
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.plan and not options.dry_run:
        parser.error("--plan goes with --dry-run: it describes, and runs nothing")
    if options.command is None and options.workers is not None and not options.ray:
        parser.error("--workers goes with --ray; `--ray local` takes processes of this machine")
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
        workdir = paths.place(options.workdir or f"runs/{config.name}")
        workdir.pull()
    stages = ("coarse", "fine") if options.stage is None else (options.stage,)
    if options.dry_run and len(stages) > 1 and not (workdir.path / "coarse" / "architecture.yaml").exists():
        stages = stages[:1]
        print("(the space of the fine stage follows from the result of the coarse one)\n")
    failed = 0
    for stage in stages:
        each = _each(stage, config, workdir)
        for one, folder in each:
            try:
                _run_in(stage, one, folder, options)
            except SystemExit as stop:
                if len(each) == 1 or stop.code == _INTERRUPTED:
                    raise
                failed = stop.code  # the other targets are searched all the same
    if failed:
        raise SystemExit(failed)


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
    parser.add_argument("--workdir", metavar="DIR|URL", help="default: runs/NAME of the configuration")
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
    on_cluster.add(parser, "run there")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --ray: processes that share the replicas (default 1)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check and describe everything, run nothing")
    parser.add_argument("--plan", metavar="NAME:COUNT", help="with --dry-run: what it would take, e.g. tpu-v5e:128")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", action=_Commands)
    for command in _COMMANDS.values():
        command.add(commands)
    return parser


class _Commands(argparse._SubParsersAction):
    """Subcommands that refuse options before them, which would do nothing there.

    Those that a command lists with the default SUPPRESS hold from before it too.
    """

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        command = self.choices[values[0]]
        kept = {action.dest for action in command._actions if action.default is argparse.SUPPRESS}
        for action in parser._actions:
            changed = getattr(namespace, action.dest, action.default) != action.default
            if changed and action is not self and action.dest not in kept:
                option = action.option_strings[-1]
                parser.error(f"{option} before `{values[0]}` does nothing: give it behind, if {values[0]} has it")
        super().__call__(parser, namespace, values, option_string)


def _each(stage: Stage, config: RunConfig, workdir: remote.Folder) -> list[tuple[RunConfig, remote.Folder]]:
    """What a stage runs on: once, or where it goes on from separate targets, for each of them in its own folder."""
    from nas.cli.errors import one_line_for_users
    from nas.run.config import STAGES
    from nas.search import planning

    first = stage
    while before := STAGES[first]:
        first = before
    if first == stage or not config.separate:
        return [(config, workdir)]
    with one_line_for_users("nas-search"):
        goals = planning.plan(first, config, workdir.path).goals
        each = [(goal.config, workdir / goal.folder.parent.name) for goal in goals]
        for _, folder in each:
            folder.pull()
    return each


def _run_in(stage: Stage, config: RunConfig, workdir: remote.Folder, options: argparse.Namespace) -> None:
    from nas.cli.errors import one_line_for_users

    try:
        _run_stage(stage, config, workdir, options)
    finally:
        with one_line_for_users("nas-search"):
            workdir.push()


def _run_stage(stage: Stage, config: RunConfig, workdir: remote.Folder, options: argparse.Namespace) -> None:
    from nas.cli.errors import one_line_for_users
    from nas.run import backend, cluster
    from nas.run.log import LiveLine
    from nas.run.log import console as make_console

    backend.prepare(config.search.replicas)
    with one_line_for_users("nas-search"):
        from nas.run import tensorboard as sink
        from nas.search import planning, stages

        plan = planning.plan(stage, config, workdir.path)
        if options.tensorboard:
            sink.check()
        replicas, workers = config.search.replicas, 1 if options.workers is None else options.workers
        place = on_cluster.place(options)
        if workers < 1 or replicas % workers:
            raise ValueError(f"--workers {workers}: they share the replicas evenly, got search.replicas {replicas}")
    import search_spaces
    from nas.search import describe as say
    from nas.search import forecast

    if options.dry_run:
        print(say.plan(plan))
        if options.plan:
            with one_line_for_users("nas-search"):
                print(forecast.text(plan, forecast.parse_machine(options.plan)))
        return
    console = make_console()
    if plan.finished:
        there = ", ".join(workdir.named(goal.result) for goal in plan.goals)
        console.print(f"{there}: found already; for another run choose another --workdir", soft_wrap=True)
        return
    for line in (say.headline(plan, workdir.named(plan.folder)), *say.filled_in(plan)):
        console.print(line, soft_wrap=True)
    again = " ".join(["nas-search", *sys.argv[1:]])
    try:
        with LiveLine(stage, config.search.steps.of(stage), console) as line:
            if place:
                with one_line_for_users("nas-search"):
                    more = (workdir.absolute(), workers, options.tensorboard)
                    work = functools.partial(stages.run_one_of_several, stage, config, *more)
                    cluster.together(work, place=place, workers=workers, line=line)
                    workdir.pull()  # the first of them may have been on another machine
            else:
                stages.run(plan, line, tensorboard=options.tensorboard, saved=workdir.saver(line.say))
    except KeyboardInterrupt:
        state = "stopped; the last checkpoint is" if options.ray else "stopped and saved"
        console.print(f"\n{state} in {workdir.named(plan.folder)}; to go on: {again}", soft_wrap=True)
        raise SystemExit(_INTERRUPTED) from None
    except stages.loop.NotFinite as error:
        console.print(
            f"nas-search: error: {error}; the last good checkpoint is kept in "
            f"{workdir.named(plan.folder / 'checkpoints')}; try a smaller weights.learning_rate in another --workdir",
            soft_wrap=True,
        )
        raise SystemExit(1) from None
    for goal in plan.goals:
        print(say.result(search_spaces.load(goal.result), workdir.named(goal.result)))
    from nas.report import search as report

    for path in report.write(stage, workdir.path):
        print(f"report: {workdir.named(path)}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
