"""Texts for a terminal, which takes control characters for commands."""

from __future__ import annotations

import re

# Controls but tab and newline, line separators, halves of surrogates, and changes of direction.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""A text that a terminal only shows: its control characters are written out, as \x1b.

    Args:
      text: Text that may have names from files in it.
    """
    return _UNSAFE.sub(
        lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text
    )
