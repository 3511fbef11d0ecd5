"""Holes: the places of a spec that a search may fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Generic, Literal, TypeVar, cast

import pydantic

T = TypeVar("T")

HoleKind = Literal["operator", "filter"]
"""What warm-up does with a decision: an operator's options are averaged, a filter count is taken at its largest."""


class Frozen(pydantic.BaseModel):
    """Base of every spec object: immutable, and an unknown key is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)


class OneOf(Frozen, Generic[T]):
    """A hole: one of `options`, chosen by the decision called `name`.

    Holes of the same name anywhere in a spec are ONE decision and must have equally many options; the decision's index
    picks the option of each. So a stage's blocks share their width, the depth of a stage is one decision
    (`present: [true, true]` in its second block, `present: [true, false]` in its third), and two alternative blocks are
    two blocks whose `present` options are each other's opposite.

    Source: ours, after the tagged OneOf of the TuNAS code (`schema.py`); sharing by name is ours.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    options: Annotated[tuple[T, ...], pydantic.Field(alias="one_of", min_length=2)]
    name: Annotated[str, pydantic.Field(min_length=1)]


def options_of(value: T | OneOf[T]) -> tuple[T, ...]:
    """All values that a field may take: the options of a hole, or the value itself."""
    return value.options if isinstance(value, OneOf) else (value,)


def resolve(value: T | OneOf[T], decisions: Mapping[str, int]) -> T:
    """The value of a field under `decisions` ({name: option index}).

    Raises:
      KeyError: if the hole's decision is not among `decisions`.
    """
    if isinstance(value, OneOf):
        return cast(T, value.options[decisions[value.name]])
    return value
