"""Damaged images, teachers and options that do not fit, full disks, other data sets in the way."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import pytest

from nas.cli import distil
from nas.data import load
from nas.data.distilled.manifest import read_manifest
from nas.data.distilled.replay import open_replay

from .conftest import Make, command, contents, fails, train_split


def test_corrupt_images_are_listed_and_left_out(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = photos / "train" / "green" / "03.png"
    bad.write_bytes(bad.read_bytes()[:200])
    out = tmp_path / "out"
    distil.main(command(photos, out, "--recipe", "d1", "--replicas", "2"))
    printed = capsys.readouterr().out
    assert "left out, 2 images" in printed and printed.count(str(bad)) == 3
    shards = read_manifest(out).splits["train"].shards
    skipped = [image for shard in shards for image in shard.skipped]
    assert [image.location for image in skipped] == [str(bad)] * 2
    assert len(train_split(out)) == 58
    distil.main(["verify", str(out)])


def test_corrupt_images_without_relevance_are_listed_too(
    photos: pathlib.Path,
    teacher_file: Make,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = photos / "train" / "green" / "03.png"
    bad.write_bytes(b"")
    out = tmp_path / "out"
    more = ["--recipe", "d3", "--per-class", "4", "--threshold", "0.3", "--teacher"]
    distil.main(command(photos, out, *more, f"onnx:{teacher_file()}"))
    assert "left out, 1 images" in capsys.readouterr().out
    assert [image.location for image in read_manifest(out).unreadable] == [str(bad)]


def test_an_empty_class_is_named(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (photos / "train" / "red").iterdir():
        path.unlink()
    fails(command(photos, tmp_path / "out"), "train/red: holds no image", capsys)


def test_a_class_without_relevant_images_is_named(
    photos: pathlib.Path,
    teacher_file: Make,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = ("--recipe", "d3", "--threshold", "0.9", "--teacher", f"onnx:{teacher_file()}")
    fails(
        command(photos, tmp_path / "out", *more),
        "class 'blue': no image has it .* more than 0.9",
        capsys,
    )


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    {
        "too many outputs": (
            (),
            {"outputs": 5},
            "gives 5 outputs, but the source has 3 classes; list .* `classes:`",
        ),
        "a class too few": (("classes: [0, 1]",), {}, "keeps 2 classes, but the source has 3"),
        "no such output": (("classes: [0, 1, 7]",), {}, "keeps output 7, but it has only 3"),
        "another size": (
            (),
            {"side": 16},
            r"takes .*16, 16\], but its YAML says nchw and size 12",
        ),
        "a slip": (("reample: bicubic",), {}, r"colour.yaml:\d+: reample.*resample"),
        "no probabilities": (
            ("output: probabilities",),
            {},
            "its outputs are no probabilities",
        ),
    }.values(),
)
def test_a_teacher_that_does_not_fit(
    lines: tuple[str, ...],
    options: dict[str, Any],
    message: str,
    photos: pathlib.Path,
    teacher_file: Make,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = ("--teacher", f"onnx:{teacher_file(*lines, **options)}")
    fails(command(photos, tmp_path / "out", *more), message, capsys)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--teacher", "onnx:/no/such.onnx"), "teacher onnx:/no/such.onnx: no such file"),
        (
            ("--teacher", "keras:x"),
            "teacher 'keras:x': expected onnx:... or tflite:... or checkpoint:...",
        ),
        (("--replicas", "0"), "replicas: got 0"),
        (("--workers", "0"), "--workers: got 0"),
        (("--held-out", "1.5"), "held_out: got 1.5"),
        (("--recipe", "d3"), "d3 needs a classifier"),
    ],
)
def test_options(
    more: tuple[str, ...],
    message: str,
    photos: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails([*command(photos, tmp_path / "out"), *more], message, capsys)


def test_a_teacher_without_its_yaml(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.onnx").write_bytes(b"")
    fails(
        command(photos, tmp_path / "out", "--teacher", f"onnx:{tmp_path / 't.onnx'}"),
        "needs .*t.yaml",
        capsys,
    )


def test_a_second_writer(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 7 on there")
        held.flush()
        fails(command(photos, out), "out: is being written by process 7 on there", capsys)


def test_another_request_for_the_same_folder(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    distil.main(command(photos, out))
    before = contents(out)
    fails(
        command(photos, out, "--seed", "3"),
        r"holds another distilled data set \(.*seed: 0.*seed: 3",
        capsys,
    )
    assert contents(out) == before


def test_a_full_disk_leaves_what_was_written_valid(
    photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """No file may grow beyond 2 kB, as on a disk that is full: SIGXFSZ is ignored, writes fail."""
    out, arguments = tmp_path / "out", command(photos, tmp_path / "out", "--quality", "100")
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import nas.cli.distil, nas.distillation.run, nas.report.distil\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "nas.cli.distil.main(sys.argv[2:])\n"
    )
    run = [sys.executable, "-c", program, "2000", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "free disk space" in done.stderr, done.stderr
    assert str(out) in done.stderr and "Traceback" not in done.stderr
    assert not list(out.glob("train-*")) and not list(out.glob(".*.tmp"))
    distil.main(arguments)
    distil.main(["verify", str(out), "--workers", "1"])


def test_a_source_that_changed_is_refused_where_it_is_replayed(
    photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    distil.main(command(photos, out, "--storage", "seeds"))
    open_replay.cache_clear()
    (photos / "train" / "red" / "00.png").unlink()
    with pytest.raises(ValueError, match="source imagefolder:.* has changed since .* was begun"):
        load.load_dataset(f"distilled:{out}")


def test_a_source_that_moved_is_found_where_the_request_says(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, verify = tmp_path / "out", ["verify", str(tmp_path / "out"), "--workers", "1"]
    distil.main(command(photos, out, "--storage", "seeds"))
    moved = photos.rename(tmp_path / "elsewhere")
    open_replay.cache_clear()
    fails(
        verify,
        f"{photos}.*: if it was moved, correct `source:` in .*request.yaml",
        capsys,
    )
    request = out / "request.yaml"
    request.write_text(request.read_text().replace(str(photos), str(moved)))
    distil.main(verify)
