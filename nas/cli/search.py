"""`nas-search`: the coarse and the fine stage of a search."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.cli import derive, describe, diagnose, matrix, on_cluster, paths
from nas.cli.errors import INTERRUPTED, one_line_for_files, one_line_for_users
from nas.cli.messages import say

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.api.session import Session, StageJob
    from nas.engine.planning import Plan

_COMMANDS = {"describe": describe, "derive": derive, "diagnose": diagnose, "matrix": matrix}
_EXAMPLES = """\
examples:
  nas-search --stage coarse         embedded data, 2 min: runs/quickstart/coarse/architecture.yaml
  nas-search --stage fine           continue from it: runs/quickstart/fine/architecture.yaml
  nas-search                        both, one after the other
  nas-search --stage hybrid         continue from fine: attention where it pays
  nas-search describe mnv4-conv-s   layers, shapes, parameters, MACs of any network
  nas-search --device pixel6-cpu:0.08ms --workdir runs/fast
  nas-search --config my.yaml --set search.steps.coarse=2000 --data npz:photos.npz

Rerun the same command to resume an interrupted run.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C, 1 if the search diverged.

    Args:
      arguments: Command line; None: that of the process.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.plan and not options.dry_run:
        parser.error("--plan goes with --dry-run: it describes, and runs nothing")
    if options.command is None and options.workers is not None and not options.ray:
        parser.error("--workers goes with --ray; `--ray local` takes processes of this machine")
    if options.command is not None:
        _COMMANDS[options.command].run(options)
        return
    with one_line_for_users("nas-search"):
        from nas.api.session import open_session

        session = open_session(
            options.config,
            stage=options.stage,
            targets=options.device,
            data=options.data,
            workdir=options.workdir,
            seed=options.seed,
            separate=options.separate,
            changes=options.set,
        )
        ray = on_cluster.spec(options)
        workers = 1 if options.workers is None else options.workers
        session.check(tensorboard=options.tensorboard, ray=ray, workers=workers)
    if options.dry_run and session.workdir.url is None:  # nothing is written
        _run_stages(session, options)
        return
    with contextlib.ExitStack() as stack:
        with one_line_for_users("nas-search"):
            stack.enter_context(session.exclusive())
            session.workdir.pull()
        _run_stages(session, options)


def _run_stages(session: Session, options: argparse.Namespace) -> None:
    stages = session.stages
    if options.dry_run and not session.has_result_before(stages[-1]) and len(stages) > 1:
        stages = stages[:1]
        say("(the space of the fine stage follows from the result of the coarse one)\n")
    failed = 0
    for stage in stages:
        with one_line_for_users("nas-search"):
            jobs = session.jobs(stage)
        for job in jobs:
            try:
                _run(job, options)
            except SystemExit as stop:
                if len(jobs) == 1 or stop.code == INTERRUPTED:
                    raise
                failed = stop.code  # the other targets are searched all the same
    if failed:
        raise SystemExit(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-search",
        description="Search a network for your device and data: widths, expansions and depth "
        "(coarse), "
        "then the depthwise layers of every block (fine).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--stage", metavar="STAGE", help=f"{paths.STAGES}; default: coarse, then fine")
    add(
        "--config",
        default="quickstart",
        metavar="NAME|FILE",
        help="configuration (default quickstart)",
    )
    add(
        "--workdir",
        metavar="DIR|URL",
        help="folder of the search; default: runs/NAME of the configuration",
    )
    sources = "builtin:NAME, distilled:DIR, imagefolder:DIR, npz:FILE or tfds:NAME"
    add("--data", metavar="SOURCE", help=f"training data: {sources}")
    device = "target, e.g. pixel6-cpu:2.4ms; repeat for several"
    add("--device", action="append", metavar="NAME:VALUE", help=device)
    add("--separate", action="store_true", help="find a network for each target, from one supernet")
    add("--seed", type=int, metavar="N", help="random seed (default: from the configuration)")
    change = "change one setting of the configuration; repeatable"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=change)
    events = "also write metrics for TensorBoard (extra tensorboard)"
    add("--tensorboard", action="store_true", help=events)
    on_cluster.add(parser, "run there")
    workers = "with --ray: processes that share the replicas (default 1)"
    add("--workers", type=int, metavar="N", help=workers)
    add("--dry-run", action="store_true", help="check and describe everything, run nothing")
    forecast = "with --dry-run: time, memory and price there, e.g. tpu-v5e:128"
    add("--plan", metavar="NAME:COUNT", help=forecast)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", action=_Commands)
    for command in _COMMANDS.values():
        command.add(commands)
    return parser


