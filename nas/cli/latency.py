"""`nas-latency`: what networks cost on devices."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Sequence

from nas.cli import on_cluster, paths

_EXAMPLES = """\
examples:
  nas-latency list
  nas-latency estimate mnv4-conv-s mnv4-conv-m --device pixel6-cpu
  nas-latency sweep mnv4-conv-s mobilenet-v2 mobilenet-v3-large --plot sweep.svg
  nas-latency measure small-32 --space one-stage --quick --out my_table        every operation of a search, on this CPU
  nas-latency measure mnv4-conv-s mnv4-conv-m --whole --out    my_networks     whole networks
  nas-latency measure small-32 --space fine --on ethos-u55-256 --out ethos     as Arm's compiler Vela estimates it
  nas-latency bench-kit small-32 --space fine --device android --out kit       a folder to run on a phone
  nas-latency import kit kit --out phone_table --set device="Pixel 9" --set processor="Tensor G4"
  nas-latency fit my_networks --kind roofline --name my-cpu --out my-cpu.yaml  then: --device my-cpu.yaml:2ms
  nas-latency audit my_networks --device my-cpu.yaml --plot audit.svg
"""


_FORMATS = ("kit", "nn_meter_operators", "nn_meter_blocks", "ofa", "tunas", "tflite_benchmark", "ai_hub")
"""The names of `latency_tables.importers.IMPORTERS`, which is not imported for --help, and the results of a kit."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    from nas.cli.errors import one_line_for_users

    try:
        with one_line_for_users(f"nas-latency {options.command}"):
            options.run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        kept = "; what was measured is kept, the same command goes on" if options.command == "measure" else ""
        print(f"nas-latency {options.command}: interrupted{kept}", file=sys.stderr)
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-latency",
        description="What networks cost on devices: estimates, sweeps over hardware, tables.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    command = commands.add_parser("list", help="the devices and tables that are known")
    command.set_defaults(run=_list)

    command = commands.add_parser("estimate", help="cost of networks on devices, with intervals where there are any")
    command.add_argument("networks", nargs="+", metavar="NAME|FILE")
    command.add_argument("--device", action="append", metavar="NAME|FILE", help="repeat for several; default: all")
    command.add_argument("--level", type=float, default=0.9, help="of the interval (default 0.9)")
    command.add_argument("--layers", action="store_true", help="every operation's part, dearest first")
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(run=_estimate)

    command = commands.add_parser("sweep", help="roofline latency over the ridge points of all hardware")
    command.add_argument("networks", nargs="+", metavar="NAME|FILE")
    command.add_argument("--reference", metavar="NAME", help="show ratios to one of the networks")
    command.add_argument("--quality", metavar="FILE", help="CSV of network,quality: marks who is on the Pareto front")
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(run=_sweep)

    command = commands.add_parser("measure", help="time operations or networks on this CPU: a table of your own")
    _what(command)
    command.add_argument(
        "--on",
        default="here",
        metavar="here|ethos-u55-256|...",
        help="or Arm Ethos-U, as its compiler estimates it",
    )
    command.add_argument("--dtype", choices=("int8", "float32"), default="int8")
    command.add_argument("--quick", action="store_true", help="a rough figure in a fraction of the time")
    command.add_argument("--core", type=int, metavar="N", help="pin to this core (default: the last allowed)")
    command.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: count only the time that the thread really ran"
    )
    command.add_argument("--plot", metavar="FILE.svg")
    on_cluster.add(command, "measure on its machines, one model at a time on each", accelerators=False)
    command.set_defaults(run=_measure)

    command = commands.add_parser("bench-kit", help="a folder of models and a script, to measure on another device")
    _what(command)
    command.add_argument("--device", choices=("android", "edgetpu"), required=True)
    command.set_defaults(run=_bench_kit)

    command = commands.add_parser("import", help="read latency data of others, or the results of a kit, into a table")
    command.add_argument("format", help=f"one of {', '.join(_FORMATS)}", metavar="FORMAT")
    command.add_argument("path", metavar="FILE|DIR")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="manifest fields that the source does not state"
    )
    command.add_argument("--network", metavar="NAME|FILE", help="the network of an operator profile")
    command.add_argument("--partial", action="store_true", help="accept a kit's results that are not complete")
    command.add_argument("--out", type=paths.folder, required=True, metavar="DIR")
    command.set_defaults(run=_import)

    command = commands.add_parser("fit", help="a device file from measured networks, with calibrated intervals")
    _measured_argument(command)
    command.add_argument("--kind", choices=("roofline", "cached_roofline", "table"), default="roofline")
    command.add_argument("--table", metavar="DIR", help="of measured operations, for --kind table")
    command.add_argument("--name", required=True, help="of the device")
    command.add_argument("--out", required=True, metavar="FILE.yaml")
    command.add_argument("--plot", metavar="FILE.svg", help="measured against estimated")
    command.set_defaults(run=_fit)

    command = commands.add_parser("audit", help="how well proxies rank networks as a device does")
    _measured_argument(command)
    command.add_argument(
        "--device", action="append", default=[], metavar="NAME|FILE", help="proxies beside MACs, params"
    )
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(run=_audit)
    return parser


