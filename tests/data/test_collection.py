"""Parts that a source lacks are held out; images are opened, or refused, with their place."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from nas.data import collection, images
from nas.data.collection import ArrayImages, Collection, Images


def some(count: int) -> ArrayImages:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return ArrayImages(pixels, (np.arange(count) % 3).astype(np.int32), "array")


def with_parts(**counts: int) -> Collection:
    parts: dict[str, Images] = {part: some(count) for part, count in counts.items()}
    return Collection("toy", ("a", "b", "c"), parts, "0" * 64)


def shown(part: Images) -> set[int]:
    return {int(np.asarray(part.open(i))[0, 0, 0]) for i in range(len(part))}


def test_all_three_stay_as_they_are() -> None:
    given = with_parts(train=9, validation=3, test=3)
    assert collection.with_all_parts(given, 0.2).parts == given.parts


@pytest.mark.parametrize("other", ["validation", "test"])
def test_a_published_part_becomes_the_test(other: str) -> None:
    given = with_parts(**{"train": 60, other: 6})
    made = collection.with_all_parts(given, 0.2).parts
    assert made["test"] is given.parts[other]
    assert (len(made["train"]), len(made["validation"])) == (48, 12)
    assert shown(made["train"]) | shown(made["validation"]) == set(range(60))
    assert not shown(made["train"]) & shown(made["validation"])


def test_train_alone_gives_both_class_by_class_and_always_the_same() -> None:
    first, again, other = (collection.with_all_parts(with_parts(train=60), 0.2, seed).parts for seed in (0, 0, 1))
    for part in ("validation", "test"):
        counts = np.bincount(first[part].labels)
        assert counts.min() == counts.max()
        assert shown(first[part]) == shown(again[part]) != shown(other[part])
    assert sum(len(part) for part in first.values()) == 60


def test_too_few_images_of_a_class() -> None:
    with pytest.raises(ValueError, match="toy: class 'a' has too few images"):
        collection.with_all_parts(with_parts(train=3), 0.5)


@pytest.mark.parametrize("parts", [{}, {"validation": 3}])
def test_needs_training_images(parts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected train among them"):
        with_parts(**parts)


class TestCodec:
    def test_grey_and_palette_become_rgb(self) -> None:
        for mode in ("L", "P", "RGBA", "1"):
            file = io.BytesIO()
            Image.new(mode, (5, 4)).save(file, "PNG")
            image = images.decode(file.getvalue(), "here")
            assert (image.mode, image.size) == ("RGB", (5, 4))

    @pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 cut"])
    def test_bad_bytes_are_named(self, data: bytes) -> None:
        with pytest.raises(images.BadImage, match="some/file.jpg: cannot be decoded"):
            images.decode(data, "some/file.jpg")

    def test_a_cut_file_is_named(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "cut.jpg"
        path.write_bytes(images.encode(Image.effect_noise((64, 64), 50).convert("RGB"), 90)[:-400])
        with pytest.raises(images.BadImage, match="cut.jpg: cannot be decoded"):
            images.decode(path, str(path))

    def test_a_huge_image_is_refused_before_it_is_decoded(self) -> None:
        file = io.BytesIO()
        Image.new("1", (20_000, 4_200)).save(file, "PNG")
        with pytest.raises(images.BadImage, match="20000 x 4200 pixels"):
            images.decode(file.getvalue(), "bomb.png")

    def test_encoding_repeats_and_stays_close(self) -> None:
        pixels = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (1, 32, 3))
        data = images.encode(images.from_array(pixels), 95)
        assert data == images.encode(images.from_array(pixels), 95)
        assert np.abs(images.to_array(images.decode(data, "")).astype(int) - pixels).max() < 6
