"""Verification of finished data sets: damage is found, and the cure works."""

from __future__ import annotations

import os
import pathlib
import shutil

import numpy as np
import pytest

from nas.cli import distil
from nas.data import load
from nas.data.augment.recipes import RECIPES
from nas.data.distilled import replay

from .conftest import command, contents, fails


@pytest.fixture
def made(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> pathlib.Path:
    distil.main(command(photos, tmp_path / "out"))
    capsys.readouterr()
    return tmp_path / "out"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_whole_one(workers: str, made: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    distil.main(["verify", str(made), "--workers", workers])
    assert capsys.readouterr().out.strip() == f"{made}: 54 records match the manifest"


def test_one_flipped_bit_is_found_and_the_cure_works(
    made: pathlib.Path, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, path = contents(made), sorted(made.glob("train-*.array_record"))[2]
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(bytes(damaged))
    fails(
        ["verify", str(made), "--workers", "1"],
        f"{path.name}: has changed: .* distil again: only damaged and missing",
        capsys,
    )
    with pytest.raises(ValueError, match=r"run `nas-distill verify`|malformed record"):
        load.load_dataset(f"distilled:{made}").train.read(np.arange(36))
    distil.main(command(photos, made))  # finds it, though it has the right size
    assert contents(made) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  validation:", "  validatio:", "parts: got train, validatio, test, expected train, val"),
        ("file: train-", "file: ../train-", r"parts.train.shards\[0\].file: got '../train-"),
        ("file: train-", "file: /dev/zero #", r"parts.train.shards\[0\].file: got '/dev/zero'"),
    ],
)
def test_a_changed_manifest(
    old: str, new: str, message: str, made: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made / "manifest.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    fails(["verify", str(made), "--workers", "1"], message, capsys)
    with pytest.raises(ValueError, match=message):
        load.load_dataset(f"distilled:{made}")


def test_a_pipe_in_place_of_a_shard(made: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted(made.glob("train-*.array_record"))[0]
    path.unlink()
    os.mkfifo(path)
    fails(["verify", str(made), "--workers", "1"], "is a device or pipe", capsys)


def test_a_missing_shard(made: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted(made.glob("validation-*.array_record"))[0]
    path.unlink()
    fails(["verify", str(made), "--workers", "1"], f"{path.name}: cannot be read", capsys)


def test_replayed_images_are_compared(
    photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "seeds"
    distil.main(command(photos, out, "--storage", "seeds"))
    # As a library that augments differently would.
    monkeypatch.setattr(replay, "RECIPES", {"d1": RECIPES["d3"]})
    with pytest.raises(ValueError, match="sample 0: does not match the pixels the teacher was giv"):
        load.load_dataset(f"distilled:{out}").train.read(np.array([0]))
    with pytest.raises(SystemExit):
        distil.main(["verify", str(out), "--workers", "1"])


@pytest.mark.parametrize(
    ("kept", "message"), [(True, "is not finished"), (False, "holds no distilled data set")]
)
def test_an_unfinished_one(
    kept: bool, message: str, made: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "manifest.yaml").unlink()
    if not kept:
        shutil.rmtree(made)
    fails(["verify", str(made), "--workers", "1"], message, capsys)
