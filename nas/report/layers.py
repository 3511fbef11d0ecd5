"""The layers of a network as a table: shapes, parameters, MACs, operational intensity."""

from __future__ import annotations

import html

import search_spaces
from nas.report import page as pages
from search_spaces import ArchSpec, OpCall, Shape

COLUMNS = ("block", "operation", "input", "output", "kernel", "params", "MACs", "MACs/byte")


def summary(spec: ArchSpec) -> str:
    """One line: name, input, parameters, MACs."""
    products = search_spaces.attention_macs(spec)
    more = f" + {products / 1e6:.1f} M in attention products" if products else ""
    return (
        f"{spec.name}: {_size(Shape(spec.resolution, spec.resolution, spec.input_channels))}, "
        f"{search_spaces.params(spec):,} parameters, {search_spaces.macs(spec) / 1e6:,.1f} M MACs{more}"
    )


def rows(spec: ArchSpec) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` for every operation of a frozen spec, in the order in which they run."""
    out: list[tuple[str, ...]] = []
    for block, ops in zip(spec.blocks, search_spaces.lower_by_block(spec), strict=True):
        for place, op in enumerate(ops):
            out.append((f"{op.block} {block.kind}" if place == 0 else "", *_cells(op)))
    return out


def text(spec: ArchSpec) -> str:
    """The table for a terminal, with its sums."""
    table = [COLUMNS, *rows(spec)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    left = 5  # so many columns hold words, the others numbers
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", summary(spec)])


def page(spec: ArchSpec) -> str:
    """The table as an HTML page of its own: no script, no network, readable on a phone."""
    return pages.page(spec.name, f"<h1>{html.escape(spec.name)}</h1>\n{section(spec)}")


def section(spec: ArchSpec) -> str:
    """The table as a part of an HTML page; each MACs cell has a bar as long as its share of the largest."""
    largest = max(op.macs for op in search_spaces.lower(spec))
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = []
    for op, row in zip(search_spaces.lower(spec), rows(spec), strict=True):
        share = 100 * op.macs / largest
        bar = f' style="background:linear-gradient(to left,#bcd7f5 {share:.1f}%,transparent {share:.1f}%)"'
        cells = "".join(
            f"<td{bar if name == 'MACs' and op.macs else ''}>{html.escape(cell)}</td>"
            for name, cell in zip(COLUMNS, row, strict=True)
        )
        body.append(f'<tr class="{"first" if row[0] else "rest"}">{cells}</tr>')
    return (
        f"<p>{html.escape(summary(spec))}</p>\n"
        f'<div class="scroll"><table class="layers"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>\n"
    )


def _cells(op: OpCall) -> tuple[str, ...]:
    kernel = f"{op.kernel}x{op.kernel}" if op.kernel > 1 or op.weights else ""
    if op.stride > 1:
        kernel += f" s{op.stride}"
    if op.groups > 1:
        kernel += f" g{op.groups}"
    operation = op.role if op.role == op.kind else f"{op.role} ({op.kind})"
    if op.activation != "none":
        operation += f" {op.activation}"
    return (
        operation,
        _size(op.input),
        _size(op.output),
        kernel,
        f"{op.params:,}" if op.params else "",
        f"{op.macs:,}" if op.macs else "",
        f"{op.intensity:.1f}" if op.macs else "",
    )


def _size(shape: Shape) -> str:
    return f"{shape.height} x {shape.width} x {shape.channels}"
