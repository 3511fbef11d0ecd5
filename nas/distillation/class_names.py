"""Outputs of a teacher that stand for the classes of a data set, by number and by name."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nas.data.distilled.manifest import TeacherSpec
from nas.host.terminal import listed

_LINE = 60
"""Most numbers that a message writes as one line of YAML."""


class Outputs(NamedTuple):
    """Outputs that stand for the classes.

    Attributes:
      kept: Position among the outputs of each class of the data set.
      are_named: Whether the names of all classes say so.
      notes: Sentences on what is doubtful.
    """

    kept: tuple[int, ...]
    are_named: bool
    notes: tuple[str, ...] = ()


def choose(
    spec: TeacherSpec, written: Sequence[str], outputs: int | None, class_names: Sequence[str]
) -> Outputs:
    """Choose the output of each class; names are compared wherever both sides have some.

    Args:
      spec: Conventions of the teacher.
      written: Names of all outputs that its file contains; empty if it has none.
      outputs: Number of outputs; None if it is not known.
      class_names: Names of the classes of the data set.

    Returns:
      The outputs.

    Raises:
      ValueError: Names contradict their order, or some are missing.
    """
    names = spec.class_names or tuple(written)
    if not spec.class_names and outputs not in (None, len(names)):
        names = ()
    if spec.classes is not None:
        return _check_numbers(spec, names, outputs, class_names)
    count = len(class_names)
    in_order = tuple(range(count))
    if not names:
        return Outputs(in_order, False)
    if outputs not in (None, len(names)):
        raise ValueError(
            f"`class_names` lists {len(names)} names, but it gives {outputs} outputs; list one "
            "name for each output, in order"
        )
    found = match(names, class_names)
    if all(position is not None for position in found):
        return Outputs(tuple(position for position in found if position is not None), True)
    missing = [name for name, position in zip(class_names, found, strict=True) if position is None]
    if len(names) == count and all(p is None or p == i for i, p in enumerate(found)):
        if not spec.class_names:
            return Outputs(in_order, False)
        pairs = [f"{names[i]!r} for {class_names[i]!r}" for i, p in enumerate(found) if p is None]
        return Outputs(
            in_order,
            False,
            (f"its names differ from those of the source; it is taken that {listed(pairs)}",),
        )
    if len(missing) == count and not spec.class_names:
        return Outputs(in_order, False)
    raise ValueError(
        f"`class_names` has no {listed(map(repr, missing))}; write the names as the source has "
        "them, or list the outputs of its classes, in order, as `classes:`"
    )


def _check_numbers(
    spec: TeacherSpec, names: Sequence[str], outputs: int | None, class_names: Sequence[str]
) -> Outputs:
    """The outputs in `classes`, if no name says that they are others."""
    kept: tuple[int, ...] = spec.classes or ()
    if not names or len(kept) != len(class_names):
        return Outputs(kept, False)
    readings: list[tuple[tuple[int | None, ...], tuple[int, ...]]] = []
    if len(names) != len(kept) or outputs == len(kept):
        if max(kept) >= len(names) or outputs not in (None, len(names)):
            if not spec.class_names:
                return Outputs(kept, False)
            raise ValueError(
                f"`class_names` lists {len(names)} names; expected one for each output "
                f"{f'({outputs}) ' if outputs else ''}or one for each of the {len(kept)} `classes`"
            )
        readings.append((match(names, class_names), kept))
    if len(names) == len(kept):
        readings.append((match(names, class_names), tuple(range(len(kept)))))
    for number, (found, wanted) in enumerate(readings):
        if list(found) == list(wanted):
            # Names that fit only as those of `classes` may be those of all outputs.
            return Outputs(kept, number == 0)
    found, wanted = readings[0]
    if not any(p is not None and p != w for p, w in zip(found, wanted, strict=True)):
        return Outputs(kept, False)
    if all(p is not None for p in found):
        right = [p for p in found if p is not None]
        right = right if wanted is kept else [kept[p] for p in right]
        cure = f"write {line(right)}, or" if len(right) <= _LINE else "leave `classes` out, or"
    else:
        cure = "correct `classes`, or"
    wrong = [
        f"{class_names[i]!r} is {names[w]!r}"
        for i, (p, w) in enumerate(zip(found, wanted, strict=True))
        if p != w
    ]
    raise ValueError(
        f"`classes` and the names of its outputs contradict each other: {listed(wrong, 4)}; {cure} "
        "correct `class_names`"
    )


def match(names: Sequence[str], wanted: Sequence[str]) -> tuple[int | None, ...]:
    """Position in `names` of each wanted name.

    Names are compared in Unicode's form NFC; where that does not find all, also without case,
    and with spaces in place of hyphens and underscores.

    Args:
      names: Names, e.g. of outputs.
      wanted: Names to look for.

    Returns:
      The positions; None for a name that is absent, or there several times.
    """
    exact = _match(names, wanted, lambda name: unicodedata.normalize("NFC", name).strip())
    return exact if None not in exact else _match(names, wanted, _folded)


def _match(
    names: Sequence[str], wanted: Sequence[str], key: Callable[[str], str]
) -> tuple[int | None, ...]:
    places: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        places.setdefault(key(name), []).append(position)
    keys = [key(name) for name in wanted]
    times = collections.Counter(keys)
    return tuple(
        places[k][0] if len(places.get(k, ())) == 1 and times[k] == 1 else None for k in keys
    )


def _folded(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()


def line(kept: Sequence[int]) -> str:
    """The line of YAML that names outputs.

    Args:
      kept: Position of the output of each class.
    """
    return f"`classes: [{', '.join(map(str, kept))}]`"


def cure(kept: Sequence[int]) -> str:
    """Advice to name outputs: the line itself, or a file where it would be long.

    Args:
      kept: Position of the output of each class.
    """
    if len(kept) <= _LINE and len(set(kept)) == len(kept):
        return f"write {line(kept)} in its YAML, or name its outputs there as `class_names:`"
    return (
        "name its outputs, a line each and in order, in a file that its YAML has as `class_list:`"
    )
