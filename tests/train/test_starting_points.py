"""Weights to start from: what fits is taken, and said."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from nas.model.network import split
from nas.training import starting_points
from nas.training.program import build
from search_spaces import with_classes

from .striped import CONFIG, SPEC


def wider(filters: int):
    first, second, *rest = SPEC.blocks
    blocks = [block.model_copy(update={"filters": filters}) for block in (first, second)]
    return SPEC.with_blocks([*blocks, *rest])


def test_of_the_same_network_all_is_taken() -> None:
    params, stats = split(build(SPEC, CONFIG, 7))[1:]
    fitted = starting_points.fit(SPEC, CONFIG, 0, params, stats, "another")
    assert not fitted.part and not fitted.fresh
    jax.tree.map(np.testing.assert_array_equal, fitted.params, params)
    jax.tree.map(np.testing.assert_array_equal, fitted.stats, stats)


@pytest.mark.parametrize("filters", [4, 16])
def test_of_another_width_the_common_part(filters: int) -> None:
    other = wider(filters)
    params, stats = split(build(other, CONFIG, 7))[1:]
    fitted = starting_points.fit(SPEC, CONFIG, 0, params, stats, "another")
    assert fitted.part and not fitted.fresh and "in part (" in str(fitted)
    random = split(build(SPEC, CONFIG, 0))[1]

    def check(new: np.ndarray, old: np.ndarray, fresh: np.ndarray) -> None:
        common = tuple(slice(0, min(sizes)) for sizes in zip(new.shape, old.shape, strict=True))
        np.testing.assert_array_equal(new[common], old[common])
        rest = np.ones(new.shape, bool)
        rest[common] = False
        np.testing.assert_array_equal(new[rest], np.asarray(fresh)[rest])

    jax.tree.map(check, fitted.params, params, random)


def test_another_classifier_is_taken_in_part() -> None:
    params, stats = split(build(with_classes(SPEC, 9), CONFIG, 7))[1:]
    fitted = starting_points.fit(SPEC, CONFIG, 0, params, stats, "another")
    assert len(fitted.part) == 2 and all(
        "3.dense" in name or "blocks.3" in name for name in fitted.part
    )


def test_a_network_without_anything_in_common_is_refused() -> None:
    with pytest.raises(ValueError, match="`init`: no array of another fits tiny"):
        starting_points.fit(SPEC, CONFIG, 0, {"other": np.zeros(3)}, {}, "another")
