"""A look at a messy folder: text, page and sheet; names are shown as they are."""

from __future__ import annotations

import html
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

import nas
from nas.cli import data, distil
from nas.report import plots

NAMES = ("from_$5_to_$10", "<b>cats & dogs", "猫 café")


@pytest.fixture
def messy(tmp_path: pathlib.Path) -> pathlib.Path:
    """Splits in capitals, odd names, a leak, a turned and a broken image, files of a Mac."""
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    for split, count in (("Train", 12), ("TEST", 4)):
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
                exif = Image.Exif()
                exif[0x0112] = 6 if i == 0 else 1
                Image.fromarray(pixels).save(
                    root / split / name / f"{i}.jpg", exif=exif, quality=95, subsampling=0
                )
    first = root / "Train" / NAMES[0] / "1.jpg"
    (root / "TEST" / NAMES[0] / "same.jpg").write_bytes(first.read_bytes())
    broken = root / "Train" / NAMES[1] / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    for path in ("__MACOSX/._1.jpg", "Train/a.heic"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def test_a_look_at_a_messy_folder(
    messy: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, sheet = tmp_path / "look.html", tmp_path / "look.png"
    arguments = ["look", f"imagefolder:{messy}", "--size", "16"]
    data.main([*arguments, "--html", str(page), "--sheet", str(sheet)])
    shown, text = capsys.readouterr().out, page.read_text(encoding="utf-8")
    for line in (
        "photos: 49 images, 3 classes; test 13, train 36",
        "folders are read as splits: TEST as test, Train as train",
        "1 in folders of macOS (__MACOSX)",
        "1 .heic files",
        "1 of 49 images cannot be read and are left out",
        "1 image lies in test and train: a leak",
        "EXIF orientation: 6 images are stored turned",
        "balance: 12 to 12 training images a class",
    ):
        assert line in shown and (html.escape(line) in text or line.startswith("1 ")), line
    for name in NAMES:
        assert name in shown and html.escape(name) in text
    assert "<b>cats" not in text
    with Image.open(io.BytesIO(sheet.read_bytes())) as image:
        assert image.width == 8 * 136


def test_the_look_counts_classes_and_measures_pixels(messy: pathlib.Path) -> None:
    facts = nas.look(f"imagefolder:{messy}").facts
    assert facts.class_names == tuple(sorted(NAMES))
    assert facts.counts["train"].tolist() == [12, 12, 12]
    # 35 images of uniform noise: mean 1/2, variance 1/12.
    assert facts.sampled == 35 and abs(facts.mean - 0.5) < 0.01
    assert abs(facts.deviation - (1 / 12) ** 0.5) < 0.03


@pytest.mark.parametrize("option", ["--html", "--sheet"])
def test_files_of_a_look_lie_outside(
    option: str, messy: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        data.main(["look", f"imagefolder:{messy}", option, str(messy / "cats" / "x")])
    assert f"nas-data: error: {option} {messy}" in capsys.readouterr().err


def test_a_dry_run_of_a_distillation_begins_with_the_look(
    messy: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    distil.main(["--source", f"imagefolder:{messy}", "--out", str(out), "--dry-run"])
    assert capsys.readouterr().out.startswith("photos: 49 images, 3 classes") and not out.exists()


def test_names_are_no_mathematics_in_plots() -> None:
    figure, axes = plots.panels()
    axes.set_yticks([0, 1, 2], [r"from_$5_to_$10", r"$\frac", "a_$20_"])
    axes.annotate("$x^", (0, 0))
    drawn = plots.text(figure)
    assert drawn.startswith("<?xml") and drawn == plots.text(figure)


def test_letters_that_the_font_lacks_are_left_to_the_reader() -> None:
    figure, axes = plots.panels()
    axes.set_xlabel("猫")
    assert ">猫<" in plots.text(figure)
