"""Measurements from Python: operations, networks, and TFLite files of anyone, on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latency_tables import DeviceModel, comparison
from latency_tables.comparison import Comparison
from latency_tables.measurement import Measurements
from nas.api.costs import Network, frozen_network, operations
from nas.api.results import shown, worker_pool
from nas.host import cluster, lock
from nas.host.progress import Progress
from search_spaces import ArchSpec, lower

if TYPE_CHECKING:
    from latency_tables.table import Table
    from nas.measurement.local import LocalRuntime
    from nas.measurement.model_files import Model
    from nas.measurement.runtime import Runtime, Timing

Dtype = Literal["int8", "float32"]

_SHARE = 0.9  # of the time that a thread runs on an idle machine, at least


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredModel:
    """A model that was timed.

    Attributes:
      model: The model: its label, contents, inputs, and its network where that is known.
      rounds_ms: Mean time of each round.
      ms: Median of the rounds.
      std_ms: Standard deviation of the runs of the round with that mean.
      runs: Number of runs in all rounds.
      predictions: Predictions for its network, beside the measured time.
      not_joined: Why it is not in the table; "" if it is, or if there is none.
    """

    model: Model
    rounds_ms: tuple[float, ...]
    ms: float
    std_ms: float
    runs: int
    predictions: tuple[Comparison, ...] = ()
    not_joined: str = ""

    def __repr__(self) -> str:
        return f"MeasuredModel({self.model.label!r}, {self.ms:.4g} ms)"


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredModels:
    """Models that were timed in turn.

    Attributes:
      models: The models, in the order in which they were given.
      table: The table of whole networks that those of known networks have joined; None if there is
        none.
      notes: Doubts about all of the times.
    """

    models: tuple[MeasuredModel, ...]
    table: Measurements | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Labels of the models."""
        return [one.model.label for one in self.models]

    @property
    def ms(self) -> np.ndarray:
        """Times of the models, [models] float64."""
        return np.array([one.ms for one in self.models])


def runtime(
    on: str = "here",
    *,
    dtype: Dtype | None = None,
    quick: bool = False,
    core: int | None = None,
    clock: Literal["wall", "cpu"] = "wall",
) -> Runtime:
    """The processor that measures: this CPU, or a vendor's model of another processor.

    Args:
      on: "here", or an Arm Ethos-U as its compiler estimates it, "ethos-u55-256[:memory mode]".
      dtype: Type of weights and activations; None: "int8".
      quick: A rough figure in a fraction of the time.
      core: Core to measure on; None: the last one that is allowed.
      clock: "cpu" counts only the time that the thread really ran.

    Raises:
      ValueError: Options that the processor does not have.
    """
    if on == "here":
        return _here(dtype, quick, core, clock)
    from nas.measurement.vela import Vela

    if dtype not in (None, "int8") or quick or core is not None or clock != "wall":
        raise ValueError(
            f"`on` {on} estimates, in int8: leave `dtype`, `quick`, `core` and `clock` out"
        )
    accelerator, _, memory_mode = on.partition(":")
    return Vela(accelerator, memory_mode) if memory_mode else Vela(accelerator)


def _here(dtype: Dtype | None, quick: bool, core: int | None, clock: Any) -> LocalRuntime:
    from nas.measurement import local

    protocol = dataclasses.replace(local.QUICK if quick else local.STANDARD, clock=clock)
    return local.LocalRuntime(dtype or "int8", protocol, core=core)


