"""Names of things, and the nearest name to one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated

import pydantic

Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Name that is safe as a file name: letters, digits, dots, hyphens and underscores."""


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Find the known name that is most like `name`.

    Args:
      name: Name as the user gave it.
      known: Names to choose from.
      cutoff: Least similarity in 0..1 that counts, see `difflib.get_close_matches`.

    Returns:
      The nearest name, or None where no name is similar enough.
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Hint at the end of an error message about an unknown name.

    Args:
      name: Name as the user gave it.
      known: Names that would have been right.
      cutoff: Least similarity in 0..1 that counts, see `difflib.get_close_matches`.

    Returns:
      "; did you mean 'x'?", or an empty string where no name is similar enough.
    """
    near = nearest(name, known, cutoff=cutoff)
    return f"; did you mean {near!r}?" if near else ""


def space_name(spec: str, stage: str, after: str | None = None) -> str:
    """Name of a stage's search space: "small-32-coarse", and after it "small-32-fine".

    Args:
      spec: Name of the spec that the stage starts from.
      stage: Name of the stage.
      after: Name of the stage whose result the spec is; it is dropped from the name.

    Returns:
      The spec's name with the stage's name behind it.
    """
    base = spec.removesuffix(f"-{after}") if after else spec
    return f"{base}-{stage}"
