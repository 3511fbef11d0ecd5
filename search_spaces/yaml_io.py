"""YAML in and out: the one place that reads and writes YAML for specs, configurations and manifests."""

from __future__ import annotations

import difflib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import pydantic
import yaml

M = TypeVar("M", bound=pydantic.BaseModel)
Path = tuple[str | int, ...]

_TAGS = ("value", "hole")  # pydantic's names for the two forms of a field; not part of a user's path


class YamlError(ValueError):
    """A user's file is not what it should be; the message is one line that says where and what would be right."""


def load_model(path: str | os.PathLike[str], model: type[M]) -> M:
    """Read a YAML file into a pydantic model.

    Raises:
      YamlError: unreadable file, damaged YAML, or a value that does not fit, with file, line, key path, value and cure.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        raise YamlError(f"{path}: no such file" + (f"; did you mean {near[0]}?" if near else "")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise YamlError(f"{path}: cannot be read: {error}") from None
    return parse_model(text, model, str(path))


def parse_model(text: str, model: type[M], where: str) -> M:
    """As `load_model`, from text; `where` names its origin in errors."""
    data, lines = _parse(text, where)
    if not isinstance(data, Mapping):
        raise YamlError(f"{where}:1: expected keys and values ({', '.join(_keys(model))}), got {_brief(data)}")
    return validate(data, model, where, lines)


def validate(data: Any, model: type[M], where: str, lines: Mapping[Path, int] | None = None) -> M:
    """Check plain data against a model; `lines` ({key path: line}) lets errors say the line.

    Raises:
      YamlError: with the first mistake, and how many more there are.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        raise YamlError(_explain(error, model, data, where, lines or {})) from None


def differences(old: pydantic.BaseModel, new: pydantic.BaseModel) -> str:
    """What two models of one class do not share, as one line "- key: old; + key: new; ..."; empty if they are alike."""
    before, after = (to_yaml(model, defaults=True).splitlines() for model in (old, new))
    changes = [" ".join(line.split()) for line in difflib.ndiff(before, after) if line[0] in "+-"]
    return "; ".join(changes[:6]) + (" ..." if len(changes) > 6 else "")


