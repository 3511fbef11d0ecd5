"""Layers of a network as a table: shapes, parameters, MACs, operational intensity."""

from __future__ import annotations

import html

import search_spaces
from nas.report.page import document
from search_spaces import ArchSpec, OpCall
from search_spaces.tables import kernel_text, shape_text, summary

COLUMNS = ("block", "operation", "input", "output", "kernel", "params", "MACs", "MACs/byte")
"""Names of the columns."""

_WORDS = 5
"""Leading columns that hold words; the others hold numbers and are aligned to the right."""


def rows(spec: ArchSpec) -> list[tuple[str, ...]]:
    """One row for every operation of a network, in the order in which they run.

    Args:
      spec: Network without choices.

    Returns:
      Rows of `COLUMNS`. The first one of a block names the block, the others leave it empty.
    """
    table: list[tuple[str, ...]] = []
    for block, ops in zip(spec.blocks, search_spaces.lower_by_block(spec), strict=True):
        for index, op in enumerate(ops):
            table.append((f"{op.block} {block.kind}" if index == 0 else "", *_cells(op)))
    return table


def text(spec: ArchSpec) -> str:
    """The table for a terminal, with its sums in the last line.

    Args:
      spec: Network without choices.

    Returns:
      Lines of text.
    """
    table = [COLUMNS, *rows(spec)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < _WORDS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", summary(spec)])


def page(spec: ArchSpec) -> str:
    """The table as an HTML page.

    Args:
      spec: Network without choices.

    Returns:
      The page.
    """
    return document(spec.name, f"<h1>{html.escape(spec.name)}</h1>\n{section(spec)}")


def section(spec: ArchSpec) -> str:
    """The table as an element of a page, with a bar in each MACs cell.

    A bar is as long as the operation's share of the largest MACs of any operation.

    Args:
      spec: Network without choices.

    Returns:
      HTML.
    """
    largest = max(op.macs for op in search_spaces.lower(spec))
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = []
    for op, row in zip(search_spaces.lower(spec), rows(spec), strict=True):
        share = f"{100 * op.macs / largest:.1f}%"
        gradient = f"linear-gradient(to left,#bcd7f5 {share},transparent {share})"
        bar = f' style="background:{gradient}"'
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
    operation = op.role if op.role == op.kind else f"{op.role} ({op.kind})"
    if op.activation != "none":
        operation += f" {op.activation}"
    return (
        operation,
        shape_text(op.input),
        shape_text(op.output),
        kernel_text(op),
        f"{op.params:,}" if op.params else "",
        f"{op.macs:,}" if op.macs else "",
        f"{op.intensity:.1f}" if op.macs else "",
    )
