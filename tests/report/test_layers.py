"""The table of layers: every operation once, and sums that are those of the spec."""

from __future__ import annotations

import html.parser
import re

import pytest

import search_spaces
from nas.report import layers

NAMES = ["small-32", "mnv4-conv-s", "mnv4-hybrid-m", "mobileone-s4", "efficientvit-b1"]


@pytest.mark.parametrize("name", NAMES)
def test_rows(name: str) -> None:
    spec = search_spaces.base(name)
    rows, ops = layers.rows(spec), search_spaces.lower(spec)
    assert len(rows) == len(ops) and {len(row) for row in rows} == {len(layers.COLUMNS)}
    params, macs = (
        sum(int(row[column].replace(",", "") or 0) for row in rows) for column in (5, 6)
    )
    assert params == search_spaces.params(spec)
    assert macs == search_spaces.macs(spec) + search_spaces.attention_macs(spec)
    blocks = [f"{index} {block.kind}" for index, block in enumerate(spec.blocks)]
    assert [row[0] for row in rows if row[0]] == blocks


def test_text_of_conv_s() -> None:
    text = layers.text(search_spaces.zoo("mnv4-conv-s")).splitlines()
    stem = (
        "0 conv  conv (conv2d) relu  224 x 224 x 3  112 x 112 x 32  3x3 s2  928  10,838,016  71.6"
    )
    assert text[2].split() == stem.split()  # 10,838,016 / (864 + 150,528) = 71.59 MACs/byte
    assert text[-1] == "mnv4-conv-s: 224 x 224 x 3, 3,774,024 parameters, 186.0 M MACs"
    assert not any(line.endswith(" ") for line in text)


def test_attention_products_stand_apart() -> None:
    summary = layers.summary(search_spaces.zoo("mnv4-hybrid-m"))
    assert summary.endswith("11,074,648 parameters, 1,229.2 M MACs + 41.9 M in attention products")


class _Page(html.parser.HTMLParser):
    """Counts tags, checks that they close in order, and collects cells."""

    void = {"meta"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


def test_page_is_complete_and_needs_no_network() -> None:
    spec = search_spaces.zoo("mnv4-hybrid-m")
    page = layers.page(spec)
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert not parser.open and "script" not in parser.seen
    assert not re.search(r"https?://|@import|url\(", page)
    assert parser.cells == [cell for row in layers.rows(spec) for cell in row]
    assert parser.seen.count("tr") == 1 + len(search_spaces.lower(spec))
    assert "viewport" in page
