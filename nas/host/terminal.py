"""Texts and names of users for a terminal, which takes control characters for commands."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Controls but tab and newline, line separators, halves of surrogates, and changes of direction.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BREAKS = str.maketrans({"\t": "\\t", "\n": "\\n"})
_SHOWN = 8


def printable(text: str) -> str:
    r"""A text that a terminal only shows: its control characters are written out, as \x1b.

    Args:
      text: Text that may have names from files in it.
    """
    return _UNSAFE.sub(
        lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text
    )


def one_line(name: str) -> str:
    """A name on one line: as `printable`, with tabs and line ends written out too.

    Args:
      name: Name of a file, a folder or a class.
    """
    return printable(name).translate(_BREAKS)


def listed(names: Iterable[str], most: int = _SHOWN) -> str:
    """Names with commas between them; of many, the first ones and the number of the others.

    Args:
      names: The names.
      most: Number of names that are written.
    """
    every = [one_line(name) for name in names]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
