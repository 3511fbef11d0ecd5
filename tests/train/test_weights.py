"""A trained network in files: the same answers, and what a damaged or other folder says."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import search_spaces
from nas.training import weights
from nas.training.training import Trained, train

from .striped import CONFIG, MEAN, SPEC, STD, separable


@pytest.fixture(scope="module")
def briefly() -> Trained:
    return train(SPEC, separable(32, 0), CONFIG, mean=MEAN, std=STD, seed=0)


@pytest.fixture
def saved(briefly: Trained, tmp_path: pathlib.Path) -> pathlib.Path:
    weights.save(briefly, tmp_path / "run")
    return tmp_path / "run"


def test_answers_stay_the_same(briefly: Trained, saved: pathlib.Path) -> None:
    images = separable(20, 1).images
    loaded = weights.load(saved)
    np.testing.assert_array_equal(loaded.predict(images), briefly.predict(images))
    assert (loaded.spec, loaded.config, loaded.mean, loaded.std) == (
        SPEC,
        briefly.config,
        MEAN,
        STD,
    )
    assert weights.read_spec(saved) == SPEC


def test_saving_again_writes_the_same_bytes(briefly: Trained, saved: pathlib.Path) -> None:
    before = (saved / weights.WEIGHTS).read_bytes()
    weights.save(weights.load(saved), saved)
    assert (saved / weights.WEIGHTS).read_bytes() == before


def test_an_empty_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="holds no trained network"):
        weights.load(tmp_path)


def test_a_damaged_file(saved: pathlib.Path) -> None:
    (saved / weights.WEIGHTS).write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"weights.npz: cannot be read"):
        weights.load(saved)


def test_weights_of_another_architecture(saved: pathlib.Path) -> None:
    (saved / weights.ARCHITECTURE).unlink()
    stem = SPEC.blocks[0].model_copy(update={"filters": 16})
    wider = SPEC.with_blocks([stem, *SPEC.blocks[1:]])
    search_spaces.dump(wider, saved / weights.ARCHITECTURE)
    with pytest.raises(
        ValueError,
        match=r"weights.npz: params\['blocks'\]\[0\].*: has \(.*\), architecture.yaml needs",
    ):
        weights.load(saved)


def test_no_pickle(saved: pathlib.Path) -> None:
    np.savez(
        saved / weights.WEIGHTS,
        about=np.array(json.dumps({})),
        x=np.array([None], object),
        allow_pickle=True,
    )
    with pytest.raises(ValueError, match="cannot be read"):
        weights.load(saved)
