"""Plain data from YAML text: mappings, lists, texts, numbers, truth values, nothing else.

A guard at the door of every YAML file. Tags are refused, so that no value becomes an object. Depth,
size and the repetition by aliases have limits. A key that is given twice is an error. Numbers are
decimal: 010 and 1:30, which YAML 1.1 reads as 8 and 90, stay texts, as do dates.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import yaml

from search_spaces.validation import Path, dotted

DEEPEST = 64
"""Largest number of levels of a file."""
MOST_REPEATED = 100_000
"""Largest number of values that aliases add to those that are written."""

_EXPLAINED = 2**16  # characters up to which the slow parser, which explains better, reads again
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_WORDS = {
    form: value
    for words, value in ((("true", "yes", "on"), True), (("false", "no", "off"), False))
    for word in words
    for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9](?:_?[0-9])*)")
_HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9](?:_?[0-9])*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_SHORT_FLOAT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
_LIMITS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER = 400  # characters; no float64 needs more


class YamlError(ValueError):
    """A mistake in a user's file: one line that says where it is and what would be right."""


class Unquoted(str):
    """A text without quotes that is also a number, such as 1e-3: the field decides which it is.

    YAML 1.1 takes it for text, and hashes such as 12e4567890123456 are written so.
    """

    __slots__ = ()


@dataclasses.dataclass(slots=True)
class _Node:
    line: int
    value: Any  # a scalar's value, a list of nodes, or a list of (key node, value node)
    kind: str  # "scalar", "list" or "mapping"
    text: str = ""  # of a scalar
    size: int = 0  # values below it, aliases expanded; 0 while it is not complete


def parse(text: str, where: str) -> tuple[Any, dict[Path, int]]:
    """Parse YAML text.

    Args:
      text: The text.
      where: Origin of the text, for errors.

    Returns:
      The content, and the line of each key path.

    Raises:
      YamlError: Not valid YAML, or more than plain data.
    """
    node = _compose(text, where)
    lines: dict[Path, int] = {}
    return (None if node is None else _data(node, (), where, lines)), lines


