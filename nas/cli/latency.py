"""`nas-latency`: costs of networks on devices."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.cli import measure, tables
from nas.cli.errors import INTERRUPTED, one_line_for_users
from nas.cli.messages import say

if TYPE_CHECKING:  # imported late, so that --help answers at once
    import numpy as np

_EXAMPLES = """\
examples:
  nas-latency list
  nas-latency estimate mnv4-conv-s mnv4-conv-m --device pixel6-cpu
  nas-latency sweep mnv4-conv-s mobilenet-v2 mobilenet-v3-large --plot sweep.svg
  nas-latency measure small-32 --space one-stage --quick --out my_table   operations, on this CPU
  nas-latency measure mnv4-conv-s mnv4-conv-m --whole --out my_networks   whole networks
  nas-latency measure a.tflite b.tflite mnv4-conv-s --quick   files of anyone, in turn
  nas-latency measure small-32 --space fine --on ethos-u55-256 --out ethos
  nas-latency bench-kit small-32 --space fine --device android --out kit  a folder for a phone
  nas-latency import kit kit --out phone_table --set device="Pixel 9" --set processor="Tensor G4"
  nas-latency fit my_networks --name my-cpu --out my-cpu.yaml   then: --device my-cpu.yaml:2ms
  nas-latency audit my_networks --device my-cpu.yaml --plot audit.svg
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C.

    Args:
      arguments: Command line; None: that of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        with one_line_for_users(f"nas-latency {options.command}"):
            options.run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        measuring = options.command == "measure" and options.out
        kept = "; measurements are kept, rerun the same command to resume" if measuring else ""
        print(f"nas-latency {options.command}: interrupted{kept}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-latency",
        description="Costs of networks on devices: estimates, sweeps over hardware, tables.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command = commands.add_parser("list", help="known devices and tables")
    command.set_defaults(run=_list)

    command = commands.add_parser(
        "estimate", help="cost of networks on devices, with intervals where there are any"
    )
    command.add_argument("networks", nargs="+", metavar="NAME|FILE")
    device = "repeat for several; default: all"
    command.add_argument("--device", action="append", metavar="NAME|FILE", help=device)
    level = "probability of the interval (default 0.9)"
    command.add_argument("--level", type=float, default=0.9, help=level)
    layers = "per-operation breakdown, most expensive first"
    command.add_argument("--layers", action="store_true", help=layers)
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(run=_estimate)

    command = commands.add_parser(
        "sweep", help="roofline latency over the ridge points of all hardware"
    )
    command.add_argument("networks", nargs="+", metavar="NAME|FILE")
    command.add_argument("--reference", metavar="NAME", help="show ratios to one of the networks")
    quality = "CSV of network,quality: marks the networks on the Pareto front"
    command.add_argument("--quality", metavar="FILE", help=quality)
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(run=_sweep)

    measure.add(commands)
    tables.add(commands)
    return parser


def _list(options: argparse.Namespace) -> None:
    from nas.report import latency

    say(latency.known())


def _estimate(options: argparse.Namespace) -> None:
    import latency_tables
    from nas.api.costs import estimate, frozen_network
    from nas.report import latency

    specs = [frozen_network(name) for name in options.networks]
    estimates = {}
    for device in map(latency_tables.device, options.device or latency_tables.devices()):
        estimates[device.name] = [estimate(spec, device, options.level) for spec in specs]
        say(latency.estimates(device, specs, estimates[device.name], options.layers))
    if options.plot:
        from nas.report import plots

        plots.estimates([spec.name for spec in specs], estimates, options.plot)
        say(f"written: {options.plot}")


def _sweep(options: argparse.Namespace) -> None:
    from latency_tables import sweep
    from nas.api.costs import frozen_network
    from nas.report import latency

    specs = [frozen_network(name) for name in options.networks]
    shown = sweep.sweep(specs, sweep.PLOTTED)
    full = sweep.sweep(specs, sweep.ridge_points())
    quality = _quality(options.quality, shown.names) if options.quality else None
    say(latency.sweep(shown, full, options.reference, quality))
    if options.plot:
        from nas.report import plots

        plots.sweep(full, options.plot, options.reference)
        say(f"written: {options.plot}")


def _quality(path: str, names: Sequence[str]) -> np.ndarray:
    import math

    import numpy as np

    from latency_tables import csv_files

    columns = ("network", "quality")
    text = csv_files.read_text(path)
    first = [cell.strip() for cell in text.partition("\n")[0].split(",")]
    if first != list(columns):  # the header may be left out; then the first line counts as line 2
        text = f"{','.join(columns)}\n{text}"
    rows = {row["network"].strip(): row for row in csv_files.parse(text, path, columns)}
    values = []
    for name in names:
        if name not in rows:
            raise ValueError(f"{path}: has no line for {name!r} (each line: network,quality)")
        values.append(csv_files.real(rows[name]["quality"].strip()))
        if math.isnan(values[-1]):
            raise ValueError(f"{path}: {name}: {rows[name]['quality']!r} is not a number")
    return np.array(values)


if __name__ == "__main__":
    main()
