"""Specs on disk: the zoo of known networks, the bases of searches, and files of users."""

from __future__ import annotations

import os
import pathlib

from search_spaces import files, yaml_io
from search_spaces.naming import did_you_mean
from search_spaces.spec import ArchSpec

_HERE = pathlib.Path(__file__).parent


def load(path: str | os.PathLike[str]) -> ArchSpec:
    """Read an architecture from a YAML file of schema 1 or 2.

    Args:
      path: The file.

    Returns:
      The architecture.

    Raises:
      search_spaces.yaml_io.YamlError: The file holds no architecture; the message, in one line, has
        file, line, key path, value and cure. It is a ValueError.
    """
    return yaml_io.load_model(path, ArchSpec)


def dump(spec: ArchSpec, path: str | os.PathLike[str]) -> None:
    """Write an architecture to a YAML file, atomically; `load` gives an equal one.

    Args:
      spec: The architecture.
      path: The file; missing folders are made.
    """
    files.write_atomically(path, yaml_io.to_yaml(spec))


def zoo(name: str) -> ArchSpec:
    """A known network.

    Args:
      name: One of `zoo_names`.

    Returns:
      The network.

    Raises:
      ValueError: No network has this name; the message has the known names and the nearest one.
    """
    return _named(name, "zoo")


def zoo_names() -> tuple[str, ...]:
    """Names of the known networks."""
    return _names("zoo")


def base(name_or_path: str) -> ArchSpec:
    """The spec that a search starts from.

    Args:
      name_or_path: Name of a shipped base or of a network of the zoo, or path of a YAML file.

    Returns:
      The spec.

    Raises:
      ValueError: No network has this name, or the file holds no architecture.
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
    known = {stem: folder for folder in folders for stem in _names(folder)}
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"no network called {name!r}; known: {', '.join(known)}{hint}")
    return load(_HERE / known[name] / f"{name}.yaml")
