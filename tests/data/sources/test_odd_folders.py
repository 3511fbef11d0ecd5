"""Folders as people bring them: understood with a note, counted as left out, or refused."""

from __future__ import annotations

import pathlib
import unicodedata

import pytest
from PIL import Image

from nas.data import door
from nas.data.collection import RawDataset
from nas.data.sources import folder_names
from nas.data.sources.image_folder import check_outside, open_folder

from .test_image_folder import fill


def cats_and_dogs(root: pathlib.Path, *above: str) -> pathlib.Path:
    """Two images of each class, in each of the folders above them."""
    for folder in above or (".",):
        fill(root, *(f"{folder}/{name}/{i}.png" for name in ("cats", "dogs") for i in range(2)))
    return root


def left_out(raw: RawDataset) -> dict[str, int]:
    return {item.reason: item.count for item in raw.left_out}


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("Train", "Test"), ["test", "train"]),
        (("TRAIN", "TEST"), ["test", "train"]),
        (("training", "testing"), ["test", "train"]),
        (("train", "Valid"), ["train", "validation"]),
        (("train_set", "test-set", "01_val"), ["test", "train", "validation"]),
        (("trainset", "testdata"), ["test", "train"]),
    ],
)
def test_near_misses_of_splits_are_noted(
    folders: tuple[str, ...], splits: list[str], tmp_path: pathlib.Path
) -> None:
    raw = open_folder(str(cats_and_dogs(tmp_path, *folders)))
    assert raw.class_names == ("cats", "dogs") and sorted(raw.splits) == splits
    (note,) = raw.notes
    assert "folders are read as splits: " in note and folders[-1] in note


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "val", "validation"), r"has both val and validation, .* \(validation\)"),
        (("train", "Train"), "has both Train and train, which mean the same split"),
        (("Trian", "Tets"), "Tets, Trian hold the same folders .*, as splits do"),
        (("cats/train", "cats/test"), "has one folder, cats"),
        (("Test",), r"has Test, but no folder train; rename one"),
        (("train", "tset"), r"splits \(train\) and others \(tset\).*splits=off"),
    ],
)
def test_what_cannot_be_told_is_refused(
    names: tuple[str, ...], message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match=message):
        open_folder(str(cats_and_dogs(tmp_path, *names)))


def test_splits_inside_classes_are_refused(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, *(f"{c}/{s}/1.png" for c in ("cats", "dogs") for s in ("train", "test")))
    with pytest.raises(ValueError, match="has splits inside of classes .*: test/cats"):
        open_folder(str(tmp_path))


