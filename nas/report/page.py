"""Frame of every page: one file without scripts or network access, readable on a phone."""

from __future__ import annotations

import html


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
    """
    return f'<div class="scroll"><svg{svg.partition("<svg")[2]}</div>'


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
