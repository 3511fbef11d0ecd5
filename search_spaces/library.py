"""Specs on disk: the zoo of known networks, the bases that searches start from, and files of the user's."""

from __future__ import annotations

import difflib
import os
import pathlib

from search_spaces import yaml_io
from search_spaces.spec import ArchSpec

_HERE = pathlib.Path(__file__).parent


def load(path: str | os.PathLike[str]) -> ArchSpec:
    """Read an architecture from YAML.

    Raises:
      search_spaces.yaml_io.YamlError: (a ValueError) one line with file, line, key path, value and cure.
    """
    return yaml_io.load_model(path, ArchSpec)


def dump(spec: ArchSpec, path: str | os.PathLike[str]) -> None:
    """Write an architecture as YAML, atomically; `load` gives an equal spec."""
    yaml_io.write_atomically(path, yaml_io.to_yaml(spec))


def zoo(name: str) -> ArchSpec:
    """A known network by name; see `zoo_names`. Raises ValueError with the nearest name."""
    return _named(name, "zoo")


def zoo_names() -> tuple[str, ...]:
    """Names of the known networks."""
    return _names("zoo")


def base(name_or_path: str) -> ArchSpec:
    """The spec that a search starts from: a shipped base by name, a zoo network by name, or a YAML file by path.

    Raises:
      ValueError: with the known names and the nearest one.
    """
    if name_or_path.endswith((".yaml", ".yml")) or os.sep in name_or_path:
        return load(name_or_path)
    return _named(name_or_path, "bases", "zoo")


def base_names() -> tuple[str, ...]:
    """Names of the shipped bases."""
    return _names("bases")


def _names(folder: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (_HERE / folder).glob("*.yaml")))


def _named(name: str, *folders: str) -> ArchSpec:
    places = {known: folder for folder in folders for known in _names(folder)}
    if name not in places:
        near = difflib.get_close_matches(name, places, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no network called {name!r}; known: {', '.join(places)}{hint}")
    return load(_HERE / places[name] / f"{name}.yaml")
