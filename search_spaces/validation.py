"""Messages about data that does not fit a model: key path, value, and what would be right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from search_spaces.naming import did_you_mean

Path = tuple[str | int, ...]
"""Keys and indices from the top of the data to a value."""

# pydantic's names for the two forms of a field that may be a hole; not part of a user's path
_TAGS = ("value", "hole")


@dataclasses.dataclass(frozen=True)
class Mistake:
    """The first mistake in some data.

    Attributes:
      path: Key path in the user's data; empty for a check of the whole, whose `reason` names the
        place.
      reason: Description of the mistake, in one line.
      more: Number of further mistakes.
    """

    path: Path
    reason: str
    more: int = 0

    def __str__(self) -> str:
        key = f"{dotted(self.path)}: " if self.path else ""
        more = f" (and {self.more} more)" if self.more else ""
        return f"{key}{self.reason}{more}"


def first_mistake(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], data: Any
) -> Mistake:
    """Describe the first mistake that a validation met.

    Args:
      error: Error of the validation.
      model: Model that the data was to fit.
      data: The data.

    Returns:
      The mistake. An unknown key comes first, since a misspelt one also shows up as missing.
    """
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    path = _user_path(first["loc"], data)
    if first["type"] == "union_tag_invalid":
        path = (*path, first.get("ctx", {})["discriminator"].strip("'"))
    return Mistake(path, _reason(first, path, model), len(errors) - 1)


def dotted(path: Path) -> str:
    """A key path as text: "blocks[3].kernel".

    Args:
      path: Keys and indices.
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def brief(value: Any) -> str:
    """A value as text of at most 60 characters.

    Args:
      value: Any value.
    """
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def keys(model: type[pydantic.BaseModel]) -> list[str]:
    """The keys that a model reads, in the order of its fields.

    Args:
      model: The model.
    """
    return [info.alias or name for name, info in model.model_fields.items()]


def _reason(first: Any, path: Path, model: type[pydantic.BaseModel]) -> str:
    kind, got = first["type"], brief(first["input"])
    if kind == "extra_forbidden":
        allowed = keys(_model_at(model, first["loc"][:-1]))
        return f"unknown key; allowed: {', '.join(allowed)}{_near(str(path[-1]), allowed)}"
    if kind == "missing":
        return "missing; this key is required"
    if kind in ("literal_error", "union_tag_invalid"):
        expected = first["ctx"].get("expected") or first["ctx"]["expected_tags"]
        if kind == "union_tag_invalid":
            got = repr(first["ctx"]["tag"])
        options = [word.strip(" '\"") for word in expected.replace(" or ", ", ").split(",")]
        near = _near(got.strip("'"), options)
        return f"got {got}, expected one of {', '.join(options)}{near}"
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


def _near(got: str, options: Iterable[str]) -> str:
    return did_you_mean(got, options, cutoff=0.5)


def _user_path(location: Path, root: Any) -> Path:
    """Drop the union tags that pydantic adds to a path: keep the parts that the user's data has."""
    path: list[str | int] = []
    data: Any = root
    for position, part in enumerate(location):
        last = position == len(location) - 1
        inside = part in data if isinstance(data, Mapping) else isinstance(data, list | tuple)
        if inside and (isinstance(data, Mapping) or isinstance(part, int) and part < len(data)):
            data = data[part]
        elif part in _TAGS or not last or not isinstance(data, Mapping) or part == data.get("kind"):
            continue
        path.append(part)
    return tuple(path)


def _model_at(model: Any, location: Path) -> type[pydantic.BaseModel]:
    """The model that the keys at a location belong to."""
    root = model.model_fields.get("root")
    current = model
    candidates = _models_in(root.annotation) if root else []
    for part in location:
        if isinstance(part, int):
            continue
        if part in current.model_fields:
            candidates = _models_in(current.model_fields[part].annotation)
        tagged = [candidate for candidate in candidates if _kind_of(candidate) == part]
        if tagged or len(candidates) == 1:
            current = (tagged or candidates)[0]
    return current


def _kind_of(model: type[pydantic.BaseModel]) -> Any:
    kind = model.model_fields.get("kind")
    return kind.default if kind else None


def _models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [
        model
        for argument in getattr(annotation, "__args__", ())
        if argument is not annotation
        for model in _models_in(argument)
    ]
