"""Configurations by name or path, and changes to them."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pydantic

from search_spaces import yaml_io
from search_spaces.naming import did_you_mean
from search_spaces.validation import brief

M = TypeVar("M", bound=pydantic.BaseModel)


def recipes(kind: str = "configs") -> dict[str, pathlib.Path]:
    """Shipped configurations, {name: file}: YAML files of a folder of `experiments`.

    They are found without importing that package.

    Args:
      kind: Name of the folder: "configs" (of searches) or "recipes" (of trainings).
    """
    package = importlib.util.find_spec("experiments")
    folders = list(package.submodule_search_locations or []) if package else []
    files = [path for folder in folders for path in pathlib.Path(folder, kind).glob("*.yaml")]
    return {path.stem: path for path in sorted(files)}


def load(
    name_or_path: str | os.PathLike[str],
    model: type[M],
    changes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    kind: str = "configs",
) -> M:
    """Load a configuration, change it, and check it.

    Args:
      name_or_path: A shipped configuration by name, or a YAML file.
      model: Class of the configuration.
      changes: "key.path=value" each, with YAML values; applied first.
      settings: {key path: value}; applied after `changes`.
      kind: Folder of the shipped ones, see `recipes`.

    Returns:
      The configuration.

    Raises:
      ValueError: Unknown name, with the nearest one; a malformed change; or a value that does not
        fit.
    """
    path = _find(str(name_or_path), kind)
    yaml_io.load_model(path, model)  # so that mistakes in the file are reported with its lines
    data = yaml_io.load_mapping(path)
    for (keys, value), change in zip(parse_changes(changes), changes, strict=True):
        _put(data, keys, value, change)
    origin = f"{name_or_path} with `settings`" if changes or settings else str(path)
    return _changed(data, model, settings or {}, origin)


def parse_changes(changes: Sequence[str]) -> list[tuple[list[str], Any]]:
    """Parse changes of a configuration, or fields of a table, as a command line gives them.

    Args:
      changes: "key.path=value" each, with YAML values.

    Returns:
      (keys, value) of each.

    Raises:
      ValueError: A malformed change, or a key that is given twice, also as part of a mapping.
    """
    parsed: list[tuple[list[str], Any]] = []
    for change in changes:
        key, equals, text = change.partition("=")
        keys = key.split(".")
        if not equals or not all(keys):
            raise ValueError(
                f"`settings` {brief(change)}: expected key.path=value, e.g. `settings` "
                "search.steps.coarse=500"
            )
        for other, _ in parsed:
            if other[: len(keys)] == keys[: len(other)]:
                twice = (
                    "" if other == keys else f", once as part of {min(other, keys, key=len)[-1]}"
                )
                raise ValueError(f"`settings` {key}: given twice{twice}; leave one out")
        try:
            value = yaml_io.parse_value(text, "value")
        except yaml_io.YamlError as error:
            cause = str(error).partition(": ")[2]
            raise ValueError(f"`settings` {brief(change)}: {cause}") from None
        parsed.append((keys, value))
    return parsed


def changed(config: M, settings: Mapping[str, Any]) -> M:
    """A configuration with some settings changed, checked.

    Args:
      config: The configuration.
      settings: {key path: value}.

    Raises:
      ValueError: An unknown key, or a value that does not fit.
    """
    if not settings:
        return config
    data = config.model_dump(mode="json", by_alias=True)
    return _changed(data, type(config), settings, "`settings`")


def _changed(data: Any, model: type[M], settings: Mapping[str, Any], origin: str) -> M:
    for key, value in settings.items():
        _put(data, key.split("."), value, key)
    return yaml_io.validate(data, model, origin)


def _find(name_or_path: str, kind: str) -> pathlib.Path:
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        return pathlib.Path(name_or_path)
    known = recipes(kind)
    if name_or_path not in known:
        what = "recipe" if kind == "recipes" else "configuration"
        raise ValueError(
            f"no {what} called {name_or_path!r}; known: {', '.join(known)}"
            f"{did_you_mean(name_or_path, known)}"
        )
    return known[name_or_path]


def _put(data: dict[str, Any], keys: list[str], value: Any, change: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ValueError(
                f"`settings` {brief(change)}: {key!r} is a value, it has no keys below it"
            )
    data[keys[-1]] = value