def _what(command: argparse.ArgumentParser) -> None:
    command.add_argument("networks", nargs="+", metavar="NAME|FILE")
    command.add_argument(
        "--space", choices=("coarse", "fine", "hybrid", "one-stage"), help="every operation of that space of the base"
    )  # the names of `search_spaces.SPACES`, which is not imported for --help
    command.add_argument("--whole", action="store_true", help="whole networks instead of their operations")
    command.add_argument("--out", type=paths.folder, required=True, metavar="DIR")


def _measured_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "measured", metavar="DIR|FILE.csv|TABLE", help="from `measure --whole`, a CSV of network,ms, or a shipped table"
    )


def _list(options: argparse.Namespace) -> None:
    from nas.report import latency

    print(latency.known())


def _estimate(options: argparse.Namespace) -> None:
    import latency_tables
    import search_spaces
    from nas.report import latency

    specs = [_frozen(name) for name in options.networks]
    if not 0 < options.level < 1:
        raise ValueError(f"--level: got {options.level}, expected between 0 and 1")
    found = {}
    for device in map(latency_tables.device, options.device or latency_tables.devices()):
        found[device.name] = [device.estimate(search_spaces.lower(spec), options.level) for spec in specs]
        print(latency.estimates(device, specs, found[device.name], options.layers))
    if options.plot:
        from nas.report import plots

        plots.estimates([spec.name for spec in specs], found, options.plot)
        print(f"written: {options.plot}")


def _sweep(options: argparse.Namespace) -> None:
    from latency_tables import sweep
    from nas.report import latency

    specs = [_frozen(name) for name in options.networks]
    shown, full = (sweep.sweep(specs, points) for points in (sweep.PLOTTED, sweep.ridge_points()))
    quality = _quality(options.quality, shown.names) if options.quality else None
    print(latency.sweep(shown, full, options.reference, quality))
    if options.plot:
        from nas.report import plots

        plots.sweep(full, options.plot, options.reference)
        print(f"written: {options.plot}")


def _measure(options: argparse.Namespace) -> None:
    from nas.deploy import table
    from nas.report import latency, plots
    from nas.run import cluster
    from nas.run.log import LiveLine, console

    specs = [_frozen(name) for name in options.networks] if options.whole else []
    wanted = () if options.whole else _operations(options)
    runtime = _runtime(options)
    workers = on_cluster.workers(options)
    if workers.place is None:
        print("; ".join(f"{key}: {value}" for key, value in runtime.settings.items()))
    with (
        cluster.connected(workers.place.address) if workers.place else contextlib.nullcontext(),
        LiveLine("measure", len(specs) or len(wanted), console()) as line,
    ):

        def progress(done: int, total: int, text: str) -> None:
            line.show(done, text)

        if options.whole:
            done = table.measure_networks(specs, options.out, runtime, progress=progress, workers=workers)
            names, ops, said = done.names, [one.ops for one in done.measurements], latency.measured(done)
        else:
            done = table.measure_table(wanted, options.out, runtime, progress=progress, workers=workers)
            names, ops = [row.op.kind for row in done.rows], [(row.op,) for row in done.rows]
            said = f"{len(ops)} operations; a call that does nothing takes {done.manifest.call_ms:.2g} ms"
    print(said)
    print(f"written: {options.out}")
    if options.plot:
        gmacs = [sum(op.macs for op in one) / 1e9 for one in ops]
        plots.measured(names, gmacs, done.ms, options.plot, by_kind=not options.whole)
        print(f"written: {options.plot}")


