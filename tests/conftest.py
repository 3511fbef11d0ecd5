"""Shared by all tests: the hypothesis profile, and the search spaces that the batteries run on."""

from __future__ import annotations

import functools
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import strategies as st

import search_spaces
from search_spaces import ArchSpec, CoarseOptions, SearchSpace, yaml_io

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25, database=None)
hypothesis.settings.load_profile("repeatable")


def _small() -> ArchSpec:
    return search_spaces.base("small-32")


_SPACES: dict[str, Callable[[], SearchSpace]] = {
    "coarse-by-stage": lambda: search_spaces.coarse_space(_small()),
    "coarse-by-block": lambda: search_spaces.coarse_space(
        _small(), CoarseOptions(filters_by="block", expansions=(2.0, 3.0, 4.0), min_depth=2)
    ),
    "coarse-expansion-by-stage": lambda: search_spaces.coarse_space(
        _small(), CoarseOptions(expansions=(2.0, 4.0), expansion_by="stage", min_depth=None)
    ),
    "fine": lambda: search_spaces.fine_space(_small()),
    "one-stage": lambda: search_spaces.one_stage_space(_small(), CoarseOptions(expansions=(2.0, 4.0))),
}


@functools.cache
def _space(name: str) -> SearchSpace:
    return _SPACES[name]()


@pytest.fixture(scope="session")
def small_32() -> ArchSpec:
    """The shipped base `small-32`."""
    return _small()


@pytest.fixture(scope="session", params=sorted(_SPACES))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    """Each kind of search space of `small-32`."""
    return _space(request.param)


@pytest.fixture(scope="session")
def vectors() -> Callable[[SearchSpace], st.SearchStrategy[tuple[int, ...]]]:
    """Strategy of the decision vectors of a space."""
    return lambda space: st.tuples(*(st.integers(0, decision.options - 1) for decision in space.decisions))


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    """216 vectors: a shared width, expansions, kernels, a depth, and two alternative blocks of opposite presence."""
    text = """
name: tiny
resolution: 9
blocks:
- {kind: conv, filters: {one_of: [8, 16, 24], name: width}, stride: 2}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width}, expansion: {one_of: [2.0, 3.0], name: expansion}}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width}, start_dw: {one_of: [0, 3, 5], name: kernel},
   present: {one_of: [true, true, false], name: depth}}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width}, present: {one_of: [true, false, false], name: depth}}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width}, middle_dw: 5,
   present: {one_of: [true, false], name: alternative}}
- {kind: fused_ib, filters: {one_of: [8, 16, 24], name: width}, expansion: 2.0,
   present: {one_of: [false, true], name: alternative}}
- {kind: uib, filters: {one_of: [32, 16], name: end}, stride: 2}
- {kind: pool}
- {kind: classifier, classes: 3}
"""
    return SearchSpace(yaml_io.parse_model(text, ArchSpec, "tiny"))
