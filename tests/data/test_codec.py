"""Images are decoded to RGB, or refused by name."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from nas.data import codec


def test_grey_and_palette_become_rgb() -> None:
    for mode in ("L", "P", "RGBA", "1"):
        file = io.BytesIO()
        Image.new(mode, (5, 4)).save(file, "PNG")
        image = codec.decode(file.getvalue(), "here")
        assert (image.mode, image.size) == ("RGB", (5, 4))


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 cut"])
def test_bad_bytes_are_named(data: bytes) -> None:
    with pytest.raises(codec.BadImage, match="some/file.jpg: cannot be decoded"):
        codec.decode(data, "some/file.jpg")


def test_a_cut_file_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(codec.encode(Image.effect_noise((64, 64), 50).convert("RGB"), 90)[:-400])
    with pytest.raises(codec.BadImage, match="cut.jpg: cannot be decoded"):
        codec.decode(path, str(path))


def test_a_huge_image_is_refused_before_it_is_decoded() -> None:
    file = io.BytesIO()
    Image.new("1", (20_000, 4_200)).save(file, "PNG")
    with pytest.raises(codec.BadImage, match="20000 x 4200 pixels"):
        codec.decode(file.getvalue(), "bomb.png")


def test_encoding_repeats_and_stays_close() -> None:
    pixels = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (1, 32, 3))
    data = codec.encode(codec.from_array(pixels), 95)
    assert data == codec.encode(codec.from_array(pixels), 95)
    assert np.abs(codec.to_array(codec.decode(data, "")).astype(int) - pixels).max() < 6
