"""Edits of a copy of the packages."""

from __future__ import annotations

import pathlib
import textwrap

ROOT = pathlib.Path(__file__).parents[2]


def write(root: pathlib.Path, path: str, text: str) -> None:
    file = root / path
    file.write_text(textwrap.dedent(text), encoding="utf-8")


def change(root: pathlib.Path, path: str, before: str, after: str) -> None:
    file = root / path
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, (path, before, text.count(before))
    file.write_text(text.replace(before, after), encoding="utf-8")
