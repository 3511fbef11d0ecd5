"""`nas-latency import`, `fit` and `audit`: from measured times to devices."""

from __future__ import annotations

import argparse
from typing import Any

from nas.cli import paths
from nas.cli.messages import say

FORMATS = (
    "kit",
    "nn_meter_operators",
    "nn_meter_blocks",
    "ofa",
    "tunas",
    "tflite_benchmark",
    "ai_hub",
)
"""Formats for help texts.

A test holds them equal to the table of importers, which is not imported for --help.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser.

    Args:
      commands: Subcommands of the parser.
    """
    command = commands.add_parser(
        "import", help="read latency data of others, or the results of a kit, into a table"
    )
    command.add_argument("format", help=f"one of {', '.join(FORMATS)}", metavar="FORMAT")
    command.add_argument("path", metavar="FILE|DIR")
    fields = "manifest fields that the source does not state"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=fields)
    command.add_argument(
        "--network", metavar="NAME|FILE", help="the network of an operator profile"
    )
    partial = "accept a kit's results that are not complete"
    command.add_argument("--partial", action="store_true", help=partial)
    command.add_argument("--out", type=paths.folder, required=True, metavar="DIR")
    command.set_defaults(run=_import)

    command = commands.add_parser(
        "fit", help="a device file from measured networks, with calibrated intervals"
    )
    _measured(command)
    kinds = ("roofline", "cached_roofline", "table")
    command.add_argument("--kind", choices=kinds, default="roofline")
    command.add_argument("--table", metavar="DIR", help="measured operations, for --kind table")
    command.add_argument("--name", required=True, help="name of the device")
    command.add_argument("--out", required=True, metavar="FILE.yaml")
    command.add_argument("--plot", metavar="FILE.svg", help="plot measured against estimated times")
    command.set_defaults(run=_fit)

    command = commands.add_parser("audit", help="how well proxies rank networks as a device does")
    _measured(command)
    device = "a proxy beside MACs and parameters; repeat for several"
    command.add_argument("--device", action="append", default=[], metavar="NAME|FILE", help=device)
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(run=_audit)


def _measured(command: argparse.ArgumentParser) -> None:
    source = "from `measure --whole`, a CSV of network,ms, or a shipped table"
    command.add_argument("measured", metavar="DIR|FILE.csv|TABLE", help=source)


def _import(options: argparse.Namespace) -> None:
    from nas.api.costs import import_table

    fields: dict[str, Any] = {}
    for pair in options.set:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f'{pair!r}: expected --set KEY=VALUE, e.g. --set device="Pixel 9"')
        if key in fields:
            raise ValueError(f"--set {key}: given twice; leave one out")
        fields[key] = int(value) if key == "threads" and value.isdigit() else value
    imported, table = import_table(
        options.format,
        options.path,
        out=options.out,
        fields=fields,
        network=options.network,
        partial=options.partial,
    )
    for reason, count in imported.skipped_counts.items():
        say(f"skipped {count}: {reason}")
    several = sum(len(measurement.ops) > 1 for measurement in imported.measurements)
    rows = table.manifest.rows if table else 0
    say(f"written: {options.out}: {rows} operations, {several} blocks or networks")
    say(imported.decomposition_note)


def _fit(options: argparse.Namespace) -> None:
    from nas.api.costs import fit_device
    from search_spaces import files, yaml_io

    fitted = fit_device(options.measured, name=options.name, kind=options.kind, table=options.table)
    device, count = fitted.device, len(fitted.names)
    if fitted.held_out_error is None:
        say(f"median error {fitted.error:.1%} of {count} networks")
    else:
        say(f"{device.description}; a call {device.terms[0].constant:.3g} ms")
        held_out = f"held out {fitted.held_out_error:.1%}"
        say(f"median error {fitted.error:.1%}, {held_out} of {count} networks")
    low, high = device.calibration.interval(1.0) if device.calibration else (0, 0)
    say(f"a network takes {low:.2f} to {high:.2f} times its estimate (90 %)")
    files.write_atomically(options.out, yaml_io.to_yaml(device))
    say(f"written: {options.out}")
    if options.plot:
        from nas.report import plots

        plots.scatter(fitted.estimated_ms, fitted.measured_ms, fitted.names, options.plot)
        say(f"written: {options.plot}")


def _audit(options: argparse.Namespace) -> None:
    import numpy as np

    from nas.api.costs import audit
    from nas.report import latency

    rows, count = audit(options.measured, options.device)
    say(latency.audit(rows, count))
    if options.plot:
        from nas.report import plots

        values = np.array([row.spearman for row in rows])
        low, high = (np.array([row.spearman_interval[end] for row in rows]) for end in (0, 1))
        title = f"Spearman with {count} measured networks, 95 % interval"
        plots.bars([row.proxy for row in rows], values, low, high, title, options.plot)
        say(f"written: {options.plot}")
