"""Holes: the fields of a spec that a search may fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Generic, Literal, TypeVar, cast

import pydantic

from search_spaces.frozen import FrozenModel

T = TypeVar("T")

HoleKind = Literal["operator", "size"]
"""Treatment of a decision during warm-up: average its operators, or take its largest size."""


class OneOf(FrozenModel, Generic[T]):
    """A hole: one of several options, chosen by a decision.

    Holes of the same name anywhere in a spec are ONE decision and must have equally many options;
    the decision's index picks the option of each. So a stage's blocks share their width, the depth
    of a stage is one decision (`present: [true, true]` in its second block, `present: [true,
    false]` in its third), and two alternative blocks are two blocks whose `present` options are
    each other's opposite.

    Attributes:
      options: The options; the key `one_of` in YAML.
      name: Name of the decision.

    Source: ours, after the tagged OneOf of the TuNAS code (`schema.py`); sharing by name is ours.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    options: Annotated[tuple[T, ...], pydantic.Field(alias="one_of", min_length=2)]
    name: Annotated[str, pydantic.Field(min_length=1)]


def options_of(value: T | OneOf[T]) -> tuple[T, ...]:
    """All values that a field may take.

    Args:
      value: Value of a field, or a hole.

    Returns:
      The options of a hole, or the value alone.
    """
    return value.options if isinstance(value, OneOf) else (value,)


def resolve(value: T | OneOf[T], decisions: Mapping[str, int]) -> T:
    """The value of a field under given decisions.

    Args:
      value: Value of a field, or a hole.
      decisions: Option index of every decision, by name.

    Returns:
      The chosen option of a hole, or the value itself.

    Raises:
      KeyError: The hole's decision is not among `decisions`.
    """
    if isinstance(value, OneOf):
        return cast(T, value.options[decisions[value.name]])
    return value
