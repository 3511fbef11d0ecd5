"""Users' texts in messages: without control characters, and not too many of them."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 8


def printable(text: str) -> str:
    """A text with escapes in place of control characters and undecodable bytes.

    Args:
      text: Name of a file, a folder or a class.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def listed(names: Iterable[str], most: int = _SHOWN) -> str:
    """Names with commas between them; of many, the first ones and the number of the others.

    Args:
      names: The names.
      most: Number of names that are written.
    """
    every = [printable(name) for name in names]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
