"""Plain data from JSON text, with one form of error; a guard at the door of every JSON file."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_LONGEST_INTEGER = 400  # digits; no float64 has more


def parse(text: str, where: str, *, finite: bool = True) -> Any:
    """Parse JSON text.

    Args:
      text: The text.
      where: Origin of the text, for errors.
      finite: Whether NaN and infinities are errors.

    Returns:
      Mappings, lists and scalars.

    Raises:
      ValueError: One line with place and cause: damaged JSON, a key that is given twice, a number
        that is not finite, or more levels than Python reads.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found:
                quoted = json.dumps(key, ensure_ascii=False)
                twice = text.count(quoted) == 2
                place = _place(where, line_of(text, quoted, last=True)) if twice else where
                raise _Refused(f"{place}: {key}: given twice")
            found[key] = value
        return found

    def constant(name: str) -> float:
        if finite:
            raise _Refused(f"{_place(where, line_of(text, name))}: got {name}, expected a number")
        return float(name)

    def integer(digits: str) -> int:
        if len(digits) > _LONGEST_INTEGER:
            raise _Refused(f"{where}: got a number of {len(digits)} digits")
        return int(digits)

    def real(number: str) -> float:
        value = float(number)
        if finite and not math.isfinite(value):
            raise _Refused(f"{_place(where, line_of(text, number))}: got {number[:40]}, too large")
        return value

    try:
        return json.loads(
            text,
            object_pairs_hook=pairs,
            parse_constant=constant,
            parse_int=integer,
            parse_float=real,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{_place(where, error.lineno)}: not valid JSON: {error.msg}") from None
    except _Refused as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON: nested too deeply") from None


def parse_object(text: str, where: str, *, finite: bool = True) -> dict[str, Any]:
    """Parse JSON text that is an object.

    Args:
      text: The text.
      where: Origin of the text, for errors.
      finite: Whether NaN and infinities are errors.

    Returns:
      {key: value}.

    Raises:
      ValueError: As `parse`, or something else than an object.
    """
    data = parse(text, where, finite=finite)
    if not isinstance(data, dict):
        place = _place(where, 1)
        raise ValueError(f"{place}: expected a JSON object with keys and values")
    return data


def line_of(text: str, word: str, *, last: bool = False) -> int:
    """Find the line of a word, for errors.

    Args:
      text: Content of a file.
      word: Word to look for.
      last: Whether to look for its last line instead of its first.

    Returns:
      Number of the line; 1 if the word is not there.
    """
    position = (text.rfind if last else text.find)(word)
    return text.count("\n", 0, max(position, 0)) + 1


def _place(where: str, line: int) -> str:
    """The place of a mistake; a text that is itself one line of a file has its line already."""
    return where if re.search(r":[0-9]+$", where) else f"{where}:{line}"


class _Refused(Exception):
    """Not a ValueError, which JSONDecodeError is."""
