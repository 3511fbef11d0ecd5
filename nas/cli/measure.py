"""`nas-latency measure` and `bench-kit`: tables of your own, and the times of TFLite files."""

from __future__ import annotations

import argparse

from nas.cli import on_cluster, paths
from nas.cli.errors import with_options
from nas.cli.messages import say


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser.

    Args:
      commands: Subcommands of the parser.
    """
    command = commands.add_parser(
        "measure", help="time operations, networks or TFLite files on this CPU"
    )
    _what(command, "NAME|FILE|MODEL.tflite")
    out = "folder of the table; only of TFLite files it may be left out"
    command.add_argument("--out", type=paths.folder, metavar="DIR", help=out)
    device = "with TFLite files: whose predictions stand beside the measurements"
    command.add_argument("--device", metavar="NAME|FILE", help=device)
    on = "or Arm Ethos-U, as its compiler estimates it"
    command.add_argument("--on", default="here", metavar="here|ethos-u55-256|...", help=on)
    dtype = "type of networks (default int8, beside TFLite files theirs)"
    command.add_argument("--dtype", choices=("int8", "float32"), help=dtype)
    quick = "a rough figure in a fraction of the time"
    command.add_argument("--quick", action="store_true", help=quick)
    core = "pin to this core (default: the last allowed)"
    command.add_argument("--core", type=int, metavar="N", help=core)
    clock = "cpu: count only the time that the thread really ran"
    command.add_argument("--clock", choices=("wall", "cpu"), default="wall", help=clock)
    command.add_argument("--plot", metavar="FILE.svg")
    on_cluster.add(
        command, "measure on its machines, one model at a time on each", accelerators=False
    )
    command.set_defaults(run=_measure)

    command = commands.add_parser(
        "bench-kit", help="a folder of models and a script, to measure on another device"
    )
    _what(command)
    command.add_argument("--out", type=paths.folder, required=True, metavar="DIR")
    command.add_argument("--device", choices=("android", "edgetpu"), required=True)
    command.set_defaults(run=_bench_kit)


def _what(command: argparse.ArgumentParser, what: str = "NAME|FILE") -> None:
    command.add_argument("networks", nargs="+", metavar=what)
    space = f"every operation of that stage's space of the base: {paths.STAGES}"
    command.add_argument("--space", metavar="STAGE", help=space)
    whole = "whole networks instead of their operations"
    command.add_argument("--whole", action="store_true", help=whole)


def _measure(options: argparse.Namespace) -> None:
    from latency_tables.table import Table
    from nas.api import measuring
    from nas.measurement.model_files import is_model_file
    from nas.report import latency
    from search_spaces import base

    settings = {name: getattr(options, name) for name in ("on", "dtype", "quick", "core", "clock")}
    ray = on_cluster.spec(options)
    networks = [item if is_model_file(item) else base(item) for item in options.networks]
    has_files = any(map(is_model_file, options.networks))
    if ray is None and not (has_files and options.on != "here"):
        say(latency.settings(measuring.runtime(**settings).settings, has_files))
    measured = measuring.measure(
        networks,
        out=options.out,
        space=options.space,
        whole=options.whole,
        device=options.device,
        ray=ray,
        **settings,
    )
    if isinstance(measured, Table):
        names = [row.op.kind for row in measured.rows]
        macs = [row.op.macs for row in measured.rows]
        call = f"{measured.manifest.call_ms:.2g} ms"
        say(f"{len(macs)} operations; a call that does nothing takes {call}")
    elif isinstance(measured, measuring.MeasuredModels):
        names = measured.names
        macs = [one.model.contents.macs for one in measured.models]
        say(with_options(latency.measured_models(measured)))
    else:
        names = measured.names
        macs = [sum(op.macs for op in network.ops) for network in measured.measurements]
        say(latency.measured(measured))
    if options.out and not (isinstance(measured, measuring.MeasuredModels) and not measured.table):
        say(f"written: {options.out}")
    if options.plot:
        from nas.report import plots

        gmacs = [count / 1e9 for count in macs]
        by_kind = isinstance(measured, Table)
        plots.measured(names, gmacs, measured.ms, options.plot, by_kind=by_kind)
        say(f"written: {options.plot}")


def _bench_kit(options: argparse.Namespace) -> None:
    from nas.api.costs import bench_kit

    count = bench_kit(
        options.networks,
        device=options.device,
        out=options.out,
        space=options.space,
        whole=options.whole,
    )
    say(f"written: {options.out} ({count} models); its README.md says how to run it")
