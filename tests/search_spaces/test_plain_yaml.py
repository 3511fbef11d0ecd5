"""The guard at the door of YAML files: plain data or one line."""

from __future__ import annotations

import pathlib
import re
from typing import Any, Literal

import pytest

from search_spaces import plain_json, plain_yaml, yaml_io
from search_spaces.frozen import FrozenModel
from search_spaces.plain_yaml import YamlError

PLAIN: list[tuple[str, Any]] = [
    ("a: 1\nb: [1.5, -2, .5, 1., +3]\n", {"a": 1, "b": [1.5, -2, 0.5, 1.0, 3]}),
    ("a: 1_000\nb: 0x1F\n", {"a": 1000, "b": 31}),
    ("a: 010\nb: 1:30\nc: 0o7\nd: 2024-04-01\n", dict(a="010", b="1:30", c="0o7", d="2024-04-01")),
    ("a: 1e-3\nb: 1.0e3\nc: '1'\n", {"a": "1e-3", "b": 1000.0, "c": "1"}),
    ("a: yes\nb: Off\nc: ~\nd:\ne: 'no'\n", dict(a=True, b=False, c=None, d=None, e="no")),
    ("a: &x {b: 1}\nc: *x\n", {"a": {"b": 1}, "c": {"b": 1}}),
    ("x: &x {b: 1, c: 2}\ny: {<<: *x, b: 3}\n", {"x": {"b": 1, "c": 2}, "y": {"b": 3, "c": 2}}),
    ("\ufeffa: =\n".removeprefix("\ufeff"), {"a": "="}),
    ("a: |\n  1\n", {"a": "1\n"}),
    ("", None),
]


@pytest.mark.parametrize(("text", "data"), PLAIN)
def test_plain_data(text: str, data: Any) -> None:
    assert plain_yaml.parse(text, "f")[0] == data


def bomb(levels: int) -> str:
    rows = ["&a0 [x]", *(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, levels))]
    return f"a: [{', '.join(rows)}]"


REFUSED: list[tuple[str, str]] = [
    *(
        (f"name: {value}", "f:1: not valid YAML: the tag ")
        for value in ("!!timestamp x", '!!int ""', "!!bool maybe", '!!float ""', "!!set {a}", "! x")
    ),
    ("name: !!python/object/apply:os.system [ls]", "f:1: not valid YAML: the tag "),
    (bomb(26), "f:1: not valid YAML: aliases repeat more than 100,000 values"),
    ("a: &a [*a]", "f:1: not valid YAML: an alias that contains itself"),
    ("a: *b", "f:1: not valid YAML: no &b stands before it"),
    ("a: &b 1\nc: &b 2", "f:2: not valid YAML: &b is there twice"),
    ("[" * 5000, "f:1: not valid YAML: nested too deeply, more than 64 levels"),
    ("{a: " * 5000, "f:1: not valid YAML: nested too deeply, more than 64 levels"),
    ("a: {b: 1, b: 2}", "f:1: a.b: given twice"),
    ("1: a\n1.0: b", "f:2: 1.0: given twice"),
    ("yes: a\ntrue: b", "f:2: true: given twice"),
    ("[a, b]: 1", "f:1: not valid YAML: a key that is a list"),
    ("a: 1\n---\nb: 1", "f:2: not valid YAML: a second document begins"),
    ("a: {<<: 5}", "f:1: not valid YAML: << takes a mapping"),
    ("a: " + "9" * 5000, "f:1: got a number of 5000 characters"),
    ("a: \x01", "f: not valid YAML: unacceptable character"),
    ("a: \udcff", "f: not valid YAML"),
    ("a:\n\t- b", "f:2: not valid YAML: found character '\\t' that cannot start any token"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_anything_else_is_one_line(text: str, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        plain_yaml.parse(text, "f")
    assert str(caught.value).startswith(message), str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


class Strict(FrozenModel):
    number: float = 1.0
    count: int = 1
    text: str = ""
    flag: bool = False
    size: Literal[0, 3, 5] = 3
    many: tuple[float, ...] = ()
    either: float | Literal["auto"] = "auto"
    named: dict[str, float] = {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("number: 1e-3", {"number": 1e-3}),
        ("number: 5", {"number": 5.0}),
        ("text: 12e456", {"text": "12e456"}),
        ("either: 2e-1", {"either": 0.2}),
        ("many: [1, 2.5, 1e1]", {"many": (1.0, 2.5, 10.0)}),
        ("named: {a: 1e2}", {"named": {"a": 100.0}}),
    ],
)
def test_numbers_as_people_write_them(text: str, expected: dict[str, Any]) -> None:
    found = yaml_io.parse_model(text, Strict, "f")
    assert found == Strict(**expected)
    assert yaml_io.parse_model(yaml_io.to_yaml(found), Strict, "f") == found


@pytest.mark.parametrize(
    "field",
    [
        *("number: true", "number: '5'", "number: .inf", "number: .nan", "number: 1e999"),
        *("number: 1:30", "number: 0x", "number: ''", "number: 2024-01-01", "number: 1,5"),
        *("count: true", "count: 1.0", "count: '1'", "count: 010", "count: 1e3", "count: .inf"),
        *("text: 5", "text: no", "text: 1.5", "flag: 1", "flag: 'yes'", "flag: 0.0"),
        *("size: true", "size: 3.0", "size: '3'", "size: no", "many: [true]", "many: ['1']"),
        *("either: true", "either: '2'", "either: .nan", "named: {a: true}", "named: {a: .inf}"),
    ],
)
def test_numbers_are_strict(field: str) -> None:
    with pytest.raises(YamlError, match=r"^f:1: ") as caught:
        yaml_io.parse_model(field, Strict, "f")
    assert field.partition(":")[0] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "f:1: a: given twice"),
        ('{"a": NaN}', "f:1: got NaN, expected a number"),
        ('{"a": 1e999}', "f:1: got 1e999, too large"),
        ('{"a": ' + "9" * 5000 + "}", "f: got a number of 5000 digits"),
        ("[" * 100_000, "f: not valid JSON: nested too deeply"),
        ('{"a": 1,}', "f:1: not valid JSON"),
        ("", "f:1: not valid JSON"),
        ("[1]", "f:1: expected a JSON object"),
    ],
)
def test_json_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plain_json.parse_object(text, "f")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "fifo"])
def test_only_files_are_read(path: str, tmp_path: pathlib.Path) -> None:
    import os

    if path == "fifo":
        path = str(tmp_path / "fifo.yaml")
        os.mkfifo(path)
    elif not pathlib.Path(path).exists() or pathlib.Path(path).is_file():
        pytest.skip("not a device here")
    with pytest.raises(YamlError, match="is a device or pipe, expected a file"):
        yaml_io.load_model(path, Strict)
