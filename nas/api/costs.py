"""Costs of networks from Python.

Estimates, measurements, devices of your own. No JAX until something is measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import latency_tables.audit
import search_spaces
from latency_tables import DeviceModel, Estimate, conformal, cost_model, fit
from latency_tables.audit import ProxyAgreement, read_measured
from latency_tables.kinds import CachedRooflineDevice, Device, RooflineDevice, TableDevice
from latency_tables.table import Table, networks_file, table_names
from nas.api.results import shown, worker_pool
from nas.host import cluster, lock
from nas.host.progress import Progress
from search_spaces import ArchSpec, OpCall
from search_spaces.stages import STAGES

if TYPE_CHECKING:
    import os

    from latency_tables.importers import Imported
    from latency_tables.measurement import Measurements
    from nas.measurement.runtime import Runtime

Network = str | ArchSpec
"""A network: by name, by YAML file, or a spec."""


def estimate(network: Network, device: str | DeviceModel, level: float = 0.9) -> Estimate:
    """Estimate the cost of a network on a device.

    Args:
      network: Name, YAML file or spec.
      device: Name, YAML file or device.
      level: Probability that the interval holds the measured cost, where the device is calibrated.

    Returns:
      The estimate: `ms`, `low_ms`, `high_ms`, `per_op`.

    Raises:
      ValueError: Unknown network or device, a network with choices, or operations that a table
        lacks.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level`: got {level}, expected between 0 and 1")
    return latency_tables.estimate(frozen_network(network), device, level)


def frozen_network(network: Network) -> ArchSpec:
    """A network without choices.

    Args:
      network: Name, YAML file or spec.

    Raises:
      ValueError: Unknown network, or one with choices.
    """
    spec = search_spaces.base(network) if isinstance(network, str) else network
    if not spec.is_frozen:
        raise ValueError(f"{spec.name} has choices; freeze it first (a search does)")
    return spec


def operations(networks: Iterable[Network], space: str | None = None) -> tuple[OpCall, ...]:
    """The distinct operations of networks, or of spaces of base networks.

    Args:
      networks: Names, YAML files or specs.
      space: Name of a stage: every operation of that stage's space of each base; None: of the
        networks themselves.

    Raises:
      ValueError: Unknown network or stage.
    """
    ops: list[OpCall] = []
    for network in networks:
        spec = search_spaces.base(network) if isinstance(network, str) else network
        if space:
            ops += cost_model.operations(STAGES.get(space).space(spec))
        elif spec.is_frozen:
            ops += [op.folded for op in search_spaces.lower(spec)]
        else:
            ops += cost_model.operations(search_spaces.SearchSpace(spec))
    return tuple(dict.fromkeys(ops))


def runtime(
    on: str = "here",
    *,
    dtype: Literal["int8", "float32"] = "int8",
    quick: bool = False,
    core: int | None = None,
    clock: Literal["wall", "cpu"] = "wall",
) -> Runtime:
    """The processor that measures: this CPU, or a vendor's model of another processor.

    Args:
      on: "here", or an Arm Ethos-U as its compiler estimates it, "ethos-u55-256[:memory mode]".
      dtype: Type of weights and activations.
      quick: A rough figure in a fraction of the time.
      core: Core to measure on; None: the last one that is allowed.
      clock: "cpu" counts only the time that the thread really ran.

    Raises:
      ValueError: Options that the processor does not have.
    """
    if on == "here":
        from nas.measurement import local

        protocol = dataclasses.replace(local.QUICK if quick else local.STANDARD, clock=clock)
        return local.LocalRuntime(dtype, protocol, core=core)
    from nas.measurement.vela import Vela

    if dtype != "int8" or quick or core is not None or clock != "wall":
        raise ValueError(
            f"`on` {on} estimates, in int8: leave `dtype`, `quick`, `core` and `clock` out"
        )
    accelerator, _, memory_mode = on.partition(":")
    return Vela(accelerator, memory_mode) if memory_mode else Vela(accelerator)


def measure(
    networks: Sequence[Network],
    *,
    out: str | os.PathLike[str],
    space: str | None = None,
    whole: bool = False,
    ray: str | cluster.ClusterSpec | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Table | Measurements:
    """Time operations or networks.

    A table of your own. An interrupted measurement is resumed by the same call.

    Args:
      networks: Names, YAML files or specs.
      out: Folder of the table.
      space: Name of a stage: every operation of that stage's space of each base.
      whole: Measure whole networks instead of their operations.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: measure on the cluster's machines,
        one model at a time.
      progress: Where progress goes; None: a bar on standard error.
      **options: See `runtime`: on, dtype, quick, core, clock.

    Returns:
      The table, or with `whole` the measurements.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
    """
    from nas.measurement import table

    specs = [frozen_network(network) for network in networks] if whole else []
    ops = () if whole else operations(networks, space)
    processor = runtime(**options)
    on = options.get("on", "here")
    if not (whole or getattr(processor, "adds_up", True)):
        raise ValueError(
            f"`on` {on}: with that memory mode single operations do not add up to networks; give "
            "`whole`, or leave the "
            "memory mode out"
        )
    pool = worker_pool(ray, None)
    where = pool.cluster and pool.cluster.address
    connection = cluster.connected(where) if where else contextlib.nullcontext()
    with lock.exclusive(out), connection, shown("measure", len(specs) or len(ops), progress) as bar:
        if whole:
            return table.measure_networks(specs, out, processor, progress=bar, workers=pool)
        return table.measure_table(ops, out, processor, progress=bar, workers=pool)


def bench_kit(
    networks: Sequence[Network],
    *,
    device: Literal["android", "edgetpu"],
    out: str | os.PathLike[str],
    space: str | None = None,
    whole: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a folder of models and a script, to measure on another device.

    `import_table` reads its results.

    Args:
      networks: Names, YAML files or specs.
      device: Kind of device.
      out: The folder.
      space: Name of a stage: every operation of that stage's space of each base.
      whole: Whole networks instead of their operations.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      Number of models.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
    """
    from nas.measurement import bench_kit as kit
    from nas.measurement import models

    files: dict[str, bytes] = {}
    ops: dict[str, tuple[OpCall, ...]] = {}
    wanted = [] if whole else operations(networks, space)
    specs = [frozen_network(network) for network in networks] if whole else []
    with shown("build", len(specs) or len(wanted), progress) as bar:
        for number, spec in enumerate(specs):
            bar.update(number, spec.name)
            files[spec.name] = models.network_model(spec, "int8")
            ops[spec.name] = tuple(op.folded for op in search_spaces.lower(spec))
        for number, op in enumerate(wanted):
            bar.update(number, str(op))
            name = f"{number:05d}-{op.kind}"
            files[name] = models.operation_model(op, "int8")
            ops[name] = (op,)
    kit.write_kit(files, ops, out, device)
    return len(files)


def import_table(
    format: str,
    path: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    fields: Mapping[str, Any] | None = None,
    network: Network | None = None,
    partial: bool = False,
) -> tuple[Imported, Table | None]:
    """Read latency data of others, or the results of a kit, into a table.

    Args:
      format: "kit", or a name of `latency_tables.importers.IMPORTERS`.
      path: File or folder of the data.
      out: Folder of the table.
      fields: Manifest fields that the source does not state, e.g. {"device": "Pixel 9"}.
      network: The network of an operator profile.
      partial: Accept a kit's results that are not complete.

    Returns:
      What was read, and the table of its single operations, if there are any.

    Raises:
      ValueError: Unknown format, or data that do not fit.
    """
    from latency_tables import importers

    known = ("kit", *importers.IMPORTERS)
    if format not in known:
        raise ValueError(f"no format called {format!r}; known: {', '.join(known)}")
    if format == "kit":
        from nas.measurement import bench_kit as kit

        imported = kit.imported(path, partial=partial)
    else:
        ops = search_spaces.lower(frozen_network(network)) if network else None
        imported = importers.read(format, path, ops)
    return imported, importers.write_table(imported, out, **(fields or {}))


@dataclasses.dataclass(frozen=True, eq=False)
class FittedDevice:
    """A device that was fitted to measured networks.

    Attributes:
      device: The device, calibrated.
      names: Names of the networks.
      measured_ms: [networks] float64.
      estimated_ms: [networks] float64: held out by k-fold where parameters were fitted.
      error: Median relative error of the fit; of a table that of its estimates.
      held_out_error: Median relative error on networks that were not fitted; None for a table.
    """

    device: Device
    names: tuple[str, ...]
    measured_ms: np.ndarray
    estimated_ms: np.ndarray
    error: float
    held_out_error: float | None


def fit_device(
    measured: str | os.PathLike[str],
    *,
    name: str,
    kind: Literal["roofline", "cached_roofline", "table"] = "roofline",
    table: str | None = None,
) -> FittedDevice:
    """Fit a device to measured networks, with calibrated intervals.

    Args:
      measured: Folder of `measure(whole=True)`, a CSV of network,ms, or a shipped table by name.
      name: Name of the device.
      kind: Kind of device.
      table: Folder of measured operations, for kind "table".

    Returns:
      The device; write it with `search_spaces.yaml_io.to_yaml`.

    Raises:
      ValueError: Too few networks, or data that do not fit.
    """
    names, ops, ms = read_networks(measured)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    about: dict[str, Any] = {
        "name": name,
        "source": f"fitted to {len(names)} measured networks: {listed}",
        "date": datetime.date.today().isoformat(),
    }
    error, held_out_error = 0.0, None
    if kind == "table":
        if not table:
            raise ValueError("`kind` table needs `table`, a folder of measured operations")
        device: Device = TableDevice(**about, table=table, fallback="interpolate")
        estimated = np.array([device.estimate(one).value for one in ops])
        error = float(np.median(np.abs(estimated / ms - 1)))
    elif kind == "roofline":
        roofline = fit.best_roofline(ops, ms)
        fields = ("ridge_point", "bandwidth_gb_s", "call_ms", "outputs", "elementwise")
        device = RooflineDevice(**about, **{field: getattr(roofline, field) for field in fields})
        estimated, error = roofline.held_out_ms, roofline.error
        held_out_error = roofline.held_out_error
    else:
        cached = fit.fit_cached_roofline(ops, ms)
        device = CachedRooflineDevice(**about, model=cached.model)
        estimated, error = cached.held_out_ms, cached.error
        held_out_error = cached.held_out_error
    calibration = conformal.Calibration.from_ratios(estimated, ms)
    device = device.model_copy(update={"calibration": calibration})
    return FittedDevice(device, tuple(names), ms, estimated, error, held_out_error)


def audit(
    measured: str | os.PathLike[str], devices: Sequence[str | DeviceModel] = ()
) -> tuple[list[ProxyAgreement], int]:
    """Compare the ranking of networks by proxies with that by a device.

    Proxies are MACs, parameters, and the estimates of devices.

    Args:
      measured: Folder of `measure(whole=True)`, a CSV of network,ms, or a shipped table by name.
      devices: Names, YAML files or devices, beside MACs and parameters.

    Returns:
      A row for each proxy, and the number of networks.

    Raises:
      ValueError: Data that do not fit.
    """
    names, ops, ms = read_networks(measured)
    proxies = {}
    for name in ("macs", "params", *devices):
        device = latency_tables.device(name)
        estimates = np.array([device.estimate(one).value for one in ops])
        proxies[device.name] = (estimates, device.unit)
    return latency_tables.audit.audit(proxies, ms), len(names)


def read_networks(
    measured: str | os.PathLike[str],
) -> tuple[list[str], list[tuple[OpCall, ...]], np.ndarray]:
    """Measured networks.

    Args:
      measured: Folder of `measure(whole=True)`, a CSV of network,ms, or a shipped table by name.

    Returns:
      Names, operations of each, and times [n] in ms.

    Raises:
      ValueError: Data that do not fit.
    """
    from latency_tables.measurement import load_measurements

    if pathlib.Path(measured).is_dir():
        found = load_measurements(measured)
        return list(found.names), [one.ops for one in found.measurements], found.ms
    text = str(measured)
    times = read_measured(networks_file(text) if text in table_names() else text)
    ops = [search_spaces.lower(frozen_network(name)) for name in times]
    return list(times), ops, np.array([*times.values()])