def _runtime(options: argparse.Namespace):
    """What `measure` measures on: this CPU, or a vendor's model of another processor."""
    if options.on == "here":
        from nas.deploy import measure

        protocol = dataclasses.replace(measure.QUICK if options.quick else measure.STANDARD, clock=options.clock)
        return measure.Here(options.dtype, protocol, core=options.core)
    from nas.deploy.vela import Vela

    if options.dtype != "int8" or options.quick or options.core is not None or options.clock != "wall":
        raise ValueError(f"--on {options.on} estimates, in int8: leave --dtype, --quick, --core and --clock out")
    accelerator, _, memory_mode = options.on.partition(":")
    vela = Vela(accelerator, memory_mode) if memory_mode else Vela(accelerator)
    if not (vela.adds_up or options.whole):
        raise ValueError(
            f"--on {options.on}: with that memory mode single operations do not add up to networks; give --whole, or "
            "leave the memory mode out"
        )
    return vela


def _bench_kit(options: argparse.Namespace) -> None:
    import search_spaces
    from nas.deploy import bench_kit, operation
    from nas.run.log import LiveLine, console

    models, ops = {}, {}
    with LiveLine("build", len(options.networks), console()) as line:
        if options.whole:
            for place, spec in enumerate(map(_frozen, options.networks)):
                line.show(place, spec.name)
                models[spec.name] = operation.spec_tflite(spec, "int8")
                ops[spec.name] = tuple(op.folded for op in search_spaces.lower(spec))
        else:
            every = _operations(options)
            for place, op in enumerate(every):
                line.show(place * len(options.networks) // len(every), op.text)
                name = f"{place:05d}-{op.kind}"
                models[name], ops[name] = operation.operation_tflite(op, "int8"), (op,)
    bench_kit.write_kit(models, ops, options.out, options.device)
    print(f"written: {options.out} ({len(models)} models); its README.md says how to run it")


def _import(options: argparse.Namespace) -> None:
    import search_spaces
    from latency_tables import importers

    if options.format not in _FORMATS:
        raise ValueError(f"no format called {options.format!r}; known: {', '.join(_FORMATS)}")
    fields = {}
    for pair in options.set:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f'{pair!r}: expected --set KEY=VALUE, e.g. --set device="Pixel 9"')
        fields[key] = int(value) if key == "threads" and value.isdigit() else value
    if options.format == "kit":
        from nas.deploy import bench_kit

        imported = bench_kit.imported(options.path, partial=options.partial)
    else:
        ops = search_spaces.lower(_frozen(options.network)) if options.network else None
        imported = importers.read(options.format, options.path, ops)
    table = importers.write_table(imported, options.out, **fields)
    for reason, count in imported.skipped.items():
        print(f"skipped {count}: {reason}")
    several = sum(len(one.ops) > 1 for one in imported.measurements)
    print(f"written: {options.out}: {table.manifest.rows if table else 0} operations, {several} blocks or networks")
    print(imported.decomposed)


