"""Families of interchangeable parts: rewards, stages, and others that users can extend."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from search_spaces.naming import did_you_mean

T = TypeVar("T")


class Family(Mapping[str, T]):
    """The members of one kind by name, open to members of a user's own.

    Args:
      kind: Word for a member in messages, such as "reward".
      members: The shipped members by name.
      convert: Makes a member of an object that a user gives in place of a name; None where any
        object is a member as it stands.
    """

    def __init__(
        self, kind: str, members: Mapping[str, T], convert: Callable[[Any], T] | None = None
    ) -> None:
        self.kind = kind
        self._members = dict(members)
        self._shipped = frozenset(members)
        self._custom: set[str] = set()
        self._convert = convert

    def __getitem__(self, name: str) -> T:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Family({self.kind!r}: {', '.join(self)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members, in the order in which they were added."""
        return tuple(self._members)

    # Unlike that of other mappings, never None: an unknown name is a user's mistake.
    def get(self, name: str) -> T:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Look up a member that a user named.

        Args:
          name: Name of the member.

        Returns:
          The member.

        Raises:
          ValueError: No member has this name; the message lists the known names.
        """
        if name not in self._members:
            hint = did_you_mean(name, self)
            raise ValueError(f"no {self.kind} called {name!r}; known: {', '.join(self)}{hint}")
        return self._members[name]

    def register(self, name: str, member: T) -> None:
        """Add a member; adding the same member again is allowed.

        Args:
          name: Name of the member.
          member: The member.

        Raises:
          ValueError: A different member has this name.
        """
        if name in self._members and not _same(self._members[name], member):
            raise ValueError(f"{self.kind} {name!r}: the name is taken; choose another name")
        self._members[name] = member

    def remove(self, name: str) -> None:
        """Remove a member of a user's own, for example to register a changed one.

        Args:
          name: Name of the member.

        Raises:
          ValueError: No member has this name, or the member is a shipped one.
        """
        self.get(name)
        if name in self._shipped:
            raise ValueError(f"{self.kind} {name!r}: is a shipped one and cannot be removed")
        del self._members[name]
        self._custom.discard(name)

    def name_of(self, member: str | Any) -> str:
        """Name of a member, which is registered if it is a user's own.

        The name of a user's own member changes with its source code, so that a resumed run notices
        changed code.

        Args:
          member: Name, which is only checked, or any object that is a member or converts to one.

        Returns:
          The name: "custom:QUALNAME@HASH" for a user's own member, where HASH is made of its code.

        Raises:
          ValueError: No member has this name; the message lists the known names.
        """
        if isinstance(member, str):
            self.get(member)
            return member
        converted: T = self._convert(member) if self._convert else member
        for name, known in self._members.items():
            if _same(known, converted):
                return name
        code = "\n".join(_code(member, set()))
        name = f"custom:{_qualname(member)}@{hashlib.sha256(code.encode()).hexdigest()[:8]}"
        self._members[name] = converted
        self._custom.add(name)
        return name

    def customs(self) -> dict[str, T]:
        """The members that `name_of` registered, by name."""
        return {name: member for name, member in self.items() if name in self._custom}


def _same(known: Any, member: Any) -> bool:
    """Whether two members are one: dataclasses are compared by value, other objects by identity."""
    if known is member:
        return True
    return type(known) is type(member) and dataclasses.is_dataclass(known) and known == member


def _qualname(member: Any) -> str:
    if isinstance(member, functools.partial):
        return _qualname(member.func)
    return getattr(member, "__qualname__", type(member).__qualname__)


def _code(value: Any, seen: set[int]) -> Iterator[str]:
    """Texts that determine what an object computes: its source and what it holds.

    Objects that hold each other are visited once.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    source = _source(value)
    yield re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)) if source is None else source
    for held in _held(value, source):
        yield from _code(held, seen)


def _source(value: Any) -> str | None:
    """Source of a function or class, or of an object's class; None where there is none."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    for place in (value, type(value)):
        try:
            return inspect.getsource(place)
        except (TypeError, OSError):
            continue
    return None


def _held(value: Any, source: str | None) -> list[Any]:
    """Values that an object's behaviour depends on and that its source does not show."""
    if isinstance(value, types.FunctionType):
        captured = [
            cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()
        ]
        return [*captured, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if source is None or isinstance(value, type | types.ModuleType):
        return []
    return list(getattr(value, "__dict__", {}).values())
