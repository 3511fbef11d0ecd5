from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import pytest

import search_spaces
from search_spaces import ArchSpec

NAMED = [("base", name) for name in search_spaces.base_names()] + [
    ("zoo", name) for name in search_spaces.zoo_names()
]


@pytest.mark.parametrize(("get", "name"), NAMED)
def test_every_shipped_network(get: str, name: str, tmp_path: pathlib.Path) -> None:
    """Loads, carries its file's name, is a complete network, and survives a round trip."""
    spec = getattr(search_spaces, get)(name)
    assert spec.name == name and spec.is_frozen
    assert search_spaces.params(spec) > 0 and search_spaces.macs(spec) > 0
    search_spaces.dump(spec, tmp_path / "again.yaml")
    assert search_spaces.load(tmp_path / "again.yaml") == spec


def test_small_32_is_shipped() -> None:
    assert "small-32" in search_spaces.base_names()
    assert list(search_spaces.base_names()) == sorted(search_spaces.base_names())


def test_dump_makes_folders_and_replaces(small_32: ArchSpec, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run" / "architecture.yaml"
    for name in ("first", "second"):
        search_spaces.dump(small_32.model_copy(update={"name": name}), path)
        assert search_spaces.load(path).name == name
    assert [p.name for p in path.parent.iterdir()] == ["architecture.yaml"]


@pytest.mark.parametrize("file", ["net.yaml", "net.yml", "sub/net"])
def test_a_base_by_path(
    file: str, small_32: ArchSpec, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search_spaces.dump(small_32, file)
    assert search_spaces.base(file) == search_spaces.base(str(tmp_path / file)) == small_32


@pytest.mark.parametrize(
    ("get", "name", "start", "end"),
    [
        (
            search_spaces.base,
            "smal-32",
            "no network called 'smal-32'; known: ",
            "; did you mean 'small-32'?",
        ),
        (
            search_spaces.base,
            "zzz",
            "no network called 'zzz'; known: small-32, small-64, convnext-s, ",
            "nextvit-s",
        ),
        (
            search_spaces.base,
            "mnv4-conf-s",
            "no network called 'mnv4-conf-s'",
            "; did you mean 'mnv4-conv-s'?",
        ),
        (search_spaces.zoo, "qqq", "no network called 'qqq'; known: ", ""),
    ],
)
def test_unknown_names(get: Callable[[str], ArchSpec], name: str, start: str, end: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(start)}.*{re.escape(end)}$"):
        get(name)


def test_a_missing_path_is_not_taken_for_a_name(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "small-32.yaml"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: no such file$"):
        search_spaces.base(str(path))
