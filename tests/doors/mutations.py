"""Damage as files of users and killed processes have it, from a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

NASTY = [
    *("true", "no", "null", "~", "''", "'5'", '"1e3"', ".inf", "-.inf", ".nan", "NaN", "Infinity"),
    *("-1", "0", "1.5", "1,5", "1.234,5", "1 000", "1_0", "010", "0x1F", "1:30", "1e400", "1e-400"),
    *("9" * 25, "9" * 5000, "-0", "+1", "\u0661", "1e5", "99999999999", "2147483648"),
    *(
        "{}",
        "[]",
        "[1]",
        "{a: 1}",
        "[" * 200,
        "{a: " * 90,
        "&a [*a]",
        "*b",
        "!!int '1'",
        "!!set {}",
    ),
    *("!!python/name:os.system x", "<<: {a: 1}", "? [a]", "---", "...", "# x", "|", ">", "%", "@"),
    *("../../etc/passwd", "/dev/zero", "=1+1", "\x1b[31m", "\x00", "\ufeff", "\u2028", "\u00e9"),
    *("<script>", "$x$", ",", ";", "\t", '"', "'", "\r", "\n", "\r\n", "x" * 200_000, ""),
]
"""What takes the place of a word, or comes between two characters."""

_WORD = re.compile(rb"[A-Za-z0-9_.+-]+")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to three pieces of damage.

    Args:
      content: A valid file.
      rng: Source of the damage.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_DAMAGES)(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content) + 1)


def _flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return b"\x80"
    place = rng.randrange(len(content))
    flipped = bytes([content[place] ^ 1 << rng.randrange(8)])
    return content[:place] + flipped + content[place + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _drop(content: bytes, rng: random.Random) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + rng.randrange(1, 20) :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.choice(NASTY).encode() + content[place:]


def _replace_word(content: bytes, rng: random.Random) -> bytes:
    words = list(_WORD.finditer(content))
    if not words:
        return content
    word = rng.choice(words)
    return content[: word.start()] + rng.choice(NASTY).encode() + content[word.end() :]


def _swap_words(content: bytes, rng: random.Random) -> bytes:
    words = list(_WORD.finditer(content))
    if len(words) < 2:
        return content
    a, b = sorted(rng.sample(words, 2), key=lambda word: word.start())
    return content[: a.start()] + b[0] + content[a.end() : b.start()] + a[0] + content[b.end() :]


def _repeat_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    line = rng.choice(lines)
    lines.insert(rng.randrange(len(lines) + 1), line)
    return b"".join(lines)


def _drop_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _recode(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32")), "replace")


_DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    _flip,
    _cut,
    _drop,
    _insert,
    _replace_word,
    _replace_word,
    _replace_word,
    _swap_words,
    _repeat_line,
    _drop_line,
    _recode,
]
