from __future__ import annotations

import pydantic
import pytest

from search_spaces.naming import Name, did_you_mean, nearest, space_name


@pytest.mark.parametrize("name", ["a", "mnv4-conv-s", "1.5_x", "A.b-c_d"])
def test_names_that_are_safe_as_file_names(name: str) -> None:
    assert pydantic.TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "a b", "../up", "-x", ".x", "a/b", "ä"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="should match pattern"):
        pydantic.TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize(
    ("name", "known", "cutoff", "near"),
    [
        ("smal-32", ("small-32", "small-64"), 0.6, "small-32"),
        ("zzz", ("small-32",), 0.6, None),
        ("x", (), 0.6, None),
        ("abxx", ("ab",), 0.6, "ab"),
        ("abxxx", ("ab",), 0.6, None),
        ("abxxx", ("ab",), 0.5, "ab"),
    ],
)
def test_the_nearest_name(name: str, known: tuple[str, ...], cutoff: float, near: str) -> None:
    """Similarity is 2 * matching letters / all letters: 4 / 6 for "abxx" and "ab", 4 / 7 beyond."""
    assert nearest(name, iter(known), cutoff=cutoff) == near
    hint = f"; did you mean '{near}'?" if near else ""
    assert did_you_mean(name, iter(known), cutoff=cutoff) == hint


@pytest.mark.parametrize(
    ("spec", "stage", "after", "name"),
    [
        ("small-32", "coarse", None, "small-32-coarse"),
        ("small-32-coarse", "fine", "coarse", "small-32-fine"),
        ("small-32", "fine", "coarse", "small-32-fine"),
        ("small-32-fine", "coarse", None, "small-32-fine-coarse"),
    ],
)
def test_a_space_is_named_after_its_base_and_stage(
    spec: str, stage: str, after: str | None, name: str
) -> None:
    assert space_name(spec, stage, after) == name
