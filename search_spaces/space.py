"""SearchSpace: a spec with holes, its decisions, and how decisions become a network."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.choice import HoleKind, OneOf, resolve
from search_spaces.spec import ArchSpec


@dataclasses.dataclass(frozen=True)
class Decision:
    """One categorical choice of a space.

    Attributes:
      name: the name that its holes share.
      kind: "operator" (averaged during warm-up) or "filter" (taken at its largest during warm-up).
      options: how many options there are.
      largest: index of the largest option (of the first hole with that name).
      blocks: indices of the blocks that have a hole of this name other than `present`.
      gates: indices of the blocks whose presence this decision decides.
      labels: one text an option, for people.
    """

    name: str
    kind: HoleKind
    options: int
    largest: int
    blocks: tuple[int, ...]
    gates: tuple[int, ...]
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The networks that a spec with holes stands for.

    A decision vector has one option index for each of `decisions`, in their order: the order in which their names first
    appear in the spec. All parts of the project (policy, supernet, cost model) use that order.
    """

    spec: ArchSpec

    def __post_init__(self) -> None:
        if not self.decisions:
            raise ValueError(f"space {self.spec.name!r} has nothing to decide: no field is a `one_of`")

    @property
    def name(self) -> str:
        """Name of the spec."""
        return self.spec.name

    @functools.cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, in the order of their first hole."""
        seen: dict[str, list[tuple[int, str, OneOf[Any], HoleKind]]] = {}
        for index, block in enumerate(self.spec.blocks):
            for field, hole, kind in block.holes():
                seen.setdefault(hole.name, []).append((index, field, hole, kind))
        kinds = [block.kind for block in self.spec.blocks]
        return tuple(_decision(name, holes, kinds) for name, holes in seen.items())

    @property
    def size(self) -> int:
        """Number of decision vectors (those that differ only inside absent blocks count apart)."""
        return math.prod(decision.options for decision in self.decisions)

    @functools.cached_property
    def _position(self) -> dict[str, int]:
        return {decision.name: i for i, decision in enumerate(self.decisions)}

    def position(self, name: str) -> int:
        """Index of a decision in the decision vector."""
        return self._position[name]

    def vector(self, decisions: Mapping[str, int]) -> tuple[int, ...]:
        """{name: option index} as a decision vector.

        Raises:
          ValueError: for an unknown or missing name or an index out of range.
        """
        for name in decisions:
            if name not in self._position:
                near = difflib.get_close_matches(name, self._position, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"space {self.name!r} has no decision {name!r}{hint}")
        missing = [name for name in self._position if name not in decisions]
        if missing:
            raise ValueError(f"space {self.name!r}: no option chosen for {', '.join(missing)}")
        for decision in self.decisions:
            got = decisions[decision.name]
            if not 0 <= got < decision.options:
                raise ValueError(
                    f"space {self.name!r}, decision {decision.name!r}: got option {got}, expected 0 to "
                    f"{decision.options - 1} for {', '.join(decision.labels)}"
                )
        return tuple(int(decisions[decision.name]) for decision in self.decisions)

    def mapping(self, vector: Sequence[int]) -> dict[str, int]:
        """A decision vector as {name: option index}."""
        if len(vector) != len(self.decisions):
            raise ValueError(f"space {self.name!r} has {len(self.decisions)} decisions, got a vector of {len(vector)}")
        return {decision.name: int(index) for decision, index in zip(self.decisions, vector, strict=True)}

    def present(self, vector: Sequence[int]) -> tuple[bool, ...]:
        """For every block of the spec: whether it is part of the network."""
        chosen = self.mapping(vector)
        return tuple(resolve(block.present, chosen) for block in self.spec.blocks)

    def active(self, vector: Sequence[int]) -> tuple[bool, ...]:
        """For every decision: whether it changes the network (it decides a presence, or a block that is present)."""
        present = self.present(vector)
        return tuple(bool(d.gates) or any(present[b] for b in d.blocks) for d in self.decisions)

    def canonical(self, vector: Sequence[int]) -> tuple[int, ...]:
        """The vector with option 0 at every inactive decision: equal networks, equal vectors."""
        return tuple(v if on else 0 for v, on in zip(vector, self.active(vector), strict=True))

    def random(self, rng: random.Random) -> tuple[int, ...]:
        """A uniform decision vector."""
        return tuple(rng.randrange(decision.options) for decision in self.decisions)

    def labels(self, vector: Sequence[int]) -> dict[str, str]:
        """{decision: text of the chosen option}, for people."""
        return {d.name: d.labels[v] for d, v in zip(self.decisions, vector, strict=True)}


def freeze(space: SearchSpace, decisions: Mapping[str, int] | Sequence[int], name: str | None = None) -> ArchSpec:
    """The network that `decisions` ({name: index}, or a decision vector) choose; absent blocks are dropped.

    Raises:
      ValueError: for an unknown or missing decision or an index out of range.
    """
    chosen = dict(decisions) if isinstance(decisions, Mapping) else space.mapping(decisions)
    space.vector(chosen)
    blocks = []
    for block in space.spec.blocks:
        if resolve(block.present, chosen):
            fields = {field: resolve(hole, chosen) for field, hole, _ in block.holes()}
            blocks.append(type(block).model_validate({**dict(block), **fields}))
    return ArchSpec.model_validate({**_top(space.spec), "name": name or space.name, "blocks": tuple(blocks)})


def with_blocks(spec: ArchSpec, blocks: Sequence[Any], name: str) -> ArchSpec:
    """A copy of `spec` with other blocks, checked anew and without provenance."""
    checked = tuple(type(block).model_validate(dict(block)) for block in blocks)
    return ArchSpec.model_validate({**_top(spec), "name": name, "blocks": checked})


def with_classes(spec: ArchSpec, classes: int) -> ArchSpec:
    """A copy of `spec` whose classifier has so many classes."""
    return with_blocks(spec, [*spec.blocks[:-1], spec.blocks[-1].model_copy(update={"classes": classes})], spec.name)


def _top(spec: ArchSpec) -> dict[str, Any]:
    return {"resolution": spec.resolution, "input_channels": spec.input_channels}


def _decision(name: str, holes: list[tuple[int, str, OneOf[Any], HoleKind]], block_kinds: Sequence[str]) -> Decision:
    counts = {len(hole.options) for _, _, hole, _ in holes}
    kinds = {kind for _, _, _, kind in holes}
    if len(counts) > 1 or len(kinds) > 1:
        places = ", ".join(f"blocks[{i}].{field} ({len(hole.options)} options)" for i, field, hole, _ in holes)
        raise ValueError(
            f"holes named {name!r} are one decision and need equally many options of one kind, but got {places}"
        )
    columns = list(zip(*(hole.options for _, _, hole, _ in holes), strict=True))
    if len(set(columns)) < len(columns):
        raise ValueError(
            f"decision {name!r}: two of its options mean the same ({', '.join(map(str, columns))}); leave one out"
        )
    first = holes[0][2]
    gates = tuple(i for i, field, _, _ in holes if field == "present")
    if gates:  # under one name: alternatives, if one block stays whatever is chosen, else a depth
        options = range(counts.pop())
        stays = [[i for i, field, hole, _ in holes if field == "present" and hole.options[k]] for k in options]
        kept = [len(stay) for stay in stays]
        alternatives = len(gates) > 1 and set(kept) == {1}
        if alternatives and len({block_kinds[stay[0]] for stay in stays}) == len(stays):
            labels = tuple(block_kinds[stay[0]] for stay in stays)
        elif alternatives:
            labels = tuple(f"{block_kinds[stay[0]]} {stay[0]}" for stay in stays)
        else:
            labels = tuple(f"{len(stay)} of {len(gates)} optional" for stay in stays)
        largest = max(range(len(kept)), key=kept.__getitem__)
    else:
        labels = tuple(f"{option:g}" if isinstance(option, float) else str(option) for option in first.options)
        largest = max(range(len(first.options)), key=first.options.__getitem__)
    blocks = tuple(dict.fromkeys(i for i, field, _, _ in holes if field != "present"))
    return Decision(name, holes[0][3], len(first.options), largest, blocks, gates, labels)
