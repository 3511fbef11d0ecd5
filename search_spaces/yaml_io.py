"""YAML in and out: the only module that reads and writes YAML files."""

from __future__ import annotations

import difflib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic
import yaml

from search_spaces import files, plain_yaml
from search_spaces.frozen import FrozenModel
from search_spaces.naming import nearest
from search_spaces.plain_yaml import YamlError
from search_spaces.validation import Path, brief, dotted, first_mistake, keys

__all__ = [
    "YamlError",
    "differences",
    "load_mapping",
    "load_model",
    "parse_model",
    "parse_value",
    "to_yaml",
    "validate",
]

M = TypeVar("M", bound=pydantic.BaseModel)


def load_model(path: str | os.PathLike[str], model: type[M]) -> M:
    """Read a YAML file into a pydantic model.

    Args:
      path: The file.
      model: Class of the model.

    Returns:
      The model.

    Raises:
      YamlError: The file cannot be read, is not valid YAML, or holds a value that does not fit; the
        message has file, line, key path, value and cure.
    """
    return parse_model(_read(path), model, str(path))


def parse_model(text: str, model: type[M], where: str) -> M:
    """Read YAML text into a pydantic model.

    Args:
      text: The text.
      model: Class of the model.
      where: Origin of the text, for errors.

    Returns:
      The model.

    Raises:
      YamlError: The text is not valid YAML, or a value does not fit.
    """
    data, lines = plain_yaml.parse(text, where)
    if not isinstance(data, Mapping):
        expected = f"expected keys and values ({', '.join(keys(model))})"
        raise YamlError(f"{where}:1: {expected}, got {brief(data)}")
    return validate(data, model, where, lines)


def parse_value(text: str, where: str) -> Any:
    """Read YAML text as plain data without a model.

    Args:
      text: The text.
      where: Origin of the text, for errors.

    Returns:
      Mappings, lists and scalars.

    Raises:
      YamlError: The text is not valid YAML.
    """
    return plain_yaml.parse(text, where)[0]


def validate(data: Any, model: type[M], where: str, lines: Mapping[Path, int] | None = None) -> M:
    """Check plain data against a model.

    Args:
      data: Mappings, lists and scalars.
      model: Class of the model.
      where: Origin of the data, for errors.
      lines: Line of each key path, for errors; None where the data has no lines.

    Returns:
      The model.

    Raises:
      YamlError: A value does not fit; the message has the first mistake and the number of others.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        form = model.form_of(data) if issubclass(model, FrozenModel) else model
        mistake = first_mistake(error, form, data)
    lines = lines or {}
    line = _line_of(mistake.path or _path_named_by(mistake.reason, lines), lines)
    place = f"{where}:{line}" if line else where
    raise YamlError(f"{place}: {mistake}")


def differences(old: pydantic.BaseModel, new: pydantic.BaseModel) -> str:
    """Differences of two models of one class, in one line.

    Args:
      old: The first model.
      new: The second model.

    Returns:
      "- key: old; + key: new; ..." with at most six changes, or "" if the models are equal.
    """
    before, after = (to_yaml(model, defaults=True).splitlines() for model in (old, new))
    changes = [" ".join(line.split()) for line in difflib.ndiff(before, after) if line[0] in "+-"]
    return "; ".join(changes[:6]) + (" ..." if len(changes) > 6 else "")


def load_mapping(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file of keys and values without a model.

    Args:
      path: The file.

    Returns:
      The content.

    Raises:
      YamlError: As for `load_model`.
    """
    data = parse_value(_read(path), str(path))
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise YamlError(f"{path}:1: expected keys and values, got {brief(data)}")
    return data


def to_yaml(model: pydantic.BaseModel, *, defaults: bool = False) -> str:
    """Write a model as YAML text, with keys in the order of its fields.

    Args:
      model: The model.
      defaults: Whether to write values that equal their defaults.

    Returns:
      The text; reading it gives an equal model.
    """
    return yaml.dump(
        _plain(model, defaults),
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=120,
        allow_unicode=True,
    )


class _Dumper(yaml.SafeDumper):
    """Puts each key of the top level on a line of its own, also where all values are short."""

    def represent(self, data: Any) -> None:
        node = self.represent_data(data)
        if isinstance(node, yaml.CollectionNode):
            node.flow_style = False
        self.serialize(node)
        self.represented_objects, self.object_keeper, self.alias_key = {}, [], None


# Texts that `plain_yaml` takes for numbers are quoted.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _plain(model: pydantic.BaseModel, defaults: bool) -> Any:
    data: dict[str, Any] = {}
    for name, info in sorted(type(model).model_fields.items(), key=lambda item: item[0] != "kind"):
        value = getattr(model, name)
        omitted = not defaults and name not in ("kind", "schema_version") and not info.is_required()
        if omitted and value == info.get_default():
            continue
        data[info.alias or name] = _plain_value(value, defaults)
    return data


def _plain_value(value: Any, defaults: bool) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return _plain(value, defaults)
    if isinstance(value, Mapping):
        return {key: _plain_value(item, defaults) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain_value(item, defaults) for item in value]
    return value


def _line_of(path: Path, lines: Mapping[Path, int]) -> int | None:
    """Line of a key path, or of the nearest one above it that has a line."""
    above = (path[:length] for length in range(len(path), -1, -1))
    return next((lines[known] for known in above if known in lines), None)


def _path_named_by(reason: str, lines: Mapping[Path, int]) -> Path:
    """The longest key path with a known line that a message of a whole-model check begins with."""
    named = [
        path for path in lines if path and re.match(rf"{re.escape(dotted(path))}(?![\w])", reason)
    ]
    return max(named, key=len, default=())


def _read(path: str | os.PathLike[str]) -> str:
    path = pathlib.Path(path)
    try:
        return files.read_text(path)
    except FileNotFoundError:
        near = nearest(path.name, _siblings(path))
        hint = f"; did you mean {near}?" if near else ""
        raise YamlError(f"{path}: no such file{hint}") from None
    except ValueError as error:
        raise YamlError(str(error)) from None


def _siblings(path: pathlib.Path) -> list[str]:
    try:
        return [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return []
