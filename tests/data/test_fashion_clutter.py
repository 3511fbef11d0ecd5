"""Fashion in clutter: the embedded files and the cache of the rendered scenes."""

from __future__ import annotations

import logging
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from nas.data import clutter_scenes, dataset, fashion_clutter
from nas.host import cache


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dataset.Dataset:
    """The real data, rendered once."""
    return fashion_clutter.load(tmp_path_factory.mktemp("cache"))


def test_embedded_data_have_the_stated_sizes_and_classes(embedded: dataset.Dataset) -> None:
    for split, count in {"train": 16000, "validation": 4000, "test": 5000}.items():
        read = embedded.splits()[split]
        assert read.images.shape == (count, 32, 32, 3)
        assert np.bincount(read.labels).tolist() == [count // 10] * 10
    assert embedded.test.soft_labels is None


GOLDEN_MOMENTS = [
    ("train", 84.117, 52.57),
    ("validation", 81.656, 53.458),
    ("test", 85.378, 51.908),
]


def test_embedded_scenes_look_as_they_did(embedded: dataset.Dataset) -> None:
    """The bounds allow for a last bit, not for another recipe.

    Source: computed by us, NumPy 2.4.6, x86-64.
    """
    for split, mean, std in GOLDEN_MOMENTS:
        images = embedded.splits()[split].images[:200].astype(np.float64)
        assert images.mean() == pytest.approx(mean, abs=0.01)
        assert images.std() == pytest.approx(std, abs=0.01)


def test_loaded_scenes_replay_from_their_seeds(embedded: dataset.Dataset) -> None:
    items = fashion_clutter.read_items(fashion_clutter.EMBEDDED)[
        fashion_clutter.item_slice("validation")
    ]
    chosen = np.array([0, 1, 3999])
    seeds = fashion_clutter.scene_seeds("validation", 4000)[chosen]
    assert (
        clutter_scenes.render(items, chosen // 2, seeds) == embedded.validation.images[chosen]
    ).all()


def test_no_item_lies_in_two_splits() -> None:
    items = fashion_clutter.read_items(fashion_clutter.EMBEDDED)
    splits = [
        {item.tobytes() for item in items[fashion_clutter.item_slice(split)]}
        for split in fashion_clutter.ITEMS
    ]
    assert sum(len(split) for split in splits) == len(set.union(*splits)) == 15000


def test_embedded_size_and_licence() -> None:
    files = list(fashion_clutter.EMBEDDED.iterdir())
    assert sum(file.stat().st_size for file in files) <= 7_000_000
    assert "Zalando SE" in (fashion_clutter.EMBEDDED / "LICENSE.fashion-mnist").read_text(
        encoding="utf-8"
    )


def test_manifest_agrees_with_the_code() -> None:
    manifest = fashion_clutter.read_manifest(fashion_clutter.EMBEDDED)
    assert manifest["items"] == fashion_clutter.ITEMS
    assert manifest["scenes_per_item"] == fashion_clutter.SCENES_PER_ITEM
    assert manifest["split_numbers"] == fashion_clutter.SPLIT_NUMBERS
    assert manifest["seed_rule"] == fashion_clutter.SEED_RULE
    assert f"the first {clutter_scenes.WORDS} words" in manifest["seed_rule"]
    assert manifest["dataset_seed"] == fashion_clutter.DATASET_SEED
    assert tuple(manifest["classes"]) == fashion_clutter.CLASS_NAMES
    assert manifest["normalisation"] == {"mean": fashion_clutter.MEAN, "std": fashion_clutter.STD}


def test_import_needs_no_jax() -> None:
    code = "import sys, nas.data.fashion_clutter; print({'jax', 'scipy', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_cache_is_written_once_and_then_read(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "deep" / "cache"
    built = fashion_clutter.load(cache, folder)
    (file,) = cache.iterdir()
    assert file.name == f"fashion_clutter-{built.fingerprint[:16]}.npz"
    monkeypatch.delattr(fashion_clutter, "_render_all")
    again = fashion_clutter.load(cache, folder)
    assert again.fingerprint == built.fingerprint
    for name, split in built.splits().items():
        assert (again.splits()[name].images == split.images).all()
        assert (again.splits()[name].labels == split.labels).all()


@pytest.mark.parametrize("damage", ["one byte", "cut", "empty", "text", "other data", "folder"])
def test_damaged_cache_is_built_again(
    damage: str, folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = fashion_clutter.load(tmp_path, folder)
    file = next(tmp_path.glob("*.npz"))
    good = file.read_bytes()
    if damage == "one byte":
        middle = len(good) // 2
        file.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    elif damage == "cut":
        file.write_bytes(good[:-1000])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "text":
        file.write_bytes(b"not a zip file")
    elif damage == "other data":
        images = {name: split.images * 0 for name, split in built.splits().items()}
        fashion_clutter._write_cache(file, "f" * 64, images)
    else:
        file.unlink()
        (file / "inside").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        again = fashion_clutter.load(tmp_path, folder)
    assert "cache" in caplog.text
    assert (again.train.images == built.train.images).all()
    if damage != "folder":
        assert fashion_clutter._read_cache(file, built.fingerprint) is not None
    assert not list(tmp_path.glob(".*.tmp"))


def test_unwritable_cache_only_warns(
    folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text(
        "in the way"
    )  # permissions would not stop a test that runs as root
    with caplog.at_level(logging.WARNING):
        data = fashion_clutter.load(tmp_path / "file" / "cache", folder)
    assert len(data.train) == 160
    assert "cannot write the cache" in caplog.text and "MNV4_NAS_CACHE" in caplog.text


def test_cache_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MNV4_NAS_CACHE", raising=False)
    assert cache.folder() == pathlib.Path("/home/someone/.cache/mnv4-nas")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.folder() == pathlib.Path("/xdg/mnv4-nas")
    monkeypatch.setenv("MNV4_NAS_CACHE", "/own")
    assert cache.folder() == pathlib.Path("/own")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.xz", b"other", r"items\.xz: got sha256 .*reinstall"),
        ("labels.npy", None, r"labels\.npy: cannot be read"),
        ("manifest.yaml", None, r"manifest\.yaml: cannot be read .*reinstall"),
        ("manifest.yaml", b"[]", r"manifest\.yaml: cannot be read"),
        ("manifest.yaml", b"recipe_version: 99\nfiles: {}", r"recipe_version: got 99, expected 1"),
        ("manifest.yaml", b"recipe_version: 1\nfiles: {}", r"files: got \[\], expected items\.xz"),
    ],
)
def test_damaged_embedded_files_are_named(
    name: str, content: bytes | None, message: str, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        fashion_clutter.load(tmp_path, folder)