def measure(
    networks: Sequence[Network | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    space: str | None = None,
    whole: bool = False,
    device: str | DeviceModel | None = None,
    ray: str | cluster.ClusterSpec | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Table | Measurements | MeasuredModels:
    """Time operations, networks or TFLite files.

    Of networks alone a table of your own is made. TFLite files, of whatever origin, are timed in
    turn, and networks beside them whole, with random weights. An interrupted measurement is resumed
    by the same call, if there is a folder.

    Args:
      networks: Names, YAML files, specs, or TFLite files.
      out: Folder of the table; only with TFLite files it may be left out.
      space: Name of a stage: every operation of that stage's space of each base.
      whole: Measure whole networks instead of their operations.
      device: With TFLite files: device whose predictions stand beside the measurements; None: the
        shipped one of this processor, if there is one.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: measure on the cluster's machines,
        one model at a time.
      progress: Where progress goes; None: a bar on standard error.
      **options: See `runtime`: on, dtype, quick, core, clock.

    Returns:
      The table, with `whole` the measurements, or with a TFLite file the measured models.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
    """
    from nas.measurement import table
    from nas.measurement.model_files import is_model_file

    if any([is_model_file(network) for network in networks]):
        _only_here(space, ray, options.pop("on", "here"))
        folder = None if out is None else pathlib.Path(out)
        return _measure_models(networks, folder, device, progress, **options)
    if out is None:
        raise ValueError("`out`: give the folder of the table")
    if device is not None:
        raise ValueError("`device`: stands beside TFLite files only, and none is given")
    named = [network if isinstance(network, Network) else str(network) for network in networks]
    specs = [frozen_network(network) for network in named] if whole else []
    ops = () if whole else operations(named, space)
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


def _only_here(space: str | None, ray: Any, on: str) -> None:
    """Refuse what does not go with TFLite files."""
    if space is not None:
        raise ValueError(
            f"`space` {space}: a TFLite file is a whole model and has no space; measure networks "
            "and files apart"
        )
    if ray is not None or on != "here":
        name = "ray" if ray is not None else "on"
        raise ValueError(f"`{name}`: TFLite files are timed on this CPU only; leave it out")


def _measure_models(
    items: Sequence[Any],
    folder: pathlib.Path | None,
    device: str | DeviceModel | None,
    progress: Progress | None,
    *,
    dtype: Dtype | None = None,
    quick: bool = False,
    core: int | None = None,
    clock: Literal["wall", "cpu"] = "wall",
) -> MeasuredModels:
    from nas.measurement import local, rounds

    here = _here(dtype, quick, core, clock)
    models = _models(items, dtype)
    if device is not None:
        _check_device(device, models)
    joining = [model for model in models if folder and not model.why_not_joining]
    if folder:
        rounds.check_table(folder, joining, here)
    total = len(models) * here.protocol.repeats
    alone = lock.exclusive(folder) if folder else contextlib.nullcontext()
    with alone:
        with shown("measure", total, progress) as bar:
            repeats, share = rounds.time_in_turn(models, here, folder, bar)
        timings = [local.summary(each) for each in repeats]
        table = None
        if folder:
            rows = [row for row in zip(models, timings, strict=True) if row[0] in joining]
            table = rounds.join_table(folder, rows, here) if rows else None
            rounds.finish(folder)
    return MeasuredModels(
        tuple(
            MeasuredModel(
                model,
                tuple(one.ms for one in each),
                timing.ms,
                timing.std_ms,
                timing.count,
                _predictions(model, timing, device, local.processor()),
                model.why_not_joining if folder else "",
            )
            for model, each, timing in zip(models, repeats, timings, strict=True)
        ),
        table,
        _busy(share, clock),
    )


def _busy(share: float, clock: str) -> tuple[str, ...]:
    if share > _SHARE or clock == "cpu":
        return ()
    return (
        f"this machine is busy: the thread ran {share:.0%} of the time, so the times are too long; "
        "measure on an idle one, or give `clock` cpu",
    )


def _models(items: Sequence[Any], dtype: Dtype | None) -> list[Model]:
    """Models of files and networks; networks get the files' type, if those have one type."""
    from nas.measurement import model_files

    is_file = [model_files.is_model_file(item) for item in items]
    pairs = [
        (str(item), None) if file else _with_name(frozen_network(_named(item)))
        for item, file in zip(items, is_file, strict=True)
    ]
    labels = [label for label, _ in pairs]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{label}: is given twice; leave one out")
    if dtype is not None and all(is_file):
        raise ValueError(f"`dtype` {dtype}: TFLite files have a type of their own; leave it out")
    files = {label: model_files.read(label) for label, spec in pairs if spec is None}
    types = {file.contents.dtype for file in files.values()}
    common: Any = types.pop() if len(types) == 1 else "int8"
    chosen = dtype or (common if common in ("int8", "float32", "float16") else "int8")
    return [
        files[label] if spec is None else model_files.of_network(spec, chosen)
        for label, spec in pairs
    ]


def _with_name(spec: ArchSpec) -> tuple[str, ArchSpec]:
    return spec.name, spec


def _named(item: Any) -> Network:
    return str(item) if isinstance(item, os.PathLike) else item


def _check_device(device: str | DeviceModel, models: Sequence[Model]) -> None:
    """Refuse, before anything is timed, a device that cannot predict."""
    known = [model.spec for model in models if model.spec]
    if not known:
        raise ValueError(
            "`device`: predicts for networks, and that of no file is known; leave it out"
        )
    for spec in known:
        comparison.compare(lower(spec), device, 1.0, "", "")


def _predictions(
    model: Model, timing: Timing, device: str | DeviceModel | None, processor: str
) -> tuple[Comparison, ...]:
    if model.spec is None:
        return ()
    dtype = model.contents.dtype
    found = comparison.matching(processor, dtype) if device is None else device
    if found is None:
        return ()
    return (comparison.compare(lower(model.spec), found, timing.ms, processor, dtype),)