def test_classes_with_names_of_splits_are_read_where_this_is_said(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    with pytest.raises(ValueError, match=r"splits \(train\) and others \(bus, car\)"):
        open_folder(str(tmp_path))
    assert open_folder(f"{tmp_path}?splits=off").class_names == ("bus", "car", "train")


@pytest.mark.parametrize("name", ["Test tube", "train station", "text", "retrain"])
def test_classes_that_only_sound_like_splits(name: str) -> None:
    assert folder_names.split_of(name) is None


def test_a_wrapper_is_refused_with_the_folder_inside(tmp_path: pathlib.Path) -> None:
    cats_and_dogs(tmp_path, "images/Images")
    with pytest.raises(ValueError, match=f"give imagefolder:{tmp_path}/images/Images$"):
        open_folder(str(tmp_path))


def test_batches_are_noted_as_classes(tmp_path: pathlib.Path) -> None:
    raw = open_folder(str(cats_and_dogs(tmp_path, "batch1", "batch2")))
    assert raw.class_names == ("batch1", "batch2")
    assert "classes are the folders at the top (batch1, batch2)" in raw.notes[0]


@pytest.mark.parametrize(
    ("file", "reason"),
    {
        "macOS": ("__MACOSX/cats/._0.jpg", "folders of macOS (__MACOSX)"),
        "companion": ("cats/._0.jpg", "companion files of macOS (._*)"),
        "notebook": (
            "cats/.ipynb_checkpoints/0-checkpoint.png",
            "hidden folders (.ipynb_checkpoints)",
        ),
        "NAS": ("dogs/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "folders of a NAS (@eaDir)"),
        "thumbnails": ("dogs/Thumbs.db", "hidden and system files"),
        "another kind": ("cats/a.heic", ".heic files"),
        "no suffix": ("cats/README", "files without a suffix"),
        "beside classes": ("cover.jpg", None),
        "our data set": ("distilled/sheet.png", "folders written by these programs"),
        "our run": ("runs/quickstart/coarse/plot.png", "folders written by these programs"),
    }.values(),
)
def test_what_is_left_out_is_counted(file: str, reason: str | None, tmp_path: pathlib.Path) -> None:
    cats_and_dogs(tmp_path)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    if reason == "folders written by these programs":
        marks = (
            ("request.yaml", ".lock") if "distilled" in file else ("config.yaml", "metrics.jsonl")
        )
        for mark in marks:
            (path.parent / mark).write_text("x")
    raw = open_folder(str(tmp_path))
    assert raw.class_names == ("cats", "dogs") and len(raw.splits["train"]) == 4
    if reason is None:
        assert left_out(raw) == {"images beside the folders of classes": 1}
    else:
        assert reason in left_out(raw)
    assert "left out: " in door.notes(raw)[0]


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".webp", ".bmp", ".gif", ".ppm", ".jfif"])
def test_kinds_of_files_that_are_read(suffix: str, tmp_path: pathlib.Path) -> None:
    for name in ("cats", "dogs"):
        path = tmp_path / name / f"1{suffix}"
        path.parent.mkdir()
        kind = "JPEG" if suffix == ".jfif" else None
        Image.new("RGB", (6, 4), (250, 0, 0)).save(path, kind)
    raw = open_folder(str(tmp_path))
    assert len(raw.splits["train"]) == 2 and not raw.left_out
    assert raw.splits["train"].open(0).size == (6, 4)


def test_linked_folders(tmp_path: pathlib.Path) -> None:
    root = cats_and_dogs(tmp_path / "photos")
    fill(tmp_path / "elsewhere", "1.png", "2.png", "3.png")
    (root / "cats" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "cats" / "loop").symlink_to(root)
    (root / "dogs" / "again").symlink_to(root / "cats")
    (root / "dogs" / "gone.png").symlink_to(tmp_path / "nothing.png")
    raw = open_folder(str(root))
    assert raw.splits["train"].labels.tolist() == [0] * 5 + [1] * 2
    assert left_out(raw) == {
        "linked folders that lead back": 1,
        "linked folders whose target is read where it lies": 1,
        "links to nothing": 1,
    }


def test_names_are_compared_in_one_unicode_form(tmp_path: pathlib.Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    fill(tmp_path, f"train/{composed}/1.png", "train/tea/1.png")
    fill(tmp_path, f"test/{apart}/1.png", "test/tea/1.png")
    assert open_folder(str(tmp_path)).class_names == (composed, "tea")
    fill(tmp_path, f"train/{apart}/1.png")
    with pytest.raises(ValueError, match="same name in two Unicode forms"):
        open_folder(str(tmp_path))


def test_the_output_lies_outside(tmp_path: pathlib.Path) -> None:
    source = f"imagefolder:{cats_and_dogs(tmp_path / 'photos')}"
    check_outside(source, tmp_path / "photos2", "out")
    for inside in ("photos", "photos/distilled", "photos/../photos/cats/x"):
        with pytest.raises(ValueError, match="`out` .*: lies inside the source"):
            check_outside(source, tmp_path / inside, "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("exif=no", "exif: got 'no', expected on or off"),
        ("exfi=off", "no option 'exfi'; known: .*; did you mean 'exif'"),
        ("unreadable=200%", "unreadable: got '200%'"),
        ("unreadable=nan", "unreadable: got 'nan'"),
        ("exif=on&exif=off", "has the option exif twice"),
    ],
)
def test_options_that_do_not_fit(options: str, message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_folder(f"{cats_and_dogs(tmp_path)}?{options}")


def test_a_question_mark_in_a_folder_is_no_option(tmp_path: pathlib.Path) -> None:
    assert len(open_folder(str(cats_and_dogs(tmp_path / "what?a=b"))).splits["train"]) == 4