class _Commands(argparse._SubParsersAction):
    """Subcommands that refuse options before them, which would do nothing there.

    Those that a command lists with the default SUPPRESS hold from before it too.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Any = None,
    ) -> None:
        command = self.choices[values[0]]
        kept = {action.dest for action in command._actions if action.default is argparse.SUPPRESS}
        for action in parser._actions:
            changed = getattr(namespace, action.dest, action.default) != action.default
            if changed and action is not self and action.dest not in kept:
                option = action.option_strings[-1]
                parser.error(
                    f"{option} before `{values[0]}` does nothing: give it after `{values[0]}`, if "
                    "it has it"
                )
        super().__call__(parser, namespace, values, option_string)


def _run(job: StageJob, options: argparse.Namespace) -> None:
    """One stage of a session; its files are copied to a store whatever happens."""
    try:
        with one_line_for_users("nas-search"):
            plan = job.plan()
        if options.dry_run:
            _describe(plan, options)
        else:
            _search(job, plan, options)
    finally:
        with one_line_for_users("nas-search"):
            job.workdir.push()


def _describe(plan: Plan, options: argparse.Namespace) -> None:
    from nas.cli.data import summary
    from nas.engine import forecast
    from nas.report import describe

    with one_line_for_users("nas-search"):
        say(f"{summary(plan.config.data.source)}{describe.plan(plan)}")
    if options.plan:
        with one_line_for_users("nas-search"):
            say(forecast.text(plan, forecast.parse_machine(options.plan)))


def _search(job: StageJob, plan: Plan, options: argparse.Namespace) -> None:
    from nas.host.progress import ProgressBar, console
    from nas.report import describe
    from nas.run.loop import NotFinite

    out = console()
    display = job.workdir.display_name
    if plan.is_finished:
        found = ", ".join(display(sub_plan.folder.architecture) for sub_plan in plan.sub_plans)
        out.print(
            f"{found}: found already; for another run choose another --workdir", soft_wrap=True
        )
        with one_line_for_users("nas-search"):
            pages = job.repair_report(plan)
        for page in pages:
            say(f"report: {display(page)}")
        return
    for line in (describe.headline(plan, display(plan.folder.path)), *describe.filled_in(plan)):
        out.print(line, soft_wrap=True)
    # Without a cluster, an error in the middle of a run is ours, and keeps its traceback, unless
    # it is the disk's.
    guard = one_line_for_users if options.ray else one_line_for_files
    try:
        steps = job.config.search.steps.of(job.stage)
        with ProgressBar(job.stage, steps, out) as progress, guard("nas-search"):
            results = job.run(
                plan,
                progress,
                tensorboard=options.tensorboard,
                ray=on_cluster.spec(options),
                workers=options.workers or 1,
            )
    except KeyboardInterrupt:
        state = "stopped; the last checkpoint is" if options.ray else "stopped and saved"
        again = " ".join(["nas-search", *sys.argv[1:]])
        out.print(f"\n{state} in {display(plan.folder.path)}; to resume: {again}", soft_wrap=True)
        raise SystemExit(INTERRUPTED) from None
    except NotFinite as error:
        out.print(
            f"nas-search: error: {error}; the last good checkpoint is kept in "
            f"{display(plan.folder.checkpoints)}; try a smaller weights.learning_rate in another "
            "--workdir",
            soft_wrap=True,
        )
        raise SystemExit(1) from None
    for result in results:
        say(describe.result(result.architecture, display(result.folder.architecture)))
    with one_line_for_users("nas-search"):
        pages = job.report()
    for page in pages:
        say(f"report: {display(page)}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
