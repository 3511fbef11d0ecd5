"""Tables of networks and search spaces, for notebooks and reports."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from search_spaces.blocks import Block
from search_spaces.ops import OpCall, Shape
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec, attention_macs, lower_by_block, macs, params

BLOCK_COLUMNS = ("block", "kind", "input", "output", "kernel", "stride", "params", "MACs")
"""Names of the columns of `block_rows`."""

DECISION_COLUMNS = ("decision", "kind", "options")
"""Names of the columns of `decision_rows`."""

_NUMBERS = ("block", "stride", "params", "MACs")
"""Columns that hold numbers and are aligned to the right."""


def summary(spec: ArchSpec) -> str:
    """Name, input size, parameters and MACs of a network in one line.

    Args:
      spec: Network without choices.

    Returns:
      The line.
    """
    products = attention_macs(spec)
    attention = f" + {products / 1e6:.1f} M in attention products" if products else ""
    size = shape_text(Shape(spec.resolution, spec.resolution, spec.input_channels))
    return (
        f"{spec.name}: {size}, {params(spec):,} parameters, "
        f"{macs(spec) / 1e6:,.1f} M MACs{attention}"
    )


def block_rows(spec: ArchSpec) -> list[tuple[str, ...]]:
    """One row for every block of a network.

    Args:
      spec: Network without choices.

    Returns:
      Rows of `BLOCK_COLUMNS`.
    """
    return [
        _block_row(index, block, ops)
        for index, (block, ops) in enumerate(zip(spec.blocks, lower_by_block(spec), strict=True))
    ]


def decision_rows(space: SearchSpace) -> list[tuple[str, ...]]:
    """One row for every decision of a search space.

    Args:
      space: The space.

    Returns:
      Rows of `DECISION_COLUMNS`.
    """
    return [(d.name, d.kind, ", ".join(d.labels)) for d in space.decisions]


def spec_html(spec: ArchSpec) -> str:
    """A network as a table of its blocks, or (with holes) of its decisions.

    Args:
      spec: The network.

    Returns:
      HTML without links to anything outside it.
    """
    if not spec.is_frozen:
        return space_html(SearchSpace(spec))
    return _table(summary(spec), BLOCK_COLUMNS, block_rows(spec))


def space_html(space: SearchSpace) -> str:
    """A search space as a table of its decisions.

    Args:
      space: The space.

    Returns:
      HTML without links to anything outside it.
    """
    return _table(repr(space), DECISION_COLUMNS, decision_rows(space))


def shape_text(shape: Shape) -> str:
    """A shape as text: "224 x 224 x 3".

    Args:
      shape: The shape.
    """
    return f"{shape.height} x {shape.width} x {shape.channels}"


def kernel_text(op: OpCall) -> str:
    """Kernel, stride and groups of an operation as text: "3x3 s2 g4"; empty without a kernel.

    Args:
      op: The operation.
    """
    parts = [f"{op.kernel}x{op.kernel}"] if op.kernel > 1 or op.weights else []
    if op.stride > 1:
        parts.append(f"s{op.stride}")
    if op.groups > 1:
        parts.append(f"g{op.groups}")
    return " ".join(parts)


def _block_row(index: int, block: Block, ops: Sequence[OpCall]) -> tuple[str, ...]:
    weighted = [op.kernel for op in ops if op.weights]
    kernels = [kernel for kernel in weighted if kernel > 1] or weighted[:1]
    counts = (sum(op.params for op in ops), sum(op.macs for op in ops))
    return (
        str(index),
        block.kind,
        shape_text(ops[0].input),
        shape_text(block.after(ops[0].input)),
        ", ".join(f"{kernel}x{kernel}" for kernel in kernels),
        str(block.spatial_stride or ""),
        *(f"{count:,}" if count else "" for count in counts),
    )


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    styles = ["text-align:right" if name in _NUMBERS else "text-align:left" for name in columns]
    lines = [
        f"<p>{html.escape(caption)}</p>",
        '<table style="border-collapse:collapse;font-variant-numeric:tabular-nums">',
        f"<thead>{_row('th', styles, columns)}</thead>",
        "<tbody>",
        *(_row("td", styles, row) for row in rows),
        "</tbody>",
        "</table>",
    ]
    return "\n".join(lines)


def _row(tag: str, styles: Sequence[str], cells: Sequence[str]) -> str:
    columns = zip(styles, cells, strict=True)
    inside = "".join(
        f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for style, cell in columns
    )
    return f"<tr>{inside}</tr>"
