from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable

import pytest

from search_spaces.families import Family


@dataclasses.dataclass(frozen=True)
class Scale:
    """A member that wraps a plain function, as a reward does."""

    function: Callable[[float], float]


def double(x: float) -> float:
    return 2 * x


def half(x: float) -> float:
    return x / 2


def times(factor: float) -> Callable[[float], float]:
    return lambda x: factor * x


def with_default(x: float, factor: float = 3.0) -> float:
    return factor * x


class Shift:
    """A user's own object that holds a setting and does not say so in its repr."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, x: float) -> float:
        return x + self.by


def as_scale(member: Scale | Callable[[float], float]) -> Scale:
    return member if isinstance(member, Scale) else Scale(member)


@pytest.fixture
def scales() -> Family[Scale]:
    return Family("scale", {"double": Scale(double), "half": Scale(half)}, as_scale)


def test_a_family_is_a_mapping(scales: Family[Scale]) -> None:
    assert scales["half"].function(8) == 4
    assert list(scales) == list(scales.names) == ["double", "half"]
    assert "half" in scales and "third" not in scales and len(scales) == 2
    assert dict(scales.items()) == {"double": Scale(double), "half": Scale(half)}
    assert repr(scales) == "Family('scale': double, half)"
    with pytest.raises(KeyError, match="third"):
        scales["third"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dubble", "no scale called 'dubble'; known: double, half; did you mean 'double'?"),
        ("zzz", "no scale called 'zzz'; known: double, half"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    scales: Family[Scale], name: str, message: str
) -> None:
    for look_up in (scales.get, scales.name_of):
        with pytest.raises(ValueError) as caught:
            look_up(name)
        assert str(caught.value) == message


def test_a_registered_member_is_one_of_the_family(scales: Family[Scale]) -> None:
    third = Scale(lambda x: x / 3)
    scales.register("third", third)
    scales.register("third", third)
    assert scales.get("third") is third and scales.names == ("double", "half", "third")
    assert scales.customs() == {}


def test_a_name_that_is_taken_is_refused(scales: Family[Scale]) -> None:
    scales.register("half", Scale(half))  # the same again
    with pytest.raises(ValueError, match="^scale 'half': the name is taken; choose another name$"):
        scales.register("half", Scale(double))


def test_an_own_member_can_be_removed_and_a_shipped_one_cannot(scales: Family[Scale]) -> None:
    scales.register("third", Scale(half))
    own = scales.name_of(Scale(times(2.0)))
    for name in ("third", own):
        scales.remove(name)
    assert scales.names == ("double", "half") and scales.customs() == {}
    with pytest.raises(ValueError, match="^scale 'half': is a shipped one and cannot be removed$"):
        scales.remove("half")
    with pytest.raises(ValueError, match="no scale called 'third'"):
        scales.remove("third")


def test_names_and_members_of_the_family_keep_their_names(scales: Family[Scale]) -> None:
    assert scales.name_of("half") == "half"
    assert scales.name_of(scales["half"]) == "half"
    assert scales.name_of(half) == "half"
    assert scales.customs() == {}


def test_the_name_of_an_own_function_is_made_of_its_source(scales: Family[Scale]) -> None:
    def third(x: float) -> float:
        return x / 3

    digest = hashlib.sha256(inspect.getsource(third).encode()).hexdigest()[:8]
    name = scales.name_of(third)
    assert name == f"custom:{third.__qualname__}@{digest}"
    assert name.split("@")[0].endswith(".third")
    assert scales[name] == Scale(third) and scales.customs() == {name: Scale(third)}
    assert scales.name_of(third) == scales.name_of(name) == name and len(scales) == 3


def test_changed_code_has_another_name(scales: Family[Scale]) -> None:
    def version(number: int) -> Callable[[float], float]:
        if number == 1:

            def scale(x: float) -> float:
                return x / 3
        else:

            def scale(x: float) -> float:
                return x / 4

        return scale

    names = [scales.name_of(version(number)) for number in (1, 2, 1)]
    assert names[0] == names[2] != names[1]
    assert names[0].split("@")[0] == names[1].split("@")[0]


@pytest.mark.parametrize(
    "make",
    [times, Shift, lambda factor: functools.partial(with_default, factor=factor)],
)
def test_settings_that_the_source_does_not_show_are_part_of_the_name(
    scales: Family[Scale], make: Callable[[float], Callable[[float], float]]
) -> None:
    names = [scales.name_of(make(by)) for by in (1.0, 2.0, 1.0)]
    assert names[0] == names[2] != names[1]
    assert scales[names[1]].function(3.0) == make(2.0)(3.0)


def test_a_members_name_does_not_depend_on_where_it_lies_in_memory(scales: Family[Scale]) -> None:
    assert scales.name_of(Scale(times(2.0))) == scales.name_of(Scale(times(2.0)))
    assert scales.name_of(Scale(times(2.0))).startswith("custom:Scale@")


def test_code_without_source_is_named_by_its_text(scales: Family[Scale]) -> None:
    (name,) = {scales.name_of(abs), scales.name_of(abs)}
    assert name == f"custom:abs@{hashlib.sha256(repr(abs).encode()).hexdigest()[:8]}"


def test_a_function_that_holds_itself_has_a_name(scales: Family[Scale]) -> None:
    def halve_down(x: float) -> float:
        return x if x < 1 else halve_down(x / 2)

    assert scales.name_of(halve_down) == scales.name_of(halve_down)


def test_without_a_conversion_the_object_is_the_member() -> None:
    family: Family[Callable[[float], float]] = Family("function", {"double": double})
    name = family.name_of(half)
    assert family[name] is half and family.name_of(double) == "double"