def _fit(options: argparse.Namespace) -> None:
    import datetime

    import numpy as np

    from latency_tables import conformal, fit
    from latency_tables.kinds import CachedRooflineDevice, RooflineDevice, TableDevice
    from search_spaces import yaml_io

    names, ops, ms = _measured(options.measured)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    about = {
        "name": options.name,
        "source": f"fitted to {len(names)} measured networks: {shown}",
        "date": datetime.date.today().isoformat(),
    }
    if options.kind == "table":
        if not options.table:
            raise ValueError("--kind table needs --table DIR, a table of measured operations")
        bare = TableDevice(**about, table=options.table, fallback="interpolate")
        estimated = np.array([bare.estimate(one).value for one in ops])
        print(f"median error {np.median(np.abs(estimated / ms - 1)):.1%} of {len(names)} networks")
    else:
        if options.kind == "roofline":
            found = fit.best_roofline(ops, ms)
            fields = ("ridge_point", "bandwidth_gb_s", "call_ms", "outputs", "elementwise")
            bare = RooflineDevice(**about, **{name: getattr(found, name) for name in fields})
        else:
            found = fit.fit_cached_roofline(ops, ms)
            bare = CachedRooflineDevice(**about, model=found.model)
        estimated = found.held_out_ms
        print(f"{bare.how}; a call {bare.pieces[0].constant:.3g} ms")
        print(f"median error {found.error:.1%}, held out {found.held_out_error:.1%} of {len(names)} networks")
    device = bare.model_copy(update={"calibration": conformal.Calibration.from_ratios(estimated, ms)})
    low, high = device.calibration.interval(1.0) if device.calibration else (0, 0)
    print(f"a network takes {low:.2f} to {high:.2f} times its estimate (90 %)")
    yaml_io.write_atomically(options.out, yaml_io.to_yaml(device))
    print(f"written: {options.out}")
    if options.plot:
        from nas.report import plots

        plots.scatter(estimated, ms, names, options.plot)
        print(f"written: {options.plot}")


def _audit(options: argparse.Namespace) -> None:
    import numpy as np

    import latency_tables
    from latency_tables import audit
    from nas.report import latency

    names, ops, ms = _measured(options.measured)
    proxies = {}
    for name in dict.fromkeys(("macs", "params", *options.device)):
        device = latency_tables.device(name)
        proxies[device.name] = (np.array([device.estimate(one).value for one in ops]), device.unit)
    rows = audit.audit(proxies, ms)
    print(latency.audit(rows, len(names)))
    if options.plot:
        from nas.report import plots

        values, low, high = (
            np.array([get(row) for row in rows])
            for get in (lambda r: r.spearman, lambda r: r.spearman_interval[0], lambda r: r.spearman_interval[1])
        )
        title = f"Spearman with {len(names)} measured networks, 95 % interval"
        plots.bars([row.proxy for row in rows], values, low, high, title, options.plot)
        print(f"written: {options.plot}")


def _operations(options: argparse.Namespace):
    """The distinct operations of networks, or of spaces of bases."""
    import search_spaces
    from latency_tables import cost_model

    found = []
    for name in options.networks:
        spec = search_spaces.base(name)
        if options.space:
            found += cost_model.operations(search_spaces.SPACES[options.space](spec))
        elif spec.is_frozen:
            found += [op.folded for op in search_spaces.lower(spec)]
        else:
            found += cost_model.operations(search_spaces.SearchSpace(spec))
    return tuple(dict.fromkeys(found))


def _measured(path: str):
    """(names, operations, [n] ms) of measured networks, from a folder or a CSV of network,ms."""
    import pathlib

    import numpy as np

    import search_spaces
    from latency_tables import audit, measurement, table

    if pathlib.Path(path).is_dir():
        found = measurement.load_measurements(path)
        return found.names, [one.ops for one in found.measurements], found.ms
    times = audit.read_measured(table.networks_file(path) if path in table.table_names() else path)
    return list(times), [search_spaces.lower(_frozen(name)) for name in times], np.array([*times.values()])


def _frozen(name: str):
    import search_spaces

    spec = search_spaces.base(name)
    if not spec.is_frozen:
        raise ValueError(f"{name} has holes; freeze it first (a search does)")
    return spec


def _quality(path: str, names: Sequence[str]):
    import csv

    import numpy as np

    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = {row[0]: (line, row[1]) for line, row in enumerate(csv.reader(file), 1) if len(row) == 2}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    out = []
    for name in names:
        if name not in rows:
            raise ValueError(f"{path}: has no line for {name!r} (each line: network,quality)")
        line, text = rows[name]
        try:
            out.append(float(text))
        except ValueError:
            raise ValueError(f"{path}:{line}: {text!r} is not a number") from None
    return np.array(out)


if __name__ == "__main__":
    main()
