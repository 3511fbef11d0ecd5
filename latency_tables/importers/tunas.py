"""Importer: TuNAS's linear cost model of the ProxylessNAS space on a Pixel 1."""

from __future__ import annotations

import math
import os
from typing import cast

from latency_tables.importers.base import NOT_STATED, Imported, csv_lines, folded, integer, real
from latency_tables.measurement import Measurement
from search_spaces import OpCall, Shape, make_divisible
from search_spaces.blocks import MBConv
from search_spaces.blocks.base import Kernel, Stride

COLUMNS = (
    *("block", "layer", "kind", "kernel", "expansion", "stride", "out_filters", "skip", "coef_ms"),
    *("in_hw", "in_ch", "macs_M", "ms_over_skip"),
)
_KINDS = ("depthwise_separable", "inverted_bottleneck", "zero_skip")
_ZERO, _NO_ZERO = (
    "leaving a block out: the zero that the others of its decision are measured from",
    "a decision that cannot leave its block out: its coefficients have no zero",
)


def read(path: str | os.PathLike[str]) -> Imported:
    """Read one coefficient a line of the model latency = bias + sum over decisions of the chosen coefficient.

    A coefficient is no time: any constant may move between a decision's coefficients and the bias, so only differences
    within a decision mean something, and many coefficients are negative. Where a decision may also leave its block out
    (a residual block that becomes the identity), the difference to that choice is what the block adds to a network, its
    residual included:

      ms(block) = coefficient(block) - coefficient(block left out)

    Those become measurements of blocks. Where a decision cannot leave its block out, differences give ratios to nothing
    and its lines are left out. The numbers are predictions of a regression over whole networks, not runs of a block, so
    they have neither a count nor a deviation, and contain no cost of a call.

    Raises:
      ValueError: one line with file, line and cause; also where `macs_M` or `ms_over_skip` is not what the line means.

    Source: google-research/tunas (Apache-2.0), cost_model_data.py and mobile_search_space_v3.py (ReLU, residuals).
    """
    decisions: dict[tuple[int, int], list[tuple[str, dict[str, str], tuple[OpCall, ...], float]]] = {}
    for where, cells in csv_lines(path, COLUMNS):
        ops = _lower(cells, where)
        coefficient = real(cells["coef_ms"])
        if math.isnan(coefficient):
            raise ValueError(f"{where}: coef_ms: got {cells['coef_ms']!r}, expected a number of milliseconds")
        group = decisions.setdefault(
            (integer(cells["block"], where, "block"), integer(cells["layer"], where, "layer", 0)), []
        )
        for other, _, same, _ in group:
            if same == ops:
                raise ValueError(f"{where}: the same choice as in line {other.rsplit(':', 1)[1]}; leave one out")
        group.append((where, cells, ops, coefficient))
    measurements: list[Measurement] = []
    skipped = {_ZERO: 0, _NO_ZERO: 0}
    for (block, layer), choices in decisions.items():
        zero = next((coefficient for _, _, ops, coefficient in choices if not ops), None)
        for where, cells, ops, coefficient in choices:
            ms = None if zero is None else coefficient - zero
            given = real(cells["ms_over_skip"]) if cells["ms_over_skip"] else None
            if (ms is None) != (given is None) or (ms is not None and given is not None and not abs(ms - given) < 1e-3):
                raise ValueError(
                    f"{where}: ms_over_skip: got {cells['ms_over_skip']!r}, but the difference of coef_ms to the "
                    f"decision's zero_skip is {'not there' if ms is None else f'{ms:.4f}'}"
                )
            if ms is None or not ops:
                skipped[_NO_ZERO if ms is None else _ZERO] += 1
            elif ms <= 0:
                raise ValueError(f"{where}: coef_ms: got {coefficient}, expected more than that of zero_skip, {zero}")
            else:
                name = f"block {block} layer {layer} kernel {cells['kernel']} expansion {cells['expansion']}"
                measurements.append(Measurement(name, ops, ms))
    if not measurements:
        raise ValueError(f"{path}: no decision has a zero_skip choice, so no coefficient has a zero")
    fields = {
        "name": "tunas-pixel1",
        "device": "Pixel 1",
        "processor": "CPU",
        "runtime": NOT_STATED,
        "how": "predicted",
        "protocol": "linear model fitted to whole networks; a block's time is the difference to leaving it out",
        "date": NOT_STATED,
        "source": "github.com/google-research/google-research, tunas/cost_model_data.py",
        "licence": "Apache-2.0",
    }
    decomposed = "inverted bottlenecks are decomposed as their lines say, with ReLU and a residual"
    return Imported(tuple(measurements), fields, decomposed, {reason: n for reason, n in skipped.items() if n})


def _lower(cells: dict[str, str], where: str) -> tuple[OpCall, ...]:
    """The operations of a line, none for zero_skip. Raises ValueError."""
    if cells["kind"] not in _KINDS:
        raise ValueError(f"{where}: kind: got {cells['kind']!r}, expected one of {', '.join(_KINDS)}")
    size, channels, filters = (integer(cells[c], where, c) for c in ("in_hw", "in_ch", "out_filters"))
    stride, skip = integer(cells["stride"], where, "stride"), cells["skip"]
    zero = cells["kind"] == "zero_skip"
    if skip != str(int(zero)):
        raise ValueError(f"{where}: skip: got {skip!r}, expected {int(zero)} of {cells['kind']}")
    if zero:
        return ()
    kernel = integer(cells["kernel"], where, "kernel")
    if kernel not in (3, 5, 7) or stride not in (1, 2):
        raise ValueError(f"{where}: got kernel {kernel} and stride {stride}, expected 3, 5 or 7 and 1 or 2")
    wide = 0
    if cells["kind"] == "inverted_bottleneck":
        wide = make_divisible(channels * integer(cells["expansion"], where, "expansion"))
    block = MBConv(
        filters=filters,
        expanded=wide,
        kernel=cast(Kernel, kernel),
        stride=cast(Stride, stride),
        activation="relu",
    )
    ops = folded(block.lower(Shape(size, size, channels)))
    macs = sum(op.macs for op in ops)
    if not abs(real(cells["macs_M"]) * 1e6 - macs) <= 501:  # three decimals
        raise ValueError(f"{where}: macs_M: got {cells['macs_M']!r}, but this block has {macs / 1e6:.3f}")
    return ops
