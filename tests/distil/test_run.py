"""Whole distilled data sets: the teacher's answers in closed form, kills, and many processes."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nas.cli import distil
from nas.data import codec, load, sources
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import SPLITS
from nas.data.distilled.replay import open_replay

from .conftest import CHANNEL, CLASSES, SHARPNESS, Make, command, contents, train_split

STORAGES = ("jpeg", "seeds")


_EACH = [(recipe, storage) for recipe in ("plain", "d1", "d2", "d3") for storage in STORAGES]
_USUAL = [("plain", "jpeg"), ("d1", "seeds"), ("d3", "jpeg")]  # every recipe's code, both storages


@pytest.mark.parametrize(
    ("recipe", "storage"),
    [pytest.param(*each, marks=() if each in _USUAL else pytest.mark.slow) for each in _EACH],
)
def test_what_a_student_reads_is_what_the_teacher_saw(
    recipe: str, storage: str, photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    more = f"--recipe {recipe} --storage {storage} --replicas 2 --top-k 3 --teacher".split()
    distil.main(command(photos, out, *more, f"onnx:{teacher_file()}"))
    data = load.load_dataset(f"distilled:{out}")
    assert data.class_names == CLASSES
    assert (len(data.train), len(data.validation), len(data.test)) == (60, 12, 12)
    for name in SPLITS:
        examples = data.splits()[name].read(np.arange(len(data.splits()[name])))
        logits = SHARPNESS * examples.images.astype(np.float64).mean((1, 2)) / 255
        logits = logits[:, [CHANNEL[colour] for colour in CLASSES]]
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert examples.soft_labels is not None
        np.testing.assert_allclose(examples.soft_labels, expected, atol=1e-3)
    values = data.train.read(np.arange(60)).images / 255
    assert (data.mean, data.std) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    distil.main(["verify", str(out)])


def test_samples_are_the_replayed_augmentation(
    photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    more = ["--recipe", "d1", "--replicas", "3", "--storage", "seeds", "--seed", "5"]
    distil.main(command(photos, out, *more))
    train = sources.open_collection(f"imagefolder:{photos}").splits["train"]
    records = train_split(out).records(np.array([0, 31, 89]))
    assert [record.sample for record in records] == [0, 31, 89]
    for record in records:
        image = replay(
            RECIPES["d1"], train.open, record.sample % 30, 30, 12, (5, 0, record.sample, 0)
        )
        assert (train_split(out).pixels(record) == codec.to_array(image)).all()
        assert record.label == train.labels[record.sample % 30]


def test_a_killed_run_resumes_to_the_same_bytes(
    photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path
) -> None:
    more = ("--recipe", "d1", "--replicas", "30", "--teacher", f"onnx:{teacher_file()}")
    whole, killed = tmp_path / "whole" / "set", tmp_path / "killed" / "set"
    distil.main(command(photos, whole, *more))
    run = [sys.executable, "-m", "nas.cli.distil", *command(photos, killed, *more)]
    for shards in (1, 30):
        process = subprocess.Popen(run, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(killed.glob("train-*.json"))) < shards and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "manifest.yaml").exists()
    distil.main([*command(photos, killed, *more), "--workers", "2"])
    left = {name: digest for name, digest in contents(killed).items() if not name.endswith(".tmp")}
    assert left == contents(whole)


def test_seeds_are_found_from_another_folder(
    photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    more = ["--storage", "seeds", "--recipe", "d1"]
    distil.main(command(pathlib.Path("photos"), tmp_path / "out", *more))
    open_replay.cache_clear()
    monkeypatch.chdir("/")
    train = load.load_dataset(f"distilled:{tmp_path / 'out'}").train
    assert train.read(np.arange(3)).images.shape == (3, 12, 12, 3)


def test_the_same_bytes_from_processes_and_again_without_work(
    photos: pathlib.Path,
    teacher_file: Make,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = [
        *["--recipe", "d3", "--per-class", "7", "--threshold", "0.34", "--teacher"],
        f"onnx:{teacher_file()}",
    ]
    one, two = tmp_path / "one" / "set", tmp_path / "two" / "set"
    distil.main(command(photos, one, *more))
    distil.main([*command(photos, two, *more), "--workers", "2"])
    assert contents(one) == contents(two)
    times = {path: path.stat().st_mtime_ns for path in one.glob("*.array_record")}
    distil.main(command(photos, one, *more))
    assert times == {path: path.stat().st_mtime_ns for path in one.glob("*.array_record")}
    assert len(train_split(one)) == 21


def test_d3_takes_the_same_number_of_each_class(
    photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    for path in sorted((photos / "train" / "red").iterdir())[4:]:
        path.unlink()
    more = ("--recipe", "d3", "--per-class", "6", "--threshold", "0.3", "--replicas", "2")
    distil.main(command(photos, out, *more, "--teacher", f"onnx:{teacher_file()}"))
    examples = train_split(out).read(np.arange(36))
    assert np.bincount(examples.labels).tolist() == [12, 12, 12]
    order = open_replay(out.absolute()).order
    # The four red images that are left, repeated.
    assert order is not None and len(set(order[12:])) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_what_is_complete(
    photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    more = ("--replicas", "200", "--teacher", f"onnx:{teacher_file()}")
    run = [sys.executable, "-m", "nas.cli.distil", *command(photos, out, *more)]
    process = subprocess.Popen(
        run, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ}
    )
    while len(list(out.glob("train-*.json"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "stopped; complete shards are kept" in error and "nas-distill" in error, error
    assert not list(out.glob(".*.tmp"))


@pytest.mark.slow
def test_the_same_bytes_from_a_ray_cluster(
    photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path
) -> None:
    """In a process of its own: Ray leaves sockets open, and warnings are errors here."""
    pytest.importorskip("ray")
    more = [
        *["--recipe", "d3", "--per-class", "7", "--threshold", "0.34", "--teacher"],
        f"onnx:{teacher_file()}",
    ]
    one, two = tmp_path / "one" / "set", tmp_path / "two" / "set"
    distil.main(command(photos, one, *more))
    run = [sys.executable, "-m", "nas.cli.distil", *command(photos, two, *more), "--ray", "local"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert contents(one) == contents(two)
