"""Configurations by name, path and `--set`."""

from __future__ import annotations

import difflib
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any, TypeVar

import pydantic
import yaml

from search_spaces import yaml_io

M = TypeVar("M", bound=pydantic.BaseModel)


def recipes() -> dict[str, pathlib.Path]:
    """{name: file} of the shipped configurations, `experiments/configs/*.yaml` (found without importing them)."""
    package = importlib.util.find_spec("experiments")
    folders = list(package.submodule_search_locations or []) if package else []
    files = [path for folder in folders for path in pathlib.Path(folder, "configs").glob("*.yaml")]
    return {path.stem: path for path in sorted(files)}


def load(name_or_path: str, model: type[M], changes: Sequence[str] = (), extra: dict[str, Any] | None = None) -> M:
    """Load a configuration, apply `key.path=value` changes and then `extra` ({key path: value}), and check it.

    Raises:
      ValueError: unknown name (with the nearest), a change that is not of the form, or a value that does not fit.
    """
    path = _find(name_or_path)
    yaml_io.load_model(path, model)  # mistakes of the file get the file's lines
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {change!r}: expected key.path=value, e.g. --set search.steps.coarse=500")
        try:
            _put(data, key.split("."), yaml.safe_load(value), change)
        except yaml.YAMLError:
            raise ValueError(f"--set {change!r}: the value is not valid YAML") from None
    for key, value in (extra or {}).items():
        _put(data, key.split("."), value, key)
    return yaml_io.validate(data, model, f"{name_or_path} with --set" if changes else str(path))


def _find(name_or_path: str) -> pathlib.Path:
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        return pathlib.Path(name_or_path)
    known = recipes()
    if name_or_path not in known:
        near = difflib.get_close_matches(name_or_path, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no configuration called {name_or_path!r}; known: {', '.join(known)}{hint}")
    return known[name_or_path]


def _put(data: dict[str, Any], keys: list[str], value: Any, change: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ValueError(f"--set {change!r}: {key!r} is a value, it has no keys below it")
    data[keys[-1]] = value
