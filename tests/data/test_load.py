"""Data sets by name, and data sets of a user's own."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from nas.data import load, sources
from nas.data.collection import ArrayImages, RawDataset
from nas.data.dataset import Dataset, Split
from search_spaces.families import Family


def test_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    toy: Any = types.SimpleNamespace(notes=())
    monkeypatch.setitem(sources.BUILTIN, "toy", lambda: toy)
    assert load.load_dataset("builtin:toy") is toy


@pytest.mark.parametrize(
    ("source", "message"),
    {
        "zip:x": r"data source 'zip:x': expected builtin:\.\.\. or npz:\.\.\. or imagefolder:",
        "distilled:s4://x": r"s4://x: no store is called s4://",
        "fashion-clutter": r"data source 'fashion-clutter': expected builtin:\.\.\. or npz:",
        "": r"data source '': expected",
        "builtin:fashon-clutter": r"no builtin data set 'fashon-clutter'; known: .*; did you mean "
        r"'fashion-clutter'\?",
        "builtin:imagenet": r"no builtin data set 'imagenet'; known: fashion-clutter$",
        "npz:/no/such/file.npz": r"data source npz:/no/such/file\.npz: no such file",
    }.items(),
)
def test_unknown_sources(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load.load_dataset(source)


def test_a_folder_may_have_a_plus_in_its_name() -> None:
    with pytest.raises(ValueError, match=r"/a\+b: ") as caught:  # the folder is not there
        load.load_dataset("imagefolder:/a+b", 8)
    assert "mixture" not in str(caught.value)


def own(name: str = "own", fingerprint: str = "0123456789abcdef" * 4) -> Dataset[Any]:
    split = Split(np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1], np.int32))
    return Dataset(name, ("a", "b"), split, split, split, 0.5, 0.25, fingerprint)


def test_a_data_set_is_returned_unchanged() -> None:
    data = own()
    assert load.load_dataset(data) is data


def test_a_registered_data_set_is_found_by_its_source_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DATASETS", Family("data set", {}))
    data = own("a+b: c")
    source = load.register_dataset(data)
    assert source == "custom:a+b: c@01234567"
    assert load.load_dataset(source) is data and load.load_dataset(source, 8) is data
    equal = own("a+b: c")
    assert load.register_dataset(equal) == source and load.load_dataset(source) is data


def test_another_process_does_not_know_a_registered_data_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "DATASETS", Family("data set", {}))
    message = r"data source 'custom:own@01234567' was given as an object; pass it again"
    with pytest.raises(ValueError, match=message):
        load.load_dataset("custom:own@01234567")


def test_different_data_under_one_source_text_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DATASETS", Family("data set", {}))
    load.register_dataset(own())
    with pytest.raises(ValueError, match=r"'custom:own@01234567': .*different names"):
        load.register_dataset(own(fingerprint="01234567" + "0" * 56))


def test_a_user_can_add_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(rest: str) -> RawDataset:
        pixels = np.full((40, 6, 6, 3), int(rest), np.uint8)
        labels = (np.arange(40) % 2).astype(np.int32)
        return RawDataset("grey", ("a", "b"), {"train": ArrayImages(pixels, labels, "x")}, "0" * 64)

    monkeypatch.setattr(sources.COLLECTIONS, "_members", dict(sources.COLLECTIONS))
    sources.COLLECTIONS.register("grey", opened)
    data = load.load_dataset("grey:7", 4)
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 4, 4)
    assert (data.validation.read(np.array([0])).images == 7).all()
