"""What is put into a page: checked pictures, and names as texts."""

from __future__ import annotations

import pytest

from nas.report import plots
from nas.report.page import document, inline_svg

PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink">{}</svg>'


def test_our_pictures_are_taken() -> None:
    figure, axes = plots.panels()
    axes.imshow([[0.0, 1.0]])
    axes.set_title("a $x^2$ & <b> \\frac")
    axes.plot([0, 1], [0, 1], label="one $\\alpha$ two $")
    axes.legend()
    text = plots.text(figure)
    assert "<svg" in inline_svg(text)
    assert "a $x^2$ &amp; &lt;b&gt;" in text  # matplotlib's comment: the title, not a formula


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        '<path onload="alert(1)"/>',
        '<path ONCLICK="alert(1)"/>',
        "<foreignObject><p/></foreignObject>",
        '<image x:href="http://elsewhere/x.png"/>',
        '<image href="data:image/svg+xml;base64,AAAA"/>',
        '<use x:href="file:///etc/passwd"/>',
        '<use href="java&#10;script:alert(1)"/>',
        '<path style="fill:url(http://elsewhere)"/>',
        "<style>@import 'http://elsewhere'</style>",
        "<style>a{b:url(http://elsewhere)}</style>",
        "<set attributeName='href' to='javascript:alert(1)'/>",
        "<iframe/>",
        "<path",
        "&undefined;",
    ],
)
def test_anything_else_is_refused(inside: str) -> None:
    with pytest.raises(ValueError, match="picture"):
        inline_svg(PICTURE.format(inside))


def test_entities_are_refused() -> None:
    bomb = '<!DOCTYPE svg [<!ENTITY a "aaaa">]>' + PICTURE.format("&a;")
    with pytest.raises(ValueError, match="declares entities"):
        inline_svg(bomb)


def test_a_title_is_a_text() -> None:
    assert "<title>&lt;script&gt;" in document("<script>", "")
