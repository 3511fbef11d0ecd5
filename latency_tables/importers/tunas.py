"""Importer: TuNAS's linear cost model of the ProxylessNAS space on a Pixel 1."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from typing import cast

from latency_tables import csv_files
from latency_tables.importers import published
from latency_tables.importers.base import NOT_STATED, Imported, folded, origin, table_name
from latency_tables.measurement import Measurement
from search_spaces import OpCall, Shape, make_divisible
from search_spaces.blocks import MBConv
from search_spaces.blocks.base import Kernel, Stride

COLUMNS = (
    *("block", "layer", "kind", "kernel", "expansion", "stride", "out_filters", "skip", "coef_ms"),
    *("in_hw", "in_ch", "macs_M", "ms_over_skip"),
)
_KINDS = ("depthwise_separable", "inverted_bottleneck", "zero_skip")
_ZERO = "leaving a block out: the zero that the others of its decision are measured from"
_NO_ZERO = "a decision that cannot leave its block out: its coefficients have no zero"


@dataclasses.dataclass(frozen=True)
class _Choice:
    """One option of a decision.

    Attributes:
      row: Line of the file.
      ops: Operations; none for leaving the block out.
      coefficient: Coefficient in ms.
    """

    row: csv_files.CsvRow
    ops: tuple[OpCall, ...]
    coefficient: float


def read(path: str | os.PathLike[str]) -> Imported:
    """Read the coefficients of a linear model, one in each line.

      latency = bias + sum over decisions of the coefficient of the chosen option

    A coefficient is not a time: any constant may move between a decision's coefficients and the
    bias. So only differences within a decision mean something, and many coefficients are negative.
    Where a decision may also leave its block out (a residual block that becomes the identity), the
    difference to that choice is what the block adds to a network, its residual included:

      ms(block) = coefficient(block) - coefficient(block left out)

    Those become measurements of blocks. Where a decision cannot leave its block out, differences
    have no zero, and its lines are left out. The numbers are predictions of a regression over whole
    networks, not runs of a block. They have neither a count nor a deviation, and contain no cost of
    a call.

    Args:
      path: CSV file with `COLUMNS`.

    Returns:
      A measurement for each block that its decision may leave out.

    Raises:
      ValueError: One line with file, line and cause; also where `macs_M` or `ms_over_skip` does not
        match the line.

    Source: google-research/tunas (Apache-2.0), cost_model_data.py and mobile_search_space_v3.py
    (ReLU, residuals).
    """
    measurements: list[Measurement] = []
    skipped = {_ZERO: 0, _NO_ZERO: 0}
    for (block, layer), choices in _decisions(path).items():
        zero = next((choice.coefficient for choice in choices if not choice.ops), None)
        for choice in choices:
            row = choice.row
            ms = None if zero is None else choice.coefficient - zero
            _check_difference(row, ms)
            if ms is None or not choice.ops:
                skipped[_NO_ZERO if ms is None else _ZERO] += 1
            elif ms <= 0:
                raise ValueError(
                    f"{row.where}: coef_ms: got {choice.coefficient}, "
                    f"expected more than that of zero_skip, {zero}"
                )
            else:
                kernel, expansion = row["kernel"], row["expansion"]
                name = f"block {block} layer {layer} kernel {kernel} expansion {expansion}"
                measurements.append(Measurement(name, choice.ops, ms))
    if not measurements:
        raise ValueError(
            f"{path}: no decision has a zero_skip choice, so no coefficient has a zero"
        )
    fields = {
        "name": table_name("tunas", pathlib.Path(path).stem),
        **origin(
            [path],
            published.TUNAS_PIXEL1,
            name="tunas-pixel1",
            device="Pixel 1",
            processor="CPU",
            runtime=NOT_STATED,
            protocol=NOT_STATED,
            date=NOT_STATED,
            source="github.com/google-research/google-research, tunas/cost_model_data.py",
            licence="Apache-2.0",
        ),
        "how": "predicted",
    }
    fields["protocol"] = (
        "linear model fitted to whole networks; a block's time is the difference to leaving it out"
    )
    decomposition_note = (
        "inverted bottlenecks are decomposed as their lines say, with ReLU and a residual"
    )
    skipped_counts = {reason: count for reason, count in skipped.items() if count}
    return Imported(tuple(measurements), fields, decomposition_note, skipped_counts)


def _decisions(path: str | os.PathLike[str]) -> dict[tuple[int, int], list[_Choice]]:
    """{(block, layer): its choices}. Raises ValueError."""
    decisions: dict[tuple[int, int], list[_Choice]] = {}
    for row in csv_files.read(path, COLUMNS):
        ops = _lower(row)
        coefficient = csv_files.real(row["coef_ms"])
        if math.isnan(coefficient):
            raise ValueError(
                f"{row.where}: coef_ms: got {row['coef_ms']!r}, expected a number of milliseconds"
            )
        choices = decisions.setdefault((row.integer("block"), row.integer("layer", 0)), [])
        for other in choices:
            if other.ops == ops:
                raise ValueError(
                    f"{row.where}: the same choice as in line {other.row.line}; leave one out"
                )
        choices.append(_Choice(row, ops, coefficient))
    return decisions


def _check_difference(row: csv_files.CsvRow, ms: float | None) -> None:
    """Compare `ms_over_skip` of a line with the difference of its coefficient to the zero."""
    given = csv_files.real(row["ms_over_skip"]) if row["ms_over_skip"] else None
    if (ms is None) != (given is None) or (
        ms is not None and given is not None and not abs(ms - given) < 1e-3
    ):
        raise ValueError(
            f"{row.where}: ms_over_skip: got {row['ms_over_skip']!r}, "
            "but the difference of coef_ms to the decision's zero_skip is "
            f"{'not there' if ms is None else f'{ms:.4f}'}"
        )


def _lower(row: csv_files.CsvRow) -> tuple[OpCall, ...]:
    """The operations of a line, none for zero_skip. Raises ValueError."""
    kind = row.choice("kind", _KINDS)
    size, channels, filters = (row.integer(column) for column in ("in_hw", "in_ch", "out_filters"))
    stride, skip = row.integer("stride"), row["skip"]
    zero = kind == "zero_skip"
    if skip != str(int(zero)):
        raise ValueError(f"{row.where}: skip: got {skip!r}, expected {int(zero)} of {kind}")
    if zero:
        return ()
    kernel = row.integer("kernel")
    if kernel not in (3, 5, 7) or stride not in (1, 2):
        raise ValueError(
            f"{row.where}: got kernel {kernel} and stride {stride}, expected 3, 5 or 7 and 1 or 2"
        )
    expanded = 0
    if kind == "inverted_bottleneck":
        expanded = make_divisible(channels * row.integer("expansion"))
    block = MBConv(
        filters=filters,
        expanded=expanded,
        kernel=cast(Kernel, kernel),
        stride=cast(Stride, stride),
        activation="relu",
    )
    ops = folded(block.lower(Shape(size, size, channels)))
    macs = sum(op.macs for op in ops)
    # `macs_M` has three decimals
    if not abs(csv_files.real(row["macs_M"]) * 1e6 - macs) <= 501:
        raise ValueError(
            f"{row.where}: macs_M: got {row['macs_M']!r}, but this block has {macs / 1e6:.3f}"
        )
    return ops
