"""`nas-latency`: what networks cost on devices."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

_EXAMPLES = """\
examples:
  nas-latency list
  nas-latency estimate mnv4-conv-s mnv4-conv-m --device pixel6-cpu
  nas-latency sweep mnv4-conv-s mobilenet-v2 mobilenet-v3-large --plot sweep.svg
  nas-latency measure small-32 --space one-stage --quick --out my_table        every operation of a search, on this CPU
  nas-latency measure mnv4-conv-s mnv4-conv-m --whole --out    my_networks     whole networks
  nas-latency bench-kit small-32 --space fine --device android --out kit       a folder to run on a phone
  nas-latency import kit kit --out phone_table device="Pixel 9"
  nas-latency fit my_networks --kind roofline --name my-cpu --out my-cpu.yaml  then: --device my-cpu.yaml:2ms
  nas-latency audit my_networks --device my-cpu.yaml --plot audit.svg
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake."""
    options = _parser().parse_args(arguments)
    from nas.cli.errors import one_line_for_users

    with one_line_for_users(f"nas-latency {options.command}"):
        options.run(options)
        sys.stdout.flush()


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
    command.set_defaults(run=_estimate)

    command = commands.add_parser("sweep", help="roofline latency over the ridge points of all hardware")
    command.add_argument("networks", nargs="+", metavar="NAME|FILE")
    command.add_argument("--reference", metavar="NAME", help="show ratios to one of the networks")
    command.add_argument("--quality", metavar="FILE", help="CSV of network,quality: marks who is on the Pareto front")
    command.add_argument("--plot", metavar="FILE.svg")
    command.set_defaults(run=_sweep)

    command = commands.add_parser("measure", help="time operations or networks on this CPU: a table of your own")
    _what(command)
    command.add_argument("--dtype", choices=("int8", "float32"), default="int8")
    command.add_argument("--quick", action="store_true", help="a rough figure in a fraction of the time")
    command.add_argument("--core", type=int, metavar="N", help="pin to this core (default: the last allowed)")
    command.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: count only the time that the thread really ran"
    )
    command.set_defaults(run=_measure)

    command = commands.add_parser("bench-kit", help="a folder of models and a script, to measure on another device")
    _what(command)
    command.add_argument("--device", choices=("android", "edgetpu"), required=True)
    command.set_defaults(run=_bench_kit)

    command = commands.add_parser("import", help="read latency data of others, or the results of a kit, into a table")
    command.add_argument("format", help="kit, or one of the formats that `nas-latency import formats .` names")
    command.add_argument("path", metavar="FILE|DIR")
    command.add_argument(
        "fields", nargs="*", metavar="KEY=VALUE", help="manifest fields that the source does not state"
    )
    command.add_argument("--network", metavar="NAME|FILE", help="the network of an operator profile")
    command.add_argument("--partial", action="store_true", help="accept a kit's results that are not complete")
    command.add_argument("--out", required=True, metavar="DIR")
    command.set_defaults(run=_import)

    command = commands.add_parser("fit", help="a device file from measured networks, with calibrated intervals")
    _measured_argument(command)
    command.add_argument("--kind", choices=("roofline", "table"), default="roofline")
    command.add_argument("--table", metavar="DIR", help="of measured operations, for --kind table")
    command.add_argument("--name", required=True, help="of the device")
    command.add_argument("--out", required=True, metavar="FILE.yaml")
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
    )
    command.add_argument("--whole", action="store_true", help="whole networks instead of their operations")
    command.add_argument("--out", required=True, metavar="DIR")


def _measured_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("measured", metavar="DIR|FILE.csv", help="from `measure --whole`, or a CSV of network,ms")


def _list(options: argparse.Namespace) -> None:
    import latency_tables
    from latency_tables.table import load_table, table_names

    names = latency_tables.devices()
    width = max(map(len, names))
    print("devices")
    for name in names:
        device = latency_tables.device(name)
        calibrated = "calibrated" if device.calibration else "not calibrated"
        print(f"  {name:{width}}  {device.unit:2}  {device.how}; {calibrated}; {device.date}")
    print("tables" if table_names() else "tables: none")
    for name in table_names():
        m = load_table(name).manifest
        print(f"  {name}: {m.rows} rows, {m.device}, {m.runtime}, {m.dtype}, {m.threads} thread(s), {m.how} {m.date}")


def _estimate(options: argparse.Namespace) -> None:
    import latency_tables
    import search_spaces

    specs = [_frozen(name) for name in options.networks]
    if not 0 < options.level < 1:
        raise ValueError(f"--level: got {options.level}, expected between 0 and 1")
    names = options.device or latency_tables.devices()
    width = max(len(spec.name) for spec in specs)
    for name in names:
        device = latency_tables.device(name)
        print(f"{device.name}: {device.how}")
        for spec in specs:
            ops = search_spaces.lower(spec)
            got = device.estimate(ops, options.level)
            interval = "" if got.low is None else f"  {got.low:.4g} to {got.high:.4g} ({options.level:.0%})"
            filled = f"  {len(got.filled_in)} operations interpolated" if got.filled_in else ""
            print(f"  {spec.name:{width}}  {got.value:10.4g} {got.unit}{interval}{filled}")
            if options.layers:
                for place in got.per_op.argsort()[::-1]:
                    if got.per_op[place]:
                        op = ops[place]
                        print(f"    {got.per_op[place]:10.4g} {got.unit}  block {op.block:3} {op.role:12} {op.text}")


def _sweep(options: argparse.Namespace) -> None:
    import numpy as np

    from latency_tables import sweep

    specs = [_frozen(name) for name in options.networks]
    shown = sweep.sweep(specs, sweep.PLOTTED)
    values = shown.ratios(options.reference) if options.reference else shown.ms
    quality = _quality(options.quality, shown.names) if options.quality else None
    width = max(map(len, shown.names))
    unit = f"ratio to {options.reference}" if options.reference else "ms"
    print(f"{'ridge point, MACs/byte':{width}}  " + "  ".join(f"{point:>9g}" for point in shown.points) + f"   {unit}")
    for row, name in enumerate(shown.names):
        cells = []
        for column in range(len(shown.points)):
            front = quality is not None and sweep.pareto(shown.ms[:, column], quality)[row]
            cells.append(f"{values[row, column]:8.3f}{'*' if front else ' '}")
        print(f"{name:{width}}  " + "  ".join(cells))
    if quality is not None:
        print("* on the Pareto front of latency and quality at that ridge point")
    full = sweep.sweep(specs, sweep.ridge_points())
    if options.reference:
        ratios = full.ratios(options.reference)
        for name, row in zip(full.names, ratios, strict=True):
            worst = full.points[int(np.argmax(row))]
            print(f"{name:{width}}  mean ratio {row.mean():.3f}, worst {row.max():.3f} at {worst:.0f} MACs/byte")
    if options.plot:
        from nas.report import plots

        plots.sweep(full, options.plot, options.reference)
        print(f"written: {options.plot}")


def _measure(options: argparse.Namespace) -> None:
    from nas.deploy import measure, table
    from nas.run.log import LiveLine, console

    protocol = dataclasses.replace(measure.QUICK if options.quick else measure.STANDARD, clock=options.clock)
    common = {"dtype": options.dtype, "protocol": protocol, "core": options.core}
    print(f"protocol: {protocol}")
    if options.whole:
        specs = [_frozen(name) for name in options.networks]
        with LiveLine("measure", len(specs), console()) as line:
            done = table.measure_networks(specs, options.out, progress=lambda i, n, text: line.show(i, text), **common)
        for one in done.measurements:
            print(f"{one.name:24}  {one.ms:9.4g} ms  +- {one.std_ms:.2g}")
    else:
        ops = _operations(options)
        with LiveLine("measure", len(ops), console()) as line:
            done = table.measure_table(ops, options.out, progress=lambda i, n, text: line.show(i, text), **common)
        print(f"{done.manifest.rows} operations; a call that does nothing takes {done.manifest.call_ms:.2g} ms")
    print(f"written: {options.out}")


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

    if options.format not in (*importers.IMPORTERS, "kit"):
        raise ValueError(f"no format called {options.format!r}; known: kit, {', '.join(importers.IMPORTERS)}")
    fields = {}
    for pair in options.fields:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f'{pair!r}: expected KEY=VALUE, e.g. device="Pixel 9"')
        fields[key] = int(value) if key == "threads" and value.isdigit() else value
    if options.format == "kit":
        from nas.deploy import bench_kit

        imported = importers.Imported(
            bench_kit.read_kit(options.path, partial=options.partial),
            {
                "protocol": "the kit's script",
                "source": "measured with a kit of nas-latency",
                "dtype": "int8",
                "how": "measured",
                "threads": 1,
            },
            "every model is one operation or one network",
            {},
        )
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
    from latency_tables.kinds import RooflineDevice, TableDevice
    from search_spaces import yaml_io

    names, ops, ms = _measured(options.measured)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    about = {
        "name": options.name,
        "source": f"fitted to {len(names)} measured networks: {shown}",
        "date": datetime.date.today().isoformat(),
    }
    if options.kind == "roofline":
        found = fit.fit_roofline(ops, ms)
        device = RooflineDevice(
            **about,
            ridge_point=found.ridge_point,
            bandwidth_gb_s=found.bandwidth_gb_s,
            call_ms=found.call_ms,
            calibration=conformal.Calibration.from_ratios(found.held_out_ms, ms),
        )
        print(f"ridge point {found.ridge_point:.1f} MACs/byte, {found.bandwidth_gb_s:.3g} GB/s")
        print(f"a call {found.call_ms:.3g} ms; median error {found.error:.1%}, held out {found.held_out_error:.1%}")
    else:
        if not options.table:
            raise ValueError("--kind table needs --table DIR, a table of measured operations")
        bare = TableDevice(**about, table=options.table, fallback="interpolate")
        estimated = np.array([bare.estimate(one).value for one in ops])
        device = bare.model_copy(update={"calibration": conformal.Calibration.from_ratios(estimated, ms)})
        print(f"median error {np.median(np.abs(estimated / ms - 1)):.1%} of {len(names)} networks")
    low, high = device.calibration.interval(1.0) if device.calibration else (0, 0)
    print(f"a network takes {low:.2f} to {high:.2f} times its estimate (90 %)")
    yaml_io.write_atomically(options.out, yaml_io.to_yaml(device))
    print(f"written: {options.out}")


def _audit(options: argparse.Namespace) -> None:
    import numpy as np

    import latency_tables
    from latency_tables import audit

    names, ops, ms = _measured(options.measured)
    proxies = {}
    for name in dict.fromkeys(("macs", "params", *options.device)):
        device = latency_tables.device(name)
        proxies[device.name] = (np.array([device.estimate(one).value for one in ops]), device.unit)
    rows = audit.audit(proxies, ms)
    width = max(len(row.proxy) for row in rows)
    print(f"{len(names)} networks; intervals: 95 %, bootstrap over networks")
    print(f"{'proxy':{width}}  Spearman               Kendall                median error")
    for row in rows:
        shown = [
            f"{value:6.3f} [{low:.3f}, {high:.3f}]"
            for value, (low, high) in ((row.spearman, row.spearman_interval), (row.kendall, row.kendall_interval))
        ]
        scaled = " (best factor)" if row.scaled else ""
        print(f"{row.proxy:{width}}  {shown[0]:21}  {shown[1]:21}  {row.median_error:.1%}{scaled}")
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

    makers = {
        "coarse": search_spaces.coarse_space,
        "fine": search_spaces.fine_space,
        "hybrid": search_spaces.hybrid_space,
        "one-stage": search_spaces.one_stage_space,
    }
    found = []
    for name in options.networks:
        spec = search_spaces.base(name)
        if options.space:
            found += cost_model.operations(makers[options.space](spec))
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
    from latency_tables import audit, measurement

    if pathlib.Path(path).is_dir():
        many = measurement.load_measurements(path).measurements
        return [one.name for one in many], [one.ops for one in many], np.array([one.ms for one in many])
    found = audit.read_measured(path)
    return list(found), [search_spaces.lower(_frozen(name)) for name in found], np.array([*found.values()])


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
