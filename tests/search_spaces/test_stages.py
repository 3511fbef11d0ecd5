from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import pydantic
import pytest

import search_spaces
from search_spaces import STAGES, ArchSpec, SearchSpace, Stage
from search_spaces.frozen import FrozenModel
from search_spaces.naming import space_name
from search_spaces.stages import OPTIONS, chain, stage_seed

TABLE = [  # stage, stage before it, option groups, default steps, all stages up to it
    ("coarse", None, ("coarse",), 2000, ("coarse",)),
    ("fine", "coarse", ("fine",), 2000, ("coarse", "fine")),
    ("hybrid", "fine", ("hybrid",), 2000, ("coarse", "fine", "hybrid")),
    ("one-stage", None, ("coarse", "fine"), 4000, ("one-stage",)),
]


class WidthOptions(FrozenModel):
    """Options of a stage of a user's own."""

    multipliers: tuple[float, ...] = (0.5, 1.0)


def width_space(spec: ArchSpec, options: WidthOptions | None = None) -> SearchSpace:
    options = options or WidthOptions()
    coarse = search_spaces.CoarseOptions(multipliers=options.multipliers, min_depth=None)
    space = search_spaces.coarse_space(spec, coarse)
    named = space.spec.model_copy(update={"name": space_name(spec.name, "width", "fine")})
    return SearchSpace(named)


OWN = Stage("width", "fine", width_space, ("width",), 500, {"width": WidthOptions})


@pytest.fixture
def own_stage() -> Iterator[Stage]:
    """A fifth stage, behind the fine one."""
    STAGES.register(OWN.name, OWN)
    yield OWN
    STAGES.remove(OWN.name)


def test_every_shipped_stage_has_a_row_in_this_order() -> None:
    assert STAGES.names == tuple(row[0] for row in TABLE)
    assert all(name == stage.name for name, stage in STAGES.items())


@pytest.mark.parametrize(("name", "after", "options", "steps", "stages"), TABLE)
def test_a_row(
    name: str, after: str | None, options: tuple[str, ...], steps: int, stages: tuple[str, ...]
) -> None:
    stage = STAGES.get(name)
    assert (stage.after, stage.options, stage.steps) == (after, options, steps)
    assert chain(name) == stages
    names = list(STAGES)
    assert after is None or names.index(after) < names.index(name)


@pytest.mark.parametrize("name", STAGES)
def test_the_options_of_a_stage_are_what_its_space_takes(name: str, small_32: ArchSpec) -> None:
    stage = STAGES[name]
    models = [stage.options_model(group) for group in stage.options]
    assert models == [OPTIONS[group] for group in stage.options]
    space = stage.space(small_32, *(model() for model in models))
    assert space == stage.space(small_32) and space.name == f"small-32-{name}"


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31 - 1])
def test_seeds_of_the_shipped_stages_in_closed_form(seed: int) -> None:
    """Finished runs of older versions have these seeds."""
    got = [stage_seed(row[0], seed) for row in TABLE]
    assert got == [4 * seed, 4 * seed + 1, 4 * seed + 2, 4 * seed + 3]


def test_the_seed_of_another_stage_in_closed_form() -> None:
    digest = hashlib.sha256(b"width 3").digest()
    assert stage_seed("width", 3) == int.from_bytes(digest[-4:], "big") % 2**31
    seeds = {stage_seed("width", seed) for seed in range(100)}
    assert len(seeds) == 100 and all(0 <= seed < 2**31 for seed in seeds)
    assert stage_seed("width", 3) != stage_seed("depth", 3)


def test_a_fifth_stage_changes_no_seed(request: pytest.FixtureRequest) -> None:
    before = {name: stage_seed(name, 1) for name in (*STAGES, "width", "other")}
    request.getfixturevalue("own_stage")
    assert "width" in STAGES
    assert {name: stage_seed(name, 1) for name in before} == before


def test_an_own_stage_with_options_of_its_own(own_stage: Stage, small_32: ArchSpec) -> None:
    assert chain("width") == ("coarse", "fine", "width")
    model = own_stage.options_model("width")
    assert model is WidthOptions
    options = model.model_validate({"multipliers": [0.5, 1.0, 2.0]})
    space = own_stage.space(small_32, options)
    assert space.name == "small-32-width"
    assert {decision.options for decision in space.decisions} == {3}
    with pytest.raises(pydantic.ValidationError, match="multiplier"):
        model.model_validate({"multiplier": [1.0]})


def test_an_option_group_without_a_model_is_refused() -> None:
    stage = dataclasses.replace(OWN, options_models={})
    assert stage.options_model("fine") is search_spaces.FineOptions
    message = "^stage 'width', options: no model of 'width'; add it to options_models$"
    with pytest.raises(ValueError, match=message):
        stage.options_model("width")


def test_a_chain_of_unknown_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="no stage called 'corse'; .*; did you mean 'coarse'"):
        chain("corse")


def test_a_stage_that_starts_from_itself_is_refused() -> None:
    for name, after in (("first", "second"), ("second", "first")):
        STAGES.register(name, dataclasses.replace(OWN, name=name, after=after))
    try:
        with pytest.raises(
            ValueError, match="^stage 'first': starts from itself, through first, second$"
        ):
            chain("first")
    finally:
        STAGES.remove("first")
        STAGES.remove("second")
