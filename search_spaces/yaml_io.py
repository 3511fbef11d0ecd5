"""YAML in and out: the only module that reads and writes YAML files."""

from __future__ import annotations

import difflib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import pydantic
import yaml

from search_spaces.frozen import FrozenModel
from search_spaces.naming import nearest
from search_spaces.validation import Path, brief, dotted, first_mistake, keys

M = TypeVar("M", bound=pydantic.BaseModel)


class YamlError(ValueError):
    """A mistake in a user's file: one line that says where it is and what would be right."""


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
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = nearest(path.name, _siblings(path))
        hint = f"; did you mean {near}?" if near else ""
        raise YamlError(f"{path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise YamlError(f"{path}: cannot be read: {error}") from None
    return parse_model(text, model, str(path))


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
    data, lines = _parse(text, where)
    if not isinstance(data, Mapping):
        expected = f"expected keys and values ({', '.join(keys(model))})"
        raise YamlError(f"{where}:1: {expected}, got {brief(data)}")
    return validate(data, model, where, lines)


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

    class Anything(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")

    return load_model(path, Anything).model_dump()


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


def _parse(text: str, where: str) -> tuple[Any, dict[Path, int]]:
    """Content of YAML text, and the line of each key path."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_walk(node, (), where)) if node else {}
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise YamlError(
            f"{where}{line}: not valid YAML: {error.problem or error.context}"
        ) from None
    except yaml.YAMLError as error:
        raise YamlError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise YamlError(
            f"{where}: not valid YAML: nested too deeply, or an alias that contains itself"
        ) from None


def _walk(node: yaml.Node, path: Path, where: str) -> Iterator[tuple[Path, int]]:
    """Key path and line of every value and key below a node; a repeated key is an error."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            # safe_load refuses other keys and says where they are
            if not isinstance(key, yaml.ScalarNode):
                continue
            key_path, line = (*path, key.value), key.start_mark.line + 1
            if key.value in seen:
                raise YamlError(f"{where}:{line}: {dotted(key_path)}: given twice")
            seen.add(key.value)
            yield from _walk(value, key_path, where)
            yield key_path, line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _walk(value, (*path, index), where)


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


def _siblings(path: pathlib.Path) -> list[str]:
    return [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
