"""Members that users add to a family, such as a reward: worker processes get them too.

A worker process imports the modules of this package afresh, so it only knows the shipped members.
The members that were added in this process are therefore pickled, sent along, and registered there
before any work starts.
"""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

from search_spaces.families import Family

_ADVICE = "it must be importable from a module: put it into a file and import it from there"


@dataclasses.dataclass(frozen=True)
class Member:
    """A user's member of a family, on its way to another process.

    Attributes:
      module: Module that holds the family.
      attribute: Name of the family in that module.
      kind: Kind of the family's members, for messages, e.g. "reward".
      name: Name of the member.
      pickled: The member, pickled.
    """

    module: str
    attribute: str
    kind: str
    name: str
    pickled: bytes


_shipped: dict[tuple[str, str], frozenset[str]] = {}
"""{(module, attribute) of a shared family: names that it had when it was shared}."""


def share(module: str, attribute: str) -> None:
    """Send the members that are added to a family to all worker processes that start from now on.

    Call this beside the family's definition, or where the module that defines it is imported.

    Args:
      module: Module that holds the family, e.g. "rewards".
      attribute: Name of the family in that module, e.g. "REWARDS".
    """
    family = _family(module, attribute)
    _shipped.setdefault((module, attribute), frozenset(family) - frozenset(family.customs()))


def pack(dumps: Callable[[Any], bytes] = pickle.dumps) -> tuple[Member, ...]:
    """Pickle the users' members of all shared families.

    Args:
      dumps: Function that pickles a member.

    Returns:
      The members; `unpack` registers them in another process.

    Raises:
      ValueError: A member cannot be pickled.
    """
    members = []
    for (module, attribute), shipped in _shipped.items():
        family = _family(module, attribute)
        for name in family:
            if name in shipped:
                continue
            try:
                pickled = dumps(family[name])
            except Exception as error:  # pickle raises several kinds, and so do objects themselves
                raise _not_sent(family.kind, name, error) from None
            members.append(Member(module, attribute, family.kind, name, pickled))
    return tuple(members)


def unpack(members: tuple[Member, ...]) -> None:
    """Register members that another process has packed; known members are skipped.

    Args:
      members: From `pack`.

    Raises:
      ValueError: A member cannot be loaded here, e.g. because it was defined in a notebook.
    """
    for member in members:
        family = _family(member.module, member.attribute)
        if member.name in family:
            continue
        try:
            loaded = pickle.loads(member.pickled)
        except Exception as error:  # whatever importing a user's module raises
            raise _not_sent(member.kind, member.name, error) from None
        family.register(member.name, loaded)


def _family(module: str, attribute: str) -> Family[Any]:
    return getattr(sys.modules.get(module) or importlib.import_module(module), attribute)


def _not_sent(kind: str, name: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{kind} {name!r}: cannot be sent to another process ({reason}); {_ADVICE}")
