from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from search_spaces import ArchSpec, OneOf, SearchSpace, freeze
from search_spaces.blocks import UIB, BaseBlock, Classifier, Conv, Pool
from search_spaces.choice import options_of, resolve

Vectors = Callable[[SearchSpace], st.SearchStrategy[tuple[int, ...]]]


def hole(name: str, *options: object) -> OneOf:
    return OneOf(options=options, name=name)


def space_of(*blocks: BaseBlock) -> SearchSpace:
    fields = {"name": "net", "resolution": 16, "blocks": (*blocks, Pool(), Classifier(classes=4))}
    return SearchSpace(ArchSpec.model_validate(fields))


def chosen_fields(space: SearchSpace, vector: tuple[int, ...]) -> list[dict[str, object]]:
    """The fields of the present blocks, straight from the definition of a hole."""
    chosen = space.mapping(vector)
    rows = [
        {field: resolve(value, chosen) for field, value in dict(block).items()}
        for block in space.spec.blocks
    ]
    return [row for row in rows if row["present"]]


class TestProperties:
    """Hold for every vector of every kind of space."""

    @given(data=st.data())
    def test_freeze_takes_the_chosen_options(
        self, space: SearchSpace, vectors: Vectors, data: st.DataObject
    ) -> None:
        vector = data.draw(vectors(space))
        frozen = freeze(space, vector)
        assert frozen.is_frozen
        assert [dict(block) for block in frozen.blocks] == chosen_fields(space, vector)
        assert (frozen.resolution, frozen.input_channels) == (
            space.spec.resolution,
            space.spec.input_channels,
        )
        assert search_spaces.macs(frozen) > 0

    @given(data=st.data())
    def test_freeze_is_deterministic_and_a_mapping_is_a_vector(
        self, space: SearchSpace, vectors: Vectors, data: st.DataObject
    ) -> None:
        vector = data.draw(vectors(space))
        mapping = space.mapping(vector)
        assert space.vector(mapping) == vector
        assert freeze(space, vector) == freeze(space, list(vector)) == freeze(space, mapping)

    @given(data=st.data())
    def test_the_network_is_inside_the_space(
        self, space: SearchSpace, vectors: Vectors, data: st.DataObject
    ) -> None:
        vector = data.draw(vectors(space))
        slots = [
            block for block, on in zip(space.spec.blocks, space.present(vector), strict=True) if on
        ]
        for block, slot in zip(freeze(space, vector).blocks, slots, strict=True):
            assert block.kind == slot.kind
            assert all(
                value in options_of(getattr(slot, field)) for field, value in dict(block).items()
            )

    @given(data=st.data())
    def test_equal_canonical_vectors_are_equal_networks(
        self, space: SearchSpace, vectors: Vectors, data: st.DataObject
    ) -> None:
        vector, noise = data.draw(vectors(space)), data.draw(vectors(space))
        canonical = space.canonical(vector)
        assert space.canonical(canonical) == canonical
        other = tuple(
            v if on else n for v, n, on in zip(vector, noise, space.active(vector), strict=True)
        )
        assert space.canonical(other) == canonical
        assert freeze(space, vector) == freeze(space, other) == freeze(space, canonical)

    @given(data=st.data())
    def test_a_decision_is_active_exactly_if_it_changes_the_network(
        self, space: SearchSpace, vectors: Vectors, data: st.DataObject
    ) -> None:
        vector = data.draw(vectors(space))
        frozen = freeze(space, vector)
        for place, (decision, active) in enumerate(
            zip(space.decisions, space.active(vector), strict=True)
        ):
            step = data.draw(st.integers(1, decision.options - 1))
            changed = list(vector)
            changed[place] = (vector[place] + step) % decision.options
            assert (freeze(space, changed) != frozen) == active

    @given(seed=st.integers(0, 2**32 - 1))
    def test_random_vectors_are_valid_and_repeatable(self, space: SearchSpace, seed: int) -> None:
        vector = space.random(random.Random(seed))
        assert vector == space.random(random.Random(seed))
        assert space.vector(space.mapping(vector)) == vector


def test_random_is_uniform_over_the_options(tiny_space: SearchSpace) -> None:
    rng = random.Random(0)
    draws = [tiny_space.random(rng) for _ in range(3000)]
    for place, decision in enumerate(tiny_space.decisions):
        for option in range(decision.options):
            share = sum(vector[place] == option for vector in draws) / len(draws)
            assert share == pytest.approx(
                1 / decision.options, abs=0.04
            )  # over 4 standard deviations


def test_decisions_in_the_order_of_their_first_hole(tiny_space: SearchSpace) -> None:
    rows = [
        (d.name, d.kind, d.options, d.largest, d.blocks, d.gates, d.labels)
        for d in tiny_space.decisions
    ]
    depth_labels = ("2 of 2 optional", "1 of 2 optional", "0 of 2 optional")
    assert rows == [
        ("width", "size", 3, 2, (0, 1, 2, 3, 4, 5), (), ("8", "16", "24")),
        ("expansion", "size", 2, 1, (1,), (), ("2", "3")),
        ("depth", "operator", 3, 0, (), (2, 3), depth_labels),
        ("kernel", "operator", 3, 2, (2,), (), ("0", "3", "5")),
        ("alternative", "operator", 2, 0, (), (4, 5), ("uib", "fused_ib")),
        ("end", "size", 2, 0, (6,), (), ("32", "16")),
    ]
    assert tiny_space.size == 3 * 2 * 3 * 3 * 2 * 2 == 216
    assert [tiny_space.position(row[0]) for row in rows] == list(range(6))
    assert tiny_space.labels((1, 0, 2, 1, 0, 1)) == {
        "width": "16",
        "expansion": "2",
        "depth": "0 of 2 optional",
        "kernel": "3",
        "alternative": "uib",
        "end": "16",
    }


