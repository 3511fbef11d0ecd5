"""Strict scalars: no truth value, quoted number, infinity or NaN becomes a number.

Strictness as pydantic offers it for whole models would refuse lists for tuples too.
"""

from __future__ import annotations

from typing import Any

import pydantic_core
from pydantic_core import core_schema

from search_spaces.plain_yaml import Unquoted

# Keys of mappings stay as they are: those of JSON are texts, also where they stand for numbers.
_NO_SCHEMAS = (
    "keys_schema",
    "metadata",
    "default",
    "expected",
    "serialization",
    "function",
    "cls",
    "config",
)


def make_strict(schema: Any) -> None:
    """Make the scalars of a schema strict, in place.

    Args:
      schema: Schema that pydantic has made of a model.
    """
    if isinstance(schema, list | tuple):
        for each in schema:
            make_strict(each)
        return
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if kind in ("int", "str", "bool"):
        schema.setdefault("strict", True)
    elif kind == "float":
        if not schema.get("strict"):
            inner: Any = {"allow_inf_nan": False, **schema, "strict": True}
            schema.clear()
            schema.update(core_schema.no_info_before_validator_function(_as_number, inner))
    elif kind == "literal" and all(type(option) is int for option in schema["expected"]):
        inner: Any = dict(schema)
        schema.clear()
        schema.update(
            core_schema.no_info_before_validator_function(_Exact(inner["expected"]), inner)
        )
    else:
        for key, value in schema.items():
            if key not in _NO_SCHEMAS:
                make_strict(value)


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, Unquoted) else value


class _Exact:
    """Refuses True for 1 and 3.0 for 3, which equal them."""

    def __init__(self, options: Any):
        self._expected = ", ".join(map(repr, options))

    def __call__(self, value: Any) -> Any:
        if isinstance(value, bool | float):
            raise pydantic_core.PydanticCustomError(
                "literal_error", "expected one of {expected}", {"expected": self._expected}
            )
        return value
