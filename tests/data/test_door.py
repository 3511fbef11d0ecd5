"""Broken, deep, turned and repeated images: left out, refused, turned upright, noted."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.data import codec, door, load, photos, survey
from nas.data.collection import FileImages
from nas.data.headers import read
from nas.data.sources.image_folder import open_folder


def save(path: pathlib.Path, seed: int, **options: Any) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two classes of 60 JPEGs each."""
    for label, name in enumerate(("cats", "dogs")):
        for i in range(60):
            save(tmp_path / "photos" / name / f"{i:02}.jpg", 100 * label + i)
    return tmp_path / "photos"


def cut(path: pathlib.Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def test_a_broken_image_is_left_out_of_a_search(folder: pathlib.Path) -> None:
    before = load.load_dataset(f"imagefolder:{folder}", 16)
    cut(folder / "dogs" / "59.jpg")
    data = load.load_dataset(f"imagefolder:{folder}", 16)
    assert sum(map(len, data.splits().values())) == 119
    assert any("1 of 120 images cannot be read" in note for note in data.notes)
    assert data.fingerprint != before.fingerprint and not before.notes


@pytest.mark.parametrize("damage", ["cut", "empty", "page", "zeros"])
def test_more_than_the_limit_is_refused(damage: str, folder: pathlib.Path) -> None:
    for i in (3, 7):
        path = folder / "dogs" / f"{i:02}.jpg"
        whole = path.read_bytes()
        half = whole[: len(whole) // 2]
        path.write_bytes(
            {"cut": half, "empty": b"", "page": b"<html>", "zeros": half + bytes(len(half))}[damage]
        )
    message = r"2 of 120 images cannot be read, expected at most 1 .*dogs/03.jpg.*unreadable=2%"
    with pytest.raises(ValueError, match=message):
        load.load_dataset(f"imagefolder:{folder}", 16)
    assert len(load.load_dataset(f"imagefolder:{folder}?unreadable=2%", 16).train) < 118


def test_what_only_decoding_shows_is_replaced_and_counted(folder: pathlib.Path) -> None:
    raw = open_folder(str(folder))
    cut(folder / "cats" / "05.jpg")
    split = photos.PhotoSplit(raw.splits["train"], 16, augment=False)
    examples = split.read(np.array([5, 6]))
    assert (examples.images[0] == examples.images[1]).all()
    cut(folder / "cats" / "09.jpg")
    with pytest.raises(photos.TooManyUnreadable, match="2 of 120 images of a split"):
        split.read(np.array([9]))


def test_sixteen_bits_are_scaled_or_refused(tmp_path: pathlib.Path) -> None:
    ramp = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(ramp).save(tmp_path / name / "1.png")
    raw = open_folder(str(tmp_path))
    decoded = np.asarray(raw.splits["train"].open(0))
    np.testing.assert_array_equal(decoded[..., 0], ramp >> 8)
    assert "the upper 8 are used: 2" in door.notes(raw)[0]
    for name in ("a", "b"):
        Image.fromarray(ramp // 16).save(tmp_path / name / "1.png")
    with pytest.raises(ValueError, match=r"no value of a sample is above 4095 \(12 bits\).*by 16"):
        door.check(open_folder(str(tmp_path)))


def test_floating_point_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(codec.BadImage, match="floating-point numbers of unknown range"):
        codec.decode(path, "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation: int, tmp_path: pathlib.Path) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", 0, exif=exif)
    with Image.open(path) as stored:
        expected, plain = ImageOps.exif_transpose(stored), np.asarray(stored)
    np.testing.assert_array_equal(np.asarray(codec.decode(path, "")), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(codec.decode(path, "", upright=False)), plain)
    assert read(str(path)).orientation == orientation


def test_headers_are_those_of_pillow(tmp_path: pathlib.Path) -> None:
    for mode, name in (
        ("RGB", "a.jpg"), ("L", "b.jpg"), ("CMYK", "c.jpg"), ("RGBA", "d.png"), ("P", "e.png"),
        ("1", "f.png"), ("LA", "g.png"), ("RGB", "h.bmp"), ("RGB", "i.webp"), ("RGB", "j.tif"),
    ):  # fmt: skip
        path = tmp_path / name
        Image.new(mode, (7, 5)).save(path)
        found = read(str(path))
        with Image.open(path) as image:
            assert found[:3] == (7, 5, f"{image.format} {image.mode}")
        assert found.is_whole and found == read(path.read_bytes())
        cut(path, 0.7)
        assert not read(str(path)).is_whole or found.digest != read(str(path)).digest


def test_leaks_between_splits_and_classes_are_noted(tmp_path: pathlib.Path) -> None:
    for split, name, seed in (
        ("train", "a", 0), ("train", "b", 1), ("test", "a", 0), ("test", "b", 0),
    ):  # fmt: skip
        save(tmp_path / split / name / "1.png", seed)
    notes = " ".join(door.notes(open_folder(str(tmp_path))))
    assert "1 image lies in train and test: a leak" in notes.replace(
        "test and train", "train and test"
    )
    assert "1 image lies in several classes" in notes


def test_a_sample_covers_a_sorted_source() -> None:
    for count in (300, 511, 5000):
        chosen = survey.sample(count, 256, 0)
        assert len(set(chosen.tolist())) == 256 and abs((chosen < count / 2).mean() - 0.5) < 0.1


def test_mean_and_deviation_of_a_sorted_folder(tmp_path: pathlib.Path) -> None:
    """520 images, the first class dark and the second light."""
    for name, value in (("dark", 20), ("light", 220)):
        (tmp_path / name).mkdir()
        for i in range(260):
            Image.new("RGB", (4, 4), (value, value, value)).save(tmp_path / name / f"{i}.bmp")
    data = load.load_dataset(f"imagefolder:{tmp_path}", 4)
    assert abs(data.mean - 120 / 255) < 0.05 and abs(data.std - 100 / 255) < 0.02


def test_a_large_survey_is_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV4_NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(survey, "_CACHED", 2)
    paths = [str(save(tmp_path / f"{i}.png", i)) for i in range(3)]
    images = FileImages(paths, np.zeros(3, np.int32), stamp="s")
    first = survey.survey(images)
    pathlib.Path(paths[0]).unlink()
    again = survey.survey(images)
    assert first and again and first.kinds == again.kinds and not again.unreadable
    np.testing.assert_array_equal(first.digest, again.digest)