def test_canonical_vectors_count_the_networks(tiny_space: SearchSpace) -> None:
    """The kernel counts only where its block is present, with 2 of 3 depths.

    So there are 3 * 2 * (3 + 3 + 1) * 2 * 2 networks.
    """
    everything = list(itertools.product(*(range(d.options) for d in tiny_space.decisions)))
    networks = {freeze(tiny_space, vector) for vector in everything}
    assert (
        len({tiny_space.canonical(vector) for vector in everything})
        == len(networks)
        == 3 * 2 * 7 * 2 * 2
    )


@pytest.mark.parametrize(("option", "blocks"), [(0, 9 - 1), (1, 9 - 2), (2, 9 - 3)])
def test_depth_is_one_decision(tiny_space: SearchSpace, option: int, blocks: int) -> None:
    """Nine blocks, one of two alternatives always absent."""
    frozen = freeze(tiny_space, (0, 0, option, 0, 0, 0))
    assert len(frozen.blocks) == blocks


@pytest.mark.parametrize(("option", "kind"), [(0, "uib"), (1, "fused_ib")])
def test_opposite_presence_makes_two_blocks_alternatives(
    tiny_space: SearchSpace, option: int, kind: str
) -> None:
    vector = (0, 0, 2, 0, option, 0)
    assert [block.kind for block in freeze(tiny_space, vector).blocks[1:4]] == ["uib", kind, "uib"]
    assert tiny_space.present(vector)[4:6] == (option == 0, option == 1)


def test_a_shared_name_picks_the_option_of_each_hole() -> None:
    space = space_of(Conv(filters=hole("w", 8, 16)), Conv(filters=hole("w", 32, 24)))
    assert len(space.decisions) == 1
    assert [
        [getattr(b, "filters", None) for b in freeze(space, [i]).blocks[:2]] for i in (0, 1)
    ] == [[8, 32], [16, 24]]


def test_a_name_shared_by_presence_and_kernel_gates_and_fills() -> None:
    space = space_of(
        Conv(filters=8),
        UIB(filters=8, present=hole("d", True, False)),
        UIB(filters=8, middle_dw=hole("d", 3, 5)),
    )
    (decision,) = space.decisions
    assert (decision.gates, decision.blocks) == ((1,), (2,))
    assert len(freeze(space, [0]).blocks) == 5 and len(freeze(space, [1]).blocks) == 4


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            (Conv(filters=hole("w", 8, 16)), Conv(filters=hole("w", 8, 16, 24))),
            "holes named 'w' are one decision and need equally many options of one kind, but got "
            "blocks[0].filters (2 options), blocks[1].filters (3 options)",
        ),
        (
            (Conv(filters=hole("w", 8, 16)), UIB(filters=8, start_dw=hole("w", 0, 3))),
            "holes named 'w' are one decision and need equally many options of one kind, but got "
            "blocks[0].filters (2 options), blocks[1].start_dw (2 options)",
        ),
        ((Conv(filters=8),), "space 'net' has nothing to decide: no field is a `one_of`"),
    ],
)
def test_specs_that_are_no_space_are_refused(blocks: tuple[BaseBlock, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        space_of(*blocks)


GOOD = {"width": 0, "expansion": 1, "depth": 0, "kernel": 2, "alternative": 0, "end": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widht": 0}, "space 'tiny' has no decision 'widht'; did you mean 'width'?"),
        ({"zzz": 0}, "space 'tiny' has no decision 'zzz'"),
        ({"kernel": None, "end": None}, "space 'tiny': no option chosen for kernel, end"),
        (
            {"kernel": 3},
            "space 'tiny', decision 'kernel': got option 3, expected 0 to 2 for 0, 3, 5",
        ),
        (
            {"kernel": -1},
            "space 'tiny', decision 'kernel': got option -1, expected 0 to 2 for 0, 3, 5",
        ),
    ],
)
def test_wrong_decisions_are_refused(
    tiny_space: SearchSpace, change: Mapping[str, int | None], message: str
) -> None:
    decisions = {name: option for name, option in {**GOOD, **change}.items() if option is not None}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        freeze(tiny_space, decisions)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ((0,) * 5, "space 'tiny' has 6 decisions, got a vector of 5"),
        ((0, 0, 0, 0, 0, 2), "decision 'end': got option 2"),
    ],
)
def test_wrong_vectors_are_refused(
    tiny_space: SearchSpace, vector: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        freeze(tiny_space, vector)


def test_name_of_the_network(tiny_space: SearchSpace) -> None:
    assert freeze(tiny_space, GOOD).name == "tiny"
    assert freeze(tiny_space, GOOD, name="found-1").name == "found-1"


def test_two_options_that_mean_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decision 'w': two of its options mean the same"):
        space_of(Conv(filters=hole("w", 8, 8)))