def load_mapping(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file of keys and values without a model. Raises YamlError as `load_model`."""

    class Anything(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")

    return load_model(path, Anything).model_dump()


def to_yaml(model: pydantic.BaseModel, *, defaults: bool = False) -> str:
    """A model as YAML text, keys in the order of its fields; `defaults`: also write values left at theirs."""
    data = _plain(model, defaults)
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a part."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


class _Dumper(yaml.SafeDumper):
    """Puts each key of the top level on a line of its own, also where all values are short."""

    def represent(self, data: Any) -> None:
        node = self.represent_data(data)
        if isinstance(node, yaml.CollectionNode):
            node.flow_style = False
        self.serialize(node)
        self.represented_objects, self.object_keeper, self.alias_key = {}, [], None


def _plain(model: pydantic.BaseModel, defaults: bool) -> Any:
    out: dict[str, Any] = {}
    for name, info in sorted(type(model).model_fields.items(), key=lambda item: item[0] != "kind"):
        value = getattr(model, name)
        omitted = not defaults and name not in ("kind", "schema_version") and not info.is_required()
        if omitted and value == info.get_default():
            continue
        out[info.alias or name] = _plain_value(value, defaults)
    return out


def _plain_value(value: Any, defaults: bool) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return _plain(value, defaults)
    if isinstance(value, Mapping):
        return {key: _plain_value(item, defaults) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain_value(item, defaults) for item in value]
    return value


def _parse(text: str, where: str) -> tuple[Any, dict[Path, int]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_walk(node, (), where)) if node else {}
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise YamlError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise YamlError(f"{where}: not valid YAML: nested too deeply, or an alias that contains itself") from None


def _walk(node: yaml.Node, path: Path, where: str) -> Iterator[tuple[Path, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # safe_load refuses it and says where
            if key.value in seen:
                raise YamlError(f"{where}:{key.start_mark.line + 1}: {_dotted((*path, key.value))}: given twice")
            seen.add(key.value)
            yield from _walk(value, (*path, key.value), where)
            yield (*path, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _walk(value, (*path, index), where)


def _explain(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], data: Any, where: str, lines: Mapping[Path, int]
) -> str:
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key also shows up as missing
    path = _user_path(first["loc"], data)
    if first["type"] == "union_tag_invalid":
        path = (*path, first.get("ctx", {})["discriminator"].strip("'"))
    at = path or _path_named_by(_reason(first, path, model), lines)
    line = next((lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in lines), None)
    place = where + (f":{line}" if line else "")
    key = f" {_dotted(path)}:" if path else ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{place}:{key} {_reason(first, path, model)}{more}"


def _reason(first: Any, path: Path, model: type[pydantic.BaseModel]) -> str:
    kind, got = first["type"], _brief(first["input"])
    if kind == "extra_forbidden":
        allowed = _keys(_model_at(model, first["loc"][:-1]))
        return f"unknown key; allowed: {', '.join(allowed)}{_nearest(str(path[-1]), allowed)}"
    if kind == "missing":
        return "missing; this key is required"
    if kind in ("literal_error", "union_tag_invalid"):
        expected = first["ctx"].get("expected") or first["ctx"]["expected_tags"]
        if kind == "union_tag_invalid":
            got = repr(first["ctx"]["tag"])
        options = [word.strip(" '\"") for word in expected.replace(" or ", ", ").split(",")]
        return f"got {got}, expected one of {', '.join(options)}{_nearest(got.strip(chr(39)), options)}"
    if kind == "union_tag_not_found":
        return f"missing `{first['ctx']['discriminator'].strip(chr(39))}`, which says what this is"
    if kind == "value_error":
        return str(first["ctx"]["error"])
    if kind == "tuple_type":
        return f"got {got}, expected a list"
    if kind == "too_short":
        return f"got {got}, expected at least {first['ctx']['min_length']} values"
    message = first["msg"]
    return f"got {got}: {message[0].lower()}{message[1:]}"


def _nearest(got: str, options: list[str]) -> str:
    near = difflib.get_close_matches(got, options, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _user_path(loc: Path, root: Any) -> Path:
    """Drop the union tags that pydantic mixes into a path: keep what can be followed in the user's data."""
    out: list[str | int] = []
    data: Any = root
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        inside = part in data if isinstance(data, Mapping) else isinstance(data, list | tuple)
        if inside and (isinstance(data, Mapping) or isinstance(part, int) and part < len(data)):
            data = data[part]
        elif part in _TAGS or not last or not isinstance(data, Mapping) or part == data.get("kind"):
            continue
        out.append(part)
    return tuple(out)


def _path_named_by(reason: str, lines: Mapping[Path, int]) -> Path:
    """The longest key path with a known line that a message of a whole-model check begins with."""
    named = [path for path in lines if path and re.match(rf"{re.escape(_dotted(path))}(?![\w])", reason)]
    return max(named, key=len, default=())


def _model_at(model: Any, loc: Path) -> type[pydantic.BaseModel]:
    """The model that the keys at `loc` belong to."""
    found, candidates = model, _models_in(model.model_fields["root"].annotation) if "root" in model.model_fields else []
    for part in loc:
        if isinstance(part, int):
            continue
        if part in found.model_fields:
            candidates = _models_in(found.model_fields[part].annotation)
        tagged = [c for c in candidates if c.model_fields.get("kind") and c.model_fields["kind"].default == part]
        found = (tagged or candidates)[0] if tagged or len(candidates) == 1 else found
    return found


def _models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) if arg is not annotation for m in _models_in(arg)]


def _keys(model: type[pydantic.BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _siblings(path: pathlib.Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []


def _dotted(path: Path) -> str:
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
