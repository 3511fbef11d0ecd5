"""SearchSpace: a spec with holes, its decisions, and how decisions become a network."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.choice import HoleKind, OneOf, resolve
from search_spaces.heads import split
from search_spaces.naming import did_you_mean
from search_spaces.spec import ArchSpec


@dataclasses.dataclass(frozen=True)
class Decision:
    """One categorical choice of a space.

    Attributes:
      name: Name that the decision's holes share.
      kind: Treatment during warm-up: the options of an "operator" are averaged, a "size" is taken
        at its largest.
      options: Number of options.
      largest: Index of the largest option (of the first hole with that name).
      blocks: Indices of the blocks that have a hole of this name other than `present`.
      gates: Indices of the blocks whose presence this decision decides.
      labels: Text of each option, for people.
    """

    name: str
    kind: HoleKind
    options: int
    largest: int
    blocks: tuple[int, ...]
    gates: tuple[int, ...]
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class SearchSpace:
    """The networks that a spec with holes stands for.

    A decision vector has one option index for each of `decisions`, in their order: the order in
    which their names first appear in the spec. The policy, the supernet and the cost model use that
    order.

    Attributes:
      spec: The spec with holes.

    Raises:
      ValueError: The spec has no hole.
    """

    spec: ArchSpec

    def __post_init__(self) -> None:
        if not self.decisions:
            raise ValueError(
                f"space {self.spec.name!r} has nothing to decide: no field is a `one_of`"
            )

    def __repr__(self) -> str:
        # A float has no room for more than 1e308, but a space may be larger than that.
        size = f"{self.size:.3g}" if self.size < 10**300 else f"1e{len(str(self.size)) - 1}"
        return f"SearchSpace({self.name!r}, {len(self.decisions)} decisions, {size} vectors)"

    def _repr_html_(self) -> str:
        """The decisions as a table in a notebook."""
        # The tables are built on this module.
        from search_spaces import tables

        return tables.space_html(self)

    @property
    def name(self) -> str:
        """Name of the spec."""
        return self.spec.name

    @functools.cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, in the order of their first hole."""
        holes: dict[str, list[_Hole]] = {}
        for index, block in enumerate(self.spec.blocks):
            for field, hole, kind in block.holes():
                holes.setdefault(hole.name, []).append((index, field, hole, kind))
        kinds = [block.kind for block in self.spec.blocks]
        return tuple(_decision(name, holes[name], kinds) for name in holes)

    @property
    def size(self) -> int:
        """Number of decision vectors, including those that differ only inside absent blocks."""
        return math.prod(decision.options for decision in self.decisions)

    @functools.cached_property
    def _position(self) -> dict[str, int]:
        return {decision.name: i for i, decision in enumerate(self.decisions)}

    def position(self, name: str) -> int:
        """Index of a decision in the decision vector.

        Args:
          name: Name of the decision.

        Returns:
          The index.
        """
        return self._position[name]

    def vector(self, decisions: Mapping[str, int]) -> tuple[int, ...]:
        """Convert named decisions to a decision vector.

        Args:
          decisions: Option index of every decision, by name.

        Returns:
          The decision vector.

        Raises:
          ValueError: A name is unknown or missing, or an index is out of range.
        """
        for name in decisions:
            if name not in self._position:
                hint = did_you_mean(name, self._position)
                raise ValueError(f"space {self.name!r} has no decision {name!r}{hint}")
        missing = [name for name in self._position if name not in decisions]
        if missing:
            raise ValueError(f"space {self.name!r}: no option chosen for {', '.join(missing)}")
        for decision in self.decisions:
            got = decisions[decision.name]
            if not 0 <= got < decision.options:
                raise ValueError(
                    f"space {self.name!r}, decision {decision.name!r}: got option {got}, expected "
                    f"0 to {decision.options - 1} for {', '.join(decision.labels)}"
                )
        return tuple(int(decisions[decision.name]) for decision in self.decisions)

    def mapping(self, vector: Sequence[int]) -> dict[str, int]:
        """Convert a decision vector to named decisions.

        Args:
          vector: Decision vector.

        Returns:
          Option index of every decision, by name.

        Raises:
          ValueError: The vector has the wrong length.
        """
        if len(vector) != len(self.decisions):
            raise ValueError(
                f"space {self.name!r} has {len(self.decisions)} decisions, got a vector of "
                f"{len(vector)}"
            )
        return {
            decision.name: int(index)
            for decision, index in zip(self.decisions, vector, strict=True)
        }

    def present(self, vector: Sequence[int]) -> tuple[bool, ...]:
        """Whether each block of the spec is part of the network.

        Args:
          vector: Decision vector.

        Returns:
          One value for each of `spec.blocks`.
        """
        chosen = self.mapping(vector)
        return tuple(resolve(block.present, chosen) for block in self.spec.blocks)

    def active(self, vector: Sequence[int]) -> tuple[bool, ...]:
        """Whether each decision changes the network.

        A decision does so if it decides a presence, or has a hole in a block that is present.

        Args:
          vector: Decision vector.

        Returns:
          One value for each of `decisions`.
        """
        present = self.present(vector)
        return tuple(bool(d.gates) or any(present[b] for b in d.blocks) for d in self.decisions)

    def canonical(self, vector: Sequence[int]) -> tuple[int, ...]:
        """Replace the options of inactive decisions by option 0.

        Args:
          vector: Decision vector.

        Returns:
          The decision vector that is the same for all vectors of one network.
        """
        return tuple(v if on else 0 for v, on in zip(vector, self.active(vector), strict=True))

    def random(self, rng: random.Random) -> tuple[int, ...]:
        """Draw a decision vector, uniformly.

        Args:
          rng: Source of randomness, which advances by one draw for each decision.

        Returns:
          The decision vector.
        """
        return tuple(rng.randrange(decision.options) for decision in self.decisions)

    def labels(self, vector: Sequence[int]) -> dict[str, str]:
        """Texts of the chosen options, for people.

        Args:
          vector: Decision vector.

        Returns:
          Text of the chosen option of every decision, by name.
        """
        return {d.name: d.labels[v] for d, v in zip(self.decisions, vector, strict=True)}


