"""`nas-latency measure` and `bench-kit`: tables of your own."""

from __future__ import annotations

import argparse

from nas.cli import on_cluster, paths
from nas.cli.messages import say


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser.

    Args:
      commands: Subcommands of the parser.
    """
    command = commands.add_parser(
        "measure", help="time operations or networks on this CPU: a table of your own"
    )
    _what(command)
    on = "or Arm Ethos-U, as its compiler estimates it"
    command.add_argument("--on", default="here", metavar="here|ethos-u55-256|...", help=on)
    command.add_argument("--dtype", choices=("int8", "float32"), default="int8")
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
    command.add_argument("--device", choices=("android", "edgetpu"), required=True)
    command.set_defaults(run=_bench_kit)


def _what(command: argparse.ArgumentParser) -> None:
    command.add_argument("networks", nargs="+", metavar="NAME|FILE")
    space = f"every operation of that stage's space of the base: {paths.STAGES}"
    command.add_argument("--space", metavar="STAGE", help=space)
    whole = "whole networks instead of their operations"
    command.add_argument("--whole", action="store_true", help=whole)
    command.add_argument("--out", type=paths.folder, required=True, metavar="DIR")


def _measure(options: argparse.Namespace) -> None:
    import search_spaces
    from latency_tables.table import Table
    from nas.api import costs
    from nas.report import latency, plots

    networks = [search_spaces.base(name) for name in options.networks]
    settings = {name: getattr(options, name) for name in ("on", "dtype", "quick", "core", "clock")}
    ray = on_cluster.spec(options)
    if ray is None:
        processor = costs.runtime(**settings)
        say("; ".join(f"{key}: {value}" for key, value in processor.settings.items()))
    measured = costs.measure(
        networks,
        out=options.out,
        space=options.space,
        whole=options.whole,
        ray=ray,
        **settings,
    )
    if isinstance(measured, Table):
        names = [row.op.kind for row in measured.rows]
        ops = [(row.op,) for row in measured.rows]
        call = f"{measured.manifest.call_ms:.2g} ms"
        say(f"{len(ops)} operations; a call that does nothing takes {call}")
    else:
        names = measured.names
        ops = [network.ops for network in measured.measurements]
        say(latency.measured(measured))
    say(f"written: {options.out}")
    if options.plot:
        gmacs = [sum(op.macs for op in each) / 1e9 for each in ops]
        plots.measured(names, gmacs, measured.ms, options.plot, by_kind=not options.whole)
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
