"""Base of every immutable description."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic_core import core_schema

from search_spaces.strict import make_strict
from search_spaces.validation import first_mistake


class FrozenModel(pydantic.BaseModel):
    """Immutable description that is checked when it is made; an unknown key is an error.

    Numbers are strict everywhere: no truth value, no quoted number, no infinity, no NaN.

    Raises:
      ValueError: A value does not fit; one line with the class, the field, the value and the cure.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except pydantic.ValidationError as error:
            mistake = first_mistake(error, self.form_of(data), data)
            raise ValueError(f"{type(self).__name__}: {mistake}") from None

    # With this mark, pydantic validates nested data without a call of __init__, as fast as before
    # and with the whole key path in its errors.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: pydantic.GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        schema = handler(source)
        make_strict(schema)
        return schema

    @classmethod
    def form_of(cls, data: Any) -> type[FrozenModel]:
        """Model whose keys `data` has, for messages about it.

        Args:
          data: Plain data, such as the content of a file.

        Returns:
          This class, or the model of an older form of the data that this class reads too.
        """
        return cls