def freeze(
    space: SearchSpace, decisions: Mapping[str, int] | Sequence[int], name: str | None = None
) -> ArchSpec:
    """The network that decisions choose; absent blocks are dropped.

    Args:
      space: The space.
      decisions: Option index of every decision by name, or a decision vector.
      name: Name of the network; None for that of the space.

    Returns:
      A spec without holes. An endpoint behind an absent block is the output of the block before it.

    Raises:
      ValueError: A decision is unknown or missing, or an index is out of range.
    """
    chosen = dict(decisions) if isinstance(decisions, Mapping) else space.mapping(decisions)
    space.vector(chosen)
    spec = space.spec
    blocks = []
    # Of each block of the space: how many blocks of the network end with it.
    kept = []
    for block in spec.blocks:
        if resolve(block.present, chosen):
            fields = {field: resolve(hole, chosen) for field, hole, _ in block.holes()}
            blocks.append(type(block).model_validate({**dict(block), **fields}))
        kept.append(len(blocks))
    backbone, head = split(blocks)
    return ArchSpec(
        name=name or space.name,
        resolution=spec.resolution,
        input_channels=spec.input_channels,
        backbone=backbone,
        head=head,
        endpoints=spec.endpoints and {at: kept[i] - 1 for at, i in spec.endpoints.items()},
    )


def with_classes(spec: ArchSpec, classes: int) -> ArchSpec:
    """Copy a spec, with another number of classes and without provenance.

    Args:
      spec: Spec whose head is a classifier.
      classes: Number of classes.

    Returns:
      The new spec.
    """
    *before, classifier = spec.blocks
    return spec.with_blocks([*before, classifier.model_copy(update={"classes": classes})])


_Hole = tuple[int, str, OneOf[Any], HoleKind]
"""Index of the block, field, hole, kind."""


def _decision(name: str, holes: list[_Hole], block_kinds: Sequence[str]) -> Decision:
    """The decision of all holes of one name, which is checked."""
    counts = {len(hole.options) for _, _, hole, _ in holes}
    kinds = {kind for _, _, _, kind in holes}
    if len(counts) > 1 or len(kinds) > 1:
        places = ", ".join(
            f"blocks[{i}].{field} ({len(hole.options)} options)" for i, field, hole, _ in holes
        )
        raise ValueError(
            f"holes named {name!r} are one decision and need equally many options of one kind, "
            f"but got {places}"
        )
    columns = list(zip(*(hole.options for _, _, hole, _ in holes), strict=True))
    if len(set(columns)) < len(columns):
        raise ValueError(
            f"decision {name!r}: two of its options mean the same "
            f"({', '.join(map(str, columns))}); leave one out"
        )
    gates = tuple(i for i, field, _, _ in holes if field == "present")
    labels, largest = _of_presence(holes, block_kinds) if gates else _of_values(holes[0][2])
    blocks = tuple(dict.fromkeys(i for i, field, _, _ in holes if field != "present"))
    return Decision(name, holes[0][3], counts.pop(), largest, blocks, gates, labels)


def _of_values(hole: OneOf[Any]) -> tuple[tuple[str, ...], int]:
    """Labels of the options of a hole, and the index of the largest."""
    labels = tuple(
        f"{option:g}" if isinstance(option, float) else str(option) for option in hole.options
    )
    return labels, max(range(len(hole.options)), key=hole.options.__getitem__)


def _of_presence(holes: list[_Hole], block_kinds: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Labels of the options of a decision about presence, and the index of the largest.

    The decision is one between alternatives if exactly one block is present with every option, and
    one about depth otherwise.
    """
    gates = [(i, hole) for i, field, hole, _ in holes if field == "present"]
    options = range(len(gates[0][1].options))
    stays = [[i for i, hole in gates if hole.options[k]] for k in options]
    kept = [len(stay) for stay in stays]
    alternatives = len(gates) > 1 and set(kept) == {1}
    if alternatives and len({block_kinds[stay[0]] for stay in stays}) == len(stays):
        labels = tuple(block_kinds[stay[0]] for stay in stays)
    elif alternatives:
        labels = tuple(f"{block_kinds[stay[0]]} {stay[0]}" for stay in stays)
    else:
        labels = tuple(f"{count} of {len(gates)} optional" for count in kept)
    return labels, max(range(len(kept)), key=kept.__getitem__)
