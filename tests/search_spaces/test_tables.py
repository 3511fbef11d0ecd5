"""Short texts and tables of networks and spaces, as a notebook shows them."""

from __future__ import annotations

import html.parser

import pytest

import search_spaces
from search_spaces import ArchSpec, OneOf, OpCall, SearchSpace, Shape, tables
from search_spaces.blocks import UIB, Classifier, Conv, Pool


class Page(html.parser.HTMLParser):
    """Checks that tags close in order, and collects the texts of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert all(name == "style" for name, _ in attrs)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def wide_space(decisions: int) -> SearchSpace:
    blocks = [
        UIB.model_validate({"filters": 8, "start_dw": OneOf(options=(0, 3, 5), name=f"<{index}>")})
        for index in range(decisions)
    ]
    chain = (Conv(filters=8), *blocks, Pool(), Classifier(classes=3))
    return SearchSpace(ArchSpec.model_validate({"name": "wide", "resolution": 8, "blocks": chain}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mnv4-conv-s", "ArchSpec('mnv4-conv-s', 224 px, 3.77 M parameters, 186 M MACs)"),
        ("mnv4-conv-l", "ArchSpec('mnv4-conv-l', 384 px, 32.6 M parameters, 6.38 G MACs)"),
    ],
)
def test_a_network_as_text(name: str, text: str) -> None:
    network = search_spaces.zoo(name)
    assert repr(network) == str(network) == text


def test_a_space_as_text(small_32: ArchSpec) -> None:
    space = search_spaces.coarse_space(small_32)
    assert repr(space.spec) == "ArchSpec('small-32-coarse', 32 px, 6 decisions)"
    assert space.size == 2592
    assert repr(space) == "SearchSpace('small-32-coarse', 6 decisions, 2.59e+03 vectors)"


@pytest.mark.parametrize(("decisions", "size"), [(5, "243"), (20, "3.49e+09"), (650, "1e310")])
def test_the_size_of_a_space_as_text(decisions: int, size: str) -> None:
    """3^650 is 10^310.1, which no float can hold."""
    assert repr(wide_space(decisions)).endswith(f"{decisions} decisions, {size} vectors)")


@pytest.mark.parametrize("name", ["small-32", "mnv4-conv-s", "mnv4-hybrid-m", "fastvit-t8"])
def test_one_row_for_every_block(name: str) -> None:
    network = search_spaces.base(name)
    rows = tables.block_rows(network)
    assert {len(row) for row in rows} == {len(tables.BLOCK_COLUMNS)}
    assert [row[:2] for row in rows] == [(str(i), b.kind) for i, b in enumerate(network.blocks)]
    assert [row[2] for row in rows[1:]] == [row[3] for row in rows[:-1]]
    sums = [sum(int(row[column].replace(",", "") or 0) for row in rows) for column in (6, 7)]
    products = search_spaces.attention_macs(network)
    assert sums == [search_spaces.params(network), search_spaces.macs(network) + products]


def test_rows_of_conv_s() -> None:
    rows = tables.block_rows(search_spaces.zoo("mnv4-conv-s"))
    stem = ("0", "conv", "224 x 224 x 3", "112 x 112 x 32", "3x3", "2", "928", "10,838,016")
    assert rows[0] == stem
    assert rows[3][1:6] == ("uib", "28 x 28 x 64", "14 x 14 x 96", "5x5, 5x5", "2")
    assert rows[15][4] == "1x1" and rows[16][4:] == ("", "", "", "")


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (OpCall("conv2d", Shape(4, 4, 8), 8, 3, 2, groups=4), "3x3 s2 g4"),
        (OpCall("conv2d", Shape(4, 4, 8), 8), "1x1"),
        (OpCall("resize", Shape(4, 4, 8), 8, stride=2), "s2"),
        (OpCall("add", Shape(4, 4, 8), 8), ""),
    ],
)
def test_a_kernel_as_text(op: OpCall, text: str) -> None:
    assert tables.kernel_text(op) == text


def test_a_network_in_a_notebook() -> None:
    network = search_spaces.zoo("mnv4-conv-s")
    text = network._repr_html_()
    head, *rows = Page(text).rows
    assert head == list(tables.BLOCK_COLUMNS)
    assert rows == [list(row) for row in tables.block_rows(network)]
    assert text.startswith(f"<p>{tables.summary(network)}</p>")


def test_a_space_in_a_notebook() -> None:
    space = wide_space(2)
    text = space._repr_html_()
    assert text == space.spec._repr_html_()
    assert Page(text).rows == [
        list(tables.DECISION_COLUMNS),
        ["<0>", "operator", "0, 3, 5"],
        ["<1>", "operator", "0, 3, 5"],
    ]
    assert "<0>" not in text
