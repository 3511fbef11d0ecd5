"""Frame of every page: one file without scripts or network access, readable on a phone."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree


def document(title: str, body: str, style: str = "") -> str:
    """A complete HTML page.

    Args:
      title: Title, plain text.
      body: Content, HTML.
      style: CSS of this page, added to the common one.

    Returns:
      The page.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title><style>{_STYLE}{style}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def inline_svg(svg: str) -> str:
    """An SVG picture as an element of a page.

    Args:
      svg: Text of an SVG file.

    Returns:
      HTML.

    Raises:
      ValueError: It is no picture alone: it has a script, an event, a link or an entity.
    """
    _check(svg)
    return f'<div class="scroll"><svg{svg.partition("<svg")[2]}</div>'


_ELEMENTS = frozenset(
    [
        "svg",
        "g",
        "defs",
        "path",
        "use",
        "rect",
        "circle",
        "ellipse",
        "line",
        "polyline",
        "polygon",
        "clipPath",
        "text",
        "tspan",
        "image",
        "style",
        "title",
        "desc",
        "metadata",
        "RDF",
        "Work",
        "type",
        "date",
        "format",
        "creator",
        "Agent",
        "linearGradient",
        "radialGradient",
        "stop",
        "mask",
        "pattern",
        "symbol",
    ]
)
"""Elements of a picture that a page may hold; none of them runs anything."""


def _check(svg: str) -> None:
    if re.search(r"<!ENTITY|<!DOCTYPE[^>]*\[", svg, re.IGNORECASE):
        raise ValueError("the picture declares entities; make it again")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"the picture is no SVG ({error}); make it again") from None
    for element in root.iter():
        name = str(element.tag).rpartition("}")[2]
        if name not in _ELEMENTS:
            raise ValueError(f"the picture has an element {name!r}; make it again")
        for key, value in element.attrib.items():
            attribute, plain = key.rpartition("}")[2].lower(), "".join(value.split()).lower()
            link = attribute in ("href", "src") and not plain.startswith(
                ("#", "data:image/png;base64,")
            )
            outside = re.search(r"url\((?![\"']?#)|javascript:|expression\(|@import", plain)
            if attribute.startswith("on") or link or outside:
                raise ValueError(f"the picture has an attribute {attribute!r}; make it again")
        if name == "style" and re.search(r"url\(|@import|<", element.text or "", re.IGNORECASE):
            raise ValueError("the picture has a style that loads something; make it again")


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:1rem auto;max-width:64rem;padding:0 .8rem;
color:#1b2733}
h1{font-size:1.4rem;margin:.2rem 0}
.scroll{overflow-x:auto}
table.layers{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem;
white-space:nowrap}
table.layers th{position:sticky;top:0;background:#fff;text-align:left;
border-bottom:2px solid #1b2733}
table.layers td,table.layers th{padding:.1rem .45rem}
table.layers td:nth-child(n+6),table.layers th:nth-child(n+6){text-align:right}
table.layers tr.first td{border-top:1px solid #c9d3dd}
table.layers td:first-child{font-weight:600}
svg{max-width:100%;height:auto}
pre{white-space:pre-wrap;font-size:.85rem}
h2{font-size:1.1rem;margin-top:1.6rem}
"""
