"""What files mean, read by other means than the loaders: who accepts a file must agree."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
import yaml

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULLS = ("", "~", "null", "Null", "NULL")
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def text_of(content: bytes) -> str:
    return content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "strict")


def yaml_agrees(content: bytes, loaded: pydantic.BaseModel) -> bool:
    """Every value of the file, by its spelling, is the model's, and no key is there twice."""
    text = text_of(content)
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError:
        # The parser in Python knows no tabs between values, which are YAML.
        assert "\t" in text
        node = yaml.compose(text, Loader=yaml.CBaseLoader)
    return node is not None and _same(node, loaded.model_dump(by_alias=True))


def _same(node: yaml.Node, value: Any) -> bool:
    if isinstance(node, yaml.MappingNode):
        if node.tag != "tag:yaml.org,2002:map" or not isinstance(value, Mapping):
            return False
        names = [key.value for key, _ in node.value]
        known = {str(key): item for key, item in value.items()}
        if len(set(names)) < len(names) or not set(names) <= set(known):
            return False
        return all(_same(item, known[key.value]) for key, item in node.value)
    if isinstance(node, yaml.SequenceNode):
        return (
            node.tag == "tag:yaml.org,2002:seq"
            and isinstance(value, Sequence)
            and len(node.value) == len(value)
            and all(map(_same, node.value, value))
        )
    assert isinstance(node, yaml.ScalarNode)
    quoted = node.style in ("'", '"', "|", ">")
    text = node.value
    if node.tag != "tag:yaml.org,2002:str":
        return False
    if value is None:
        return not quoted and text in _NULLS
    if isinstance(value, bool):
        return not quoted and _WORDS.get(text.lower()) is value
    if isinstance(value, int | float):
        if quoted:
            return False
        if re.fullmatch(r"[-+]?0x[0-9a-fA-F]+", text):
            return int(text, 16) == value
        if re.fullmatch(r"\+?\.(inf|Inf|INF)", text):
            return value == math.inf
        if not _NUMBER.fullmatch(text) or re.fullmatch(r"[-+]?0[0-9]+", text):
            return False
        plain = text.replace("_", "")
        return (int if isinstance(value, int) else float)(plain) == value
    return value == text


def json_agrees(text: str, value: Any) -> bool:
    """The JSON of the text is the value, with its types, and no key is there twice."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            raise AssertionError(f"a key twice in {items}")
        return dict(items)

    found = json.loads(text, object_pairs_hook=pairs)
    return _same_types(found, value)


def _same_types(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_types(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same_types, a, b))
    if isinstance(b, float) and isinstance(a, int) and not isinstance(a, bool):
        return float(a) == b
    return type(a) is type(b) and (a == b or (a != a and b != b))


def cells_of(content: bytes) -> list[list[str]]:
    """Cells of a CSV file, split by hand."""
    rows, row, cell, quoted, closed = [], [], "", False, False
    text = re.sub(r"\r\n|\r", "\n", text_of(content))
    for character in text + ("" if text.endswith("\n") else "\n"):
        if quoted and character != '"':
            cell += character
        elif character == '"' and (quoted or not cell):
            if closed:
                cell += '"'
            quoted, closed = not quoted, quoted
            continue
        elif character in ",\n":
            row.append(cell)
            cell = ""
            if character == "\n":
                if row != [""]:
                    rows.append(row)
                row = []
        else:
            assert not closed, "text behind a closed quote"
            cell += character
        closed = False
    assert not quoted, "a quote is open"
    assert all(len(row) == len(rows[0]) for row in rows), "rows of other lengths"
    head = [cell.strip() for cell in rows[0]]
    assert len(set(head)) == len(head), "a column twice"
    return [head, *rows[1:]]


def number(text: str) -> float:
    """A number as people write it in a CSV file."""
    text = text.strip(" ")
    assert re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text), text[:40]
    value = float(text)
    assert math.isfinite(value), text[:40]
    return value