def _events(text: str, where: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_FAST)
    except UnicodeError:
        raise YamlError(f"{where}: not valid YAML: not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise _explained(text, where, error) from None


def _explained(text: str, where: str, error: yaml.YAMLError) -> YamlError:
    """An error with line and cause, in the words of the slower parser where that is fast enough."""
    if _brackets(text) > DEEPEST:
        line = text[: text.index(next(b for b in text if b in "[{"))].count("\n") + 1
        return YamlError(
            f"{where}:{line}: not valid YAML: nested too deeply, more than {DEEPEST} levels"
        )
    if len(text) <= _EXPLAINED:
        try:
            for _ in yaml.parse(text, Loader=yaml.SafeLoader):
                pass
        except yaml.YAMLError as explained:
            error = explained
    if not isinstance(error, yaml.MarkedYAMLError):
        return YamlError(f"{where}: not valid YAML: {' '.join(str(error).split())}")
    mark = error.problem_mark or error.context_mark
    line = f":{mark.line + 1}" if mark else ""
    return YamlError(f"{where}{line}: not valid YAML: {error.problem or error.context}")


def _brackets(text: str) -> int:
    """Most brackets that are open at a time; the slow parser takes the square of their number."""
    most = level = 0
    for bracket in re.findall(r"[\[{}\]]", text):
        level = level + 1 if bracket in "[{" else max(level - 1, 0)
        most = max(most, level)
    return most


def _compose(text: str, where: str) -> _Node | None:
    """The nodes of a text, in one pass without recursion."""
    root: _Node | None = None
    anchors: dict[str, _Node] = {}
    open_nodes: list[_Node] = []
    keys: list[_Node | None] = []  # of each open mapping: the key that waits for its value
    repeated = documents = 0
    for event in _events(text, where):
        line = event.start_mark.line + 1
        place = f"{where}:{line}"
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlError(f"{place}: not valid YAML: a second document begins; give one")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            done = open_nodes.pop()
            keys.pop()
            done.size = max(done.size, 1)
            if open_nodes:
                open_nodes[-1].size += done.size
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise YamlError(f"{place}: not valid YAML: no &{event.anchor} stands before it")
            node = anchors[event.anchor]
            if any(node is other for other in open_nodes):
                raise YamlError(f"{place}: not valid YAML: an alias that contains itself")
            repeated += node.size
            if repeated > MOST_REPEATED:
                raise YamlError(
                    f"{place}: not valid YAML: aliases repeat more than {MOST_REPEATED:,} values"
                )
        else:
            node = _node(event, line, place)
            if event.anchor is not None:
                if event.anchor in anchors:
                    raise YamlError(f"{place}: not valid YAML: &{event.anchor} is there twice")
                anchors[event.anchor] = node
        if not open_nodes:
            root = node
        elif open_nodes[-1].kind == "list":
            open_nodes[-1].value.append(node)
        elif keys[-1] is None:
            keys[-1] = node
        else:
            open_nodes[-1].value.append((keys[-1], node))
            keys[-1] = None
        if node.size:  # a scalar, or the content of an alias
            if open_nodes:
                open_nodes[-1].size += node.size
            continue
        open_nodes.append(node)
        keys.append(None)
        if len(open_nodes) > DEEPEST:
            raise YamlError(
                f"{place}: not valid YAML: nested too deeply, more than {DEEPEST} levels"
            )
    return root


def _node(event: Any, line: int, place: str) -> _Node:
    if event.tag is not None:
        raise YamlError(
            f"{place}: not valid YAML: the tag {event.tag!r}; expected plain values without tags"
        )
    if isinstance(event, yaml.ScalarEvent):
        text = event.value
        value = text if event.style else _resolve(text, place)
        return _Node(line, value, "scalar", text, 1)
    return _Node(line, [], "list" if isinstance(event, yaml.SequenceStartEvent) else "mapping")


def _resolve(text: str, place: str) -> Any:
    """Value of a text without quotes."""
    if text in _NULLS:
        return None
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    kinds = (_INTEGER, _HEXADECIMAL, _FLOAT, _SHORT_FLOAT, _LIMITS)
    kind = next((kind for kind in kinds if kind.fullmatch(text)), None)
    if kind is None:
        return text
    if len(text) > _LONGEST_NUMBER:
        raise YamlError(f"{place}: got a number of {len(text)} characters")
    if kind is _SHORT_FLOAT:
        return Unquoted(text)
    plain = text.replace("_", "")
    if kind is _INTEGER or kind is _HEXADECIMAL:
        return int(plain, 16 if kind is _HEXADECIMAL else 10)
    return float(plain.replace(".", "", 1) if kind is _LIMITS else plain)


def _data(node: _Node, path: Path, where: str, lines: dict[Path, int]) -> Any:
    """Data of a node; adds the line of every value and key below it."""
    lines.setdefault(path, node.line)
    if node.kind == "scalar":
        return node.value
    if node.kind == "list":
        return [_data(item, (*path, index), where, lines) for index, item in enumerate(node.value)]
    data: dict[Any, Any] = {}
    texts: set[str] = set()
    merged: list[_Node] = []
    for key, value in node.value:
        place = f"{where}:{key.line}"
        if key.kind != "scalar":
            raise YamlError(f"{place}: not valid YAML: a key that is a {key.kind}")
        key_path = (*path, key.text)
        if key.text in texts or key.value in data:
            raise YamlError(f"{place}: {dotted(key_path)}: given twice")
        texts.add(key.text)
        if key.text == "<<" and key.value == "<<":
            merged += value.value if value.kind == "list" else [value]
            continue
        content = _data(value, key_path, where, lines)
        lines[key_path] = key.line
        data[key.value] = content
    for other in merged:
        if other.kind != "mapping":
            raise YamlError(f"{where}:{other.line}: not valid YAML: << takes a mapping")
        data = {**_data(other, path, where, lines), **data}
    return data
