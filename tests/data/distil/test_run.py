"""Whole distilled data sets: the teacher's answers in closed form, kills, seconds writers, damage, bad input."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas.cli import distil
from nas.data import images as codec
from nas.data import sources
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import PARTS
from nas.data.distil.manifest import Manifest, read_manifest
from nas.data.distil.work import workplace
from nas.data.stored import DistilledSplit

from .conftest import CHANNEL, CLASSES, SHARPNESS

Make = Callable[..., pathlib.Path]


def command(photos: pathlib.Path, out: pathlib.Path, *more: str) -> list[str]:
    given = ["--source", f"imagefolder:{photos}", "--out", str(out), "--workers", "1", "--shard-images", "8"]
    return [*given, *(() if "--size" in more else ("--size", "12")), *more]


def contents(folder: pathlib.Path) -> dict[str, str]:
    """Digest of every file of the data set."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def split(folder: pathlib.Path, part: str = "train") -> DistilledSplit:
    return DistilledSplit(folder, read_manifest(folder), part)


def fails(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        distil.main(arguments)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and error.startswith("nas-distill: error: ")
    assert re.search(message, error), error


@pytest.mark.parametrize("storage", ["jpeg", "seeds"])
@pytest.mark.parametrize("recipe", ["plain", "d1", "d2", "d3"])
def test_what_a_student_reads_is_what_the_teacher_saw(
    recipe: str, storage: str, photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    teacher = f"onnx:{teacher_file()}"
    more = ("--recipe", recipe, "--storage", storage, "--replicas", "2", "--teacher", teacher, "--top-k", "3")
    distil.main(command(photos, out, *more))
    data = sources.load(f"distilled:{out}")
    assert data.class_names == CLASSES and (len(data.train), len(data.validation), len(data.test)) == (60, 12, 12)
    for part in PARTS:
        examples = data.splits()[part].read(np.arange(len(data.splits()[part])))
        logits = SHARPNESS * examples.images.astype(np.float64).mean((1, 2)) / 255
        logits = logits[:, [CHANNEL[name] for name in CLASSES]]
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert examples.soft_labels is not None
        np.testing.assert_allclose(examples.soft_labels, expected, atol=1e-3)
    values = data.train.read(np.arange(60)).images / 255
    assert (data.mean, data.std) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    distil.main(["verify", str(out)])


def test_samples_are_the_replayed_augmentation(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    distil.main(command(photos, out, "--recipe", "d1", "--replicas", "3", "--storage", "seeds", "--seed", "5"))
    train = sources.open_collection(f"imagefolder:{photos}").parts["train"]
    records = split(out).records(np.array([0, 31, 89]))
    assert [record.sample for record in records] == [0, 31, 89]
    for record in records:
        image = replay(RECIPES["d1"], train.open, record.sample % 30, 30, 12, (5, 0, record.sample, 0))
        assert (split(out).pixels(record) == codec.to_array(image)).all()
        assert record.label == train.labels[record.sample % 30]


def test_a_killed_run_goes_on_to_the_same_bytes(
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
    distil.main(command(pathlib.Path("photos"), tmp_path / "out", "--storage", "seeds", "--recipe", "d1"))
    workplace.cache_clear()
    monkeypatch.chdir("/")
    assert sources.load(f"distilled:{tmp_path / 'out'}").train.read(np.arange(3)).images.shape == (3, 12, 12, 3)


def test_the_same_bytes_from_processes_and_again_without_work(
    photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--recipe", "d3", "--per-class", "7", "--threshold", "0.34", "--teacher", f"onnx:{teacher_file()}")
    one, two = tmp_path / "one" / "set", tmp_path / "two" / "set"
    distil.main(command(photos, one, *more))
    distil.main([*command(photos, two, *more), "--workers", "2"])
    assert contents(one) == contents(two)
    times = {path: path.stat().st_mtime_ns for path in one.glob("*.array_record")}
    distil.main(command(photos, one, *more))
    assert times == {path: path.stat().st_mtime_ns for path in one.glob("*.array_record")}
    assert len(split(one)) == 21


def test_d3_takes_as_many_of_each_class(photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    for path in sorted((photos / "train" / "red").iterdir())[4:]:
        path.unlink()
    more = ("--recipe", "d3", "--per-class", "6", "--threshold", "0.3", "--replicas", "2")
    distil.main(command(photos, out, *more, "--teacher", f"onnx:{teacher_file()}"))
    examples = split(out).read(np.arange(36))
    assert np.bincount(examples.labels).tolist() == [12, 12, 12]
    order = workplace(out.absolute()).order
    assert order is not None and len(set(order[12:])) == 4  # four red ones, repeated


class TestBadInput:
    def test_corrupt_images_are_listed_and_left_out(
        self, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = photos / "train" / "green" / "03.png"
        bad.write_bytes(bad.read_bytes()[:200])
        out = tmp_path / "out"
        distil.main(command(photos, out, "--recipe", "d1", "--replicas", "2"))
        printed = capsys.readouterr().out
        assert "left out, 2 images" in printed and printed.count(str(bad)) == 2
        skipped = [one for shard in read_manifest(out).parts["train"].shards for one in shard.skipped]
        assert [one.place for one in skipped] == [str(bad)] * 2
        assert len(split(out)) == 58
        distil.main(["verify", str(out)])

    def test_corrupt_images_that_cannot_be_judged_are_listed_too(
        self, photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = photos / "train" / "green" / "03.png"
        bad.write_bytes(b"")
        out = tmp_path / "out"
        more = ("--recipe", "d3", "--per-class", "4", "--threshold", "0.3", "--teacher", f"onnx:{teacher_file()}")
        distil.main(command(photos, out, *more))
        assert "left out, 1 images" in capsys.readouterr().out
        assert [one.place for one in read_manifest(out).unreadable] == [str(bad)]

    def test_an_empty_class_is_named(
        self, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for path in (photos / "train" / "red").iterdir():
            path.unlink()
        fails(command(photos, tmp_path / "out"), "train/red: holds no image", capsys)

    def test_a_class_without_relevant_images_is_named(
        self, photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        more = ("--recipe", "d3", "--threshold", "0.9", "--teacher", f"onnx:{teacher_file()}")
        fails(command(photos, tmp_path / "out", *more), "class 'blue': no image has it .* more than 0.9", capsys)

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
            "another size": ((), {"side": 16}, r"takes .*16, 16\], but its YAML says nchw and size 12"),
            "a slip": (("reample: bicubic",), {}, r"colour.yaml:\d+: reample.*resample"),
            "no probabilities": (("output: probabilities",), {}, "its outputs are no probabilities"),
        }.values(),
    )
    def test_a_teacher_that_does_not_fit(
        self,
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
            (("--teacher", "keras:x"), "teacher 'keras:x': expected onnx:... or tflite:... or checkpoint:..."),
            (("--replicas", "0"), "replicas: got 0"),
            (("--workers", "0"), "--workers: got 0"),
            (("--held-out", "1.5"), "held_out: got 1.5"),
            (("--recipe", "d3"), "d3 needs a classifier"),
        ],
    )
    def test_options(
        self,
        more: tuple[str, ...],
        message: str,
        photos: pathlib.Path,
        tmp_path: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fails([*command(photos, tmp_path / "out"), *more], message, capsys)

    def test_a_teacher_without_its_yaml(
        self, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "t.onnx").write_bytes(b"")
        fails(command(photos, tmp_path / "out", "--teacher", f"onnx:{tmp_path / 't.onnx'}"), "needs .*t.yaml", capsys)

    def test_a_second_writer(
        self, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
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
        self, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        distil.main(command(photos, out))
        before = contents(out)
        fails(command(photos, out, "--seed", "3"), r"holds another distilled data set \(.*seed: 0.*seed: 3", capsys)
        assert contents(out) == before

    def test_a_full_disk_leaves_what_was_written_valid(self, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
        """No file may grow beyond 2 kB, as on a disk that is full: SIGXFSZ is ignored, writes fail."""
        out, arguments = tmp_path / "out", command(photos, tmp_path / "out", "--quality", "100")
        program = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "import nas.cli.distil, nas.data.distil.run, nas.report.distil\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
            "nas.cli.distil.main(sys.argv[2:])\n"
        )
        run = [sys.executable, "-c", program, "2000", *arguments]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "make room" in done.stderr, done.stderr
        assert str(out) in done.stderr and "Traceback" not in done.stderr
        assert not list(out.glob("train-*")) and not list(out.glob(".*.tmp"))
        distil.main(arguments)
        distil.main(["verify", str(out), "--workers", "1"])

    def test_a_source_that_changed_is_refused_where_it_is_replayed(
        self, photos: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        out = tmp_path / "out"
        distil.main(command(photos, out, "--storage", "seeds"))
        workplace.cache_clear()
        (photos / "train" / "red" / "00.png").unlink()
        with pytest.raises(ValueError, match="source imagefolder:.* has changed since .* was begun"):
            sources.load(f"distilled:{out}")

    def test_a_source_that_moved_is_found_where_the_request_says(
        self, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, verify = tmp_path / "out", ["verify", str(tmp_path / "out"), "--workers", "1"]
        distil.main(command(photos, out, "--storage", "seeds"))
        moved = photos.rename(tmp_path / "elsewhere")
        workplace.cache_clear()
        fails(verify, f"{photos}.*: if it was moved, say where to as `source` in .*request.yaml", capsys)
        request = out / "request.yaml"
        request.write_text(request.read_text().replace(str(photos), str(moved)))
        distil.main(verify)


class TestVerify:
    @pytest.fixture
    def made(self, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> pathlib.Path:
        distil.main(command(photos, tmp_path / "out"))
        capsys.readouterr()
        return tmp_path / "out"

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_a_whole_one(self, workers: str, made: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        distil.main(["verify", str(made), "--workers", workers])
        assert capsys.readouterr().out.strip() == f"{made}: 54 records, all as the manifest says"

    def test_one_flipped_bit_is_found_and_the_cure_works(
        self, made: pathlib.Path, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before, path = contents(made), sorted(made.glob("train-*.array_record"))[2]
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(bytes(damaged))
        fails(
            ["verify", str(made), "--workers", "1"], f"{path.name}: has changed: .* delete it and run the same", capsys
        )
        path.unlink()
        distil.main(command(photos, made))
        assert contents(made) == before

    def test_a_missing_shard(self, made: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = sorted(made.glob("validation-*.array_record"))[0]
        path.unlink()
        fails(["verify", str(made), "--workers", "1"], f"{path.name}: cannot be read", capsys)

    def test_replayed_images_are_compared(
        self, photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "seeds"
        distil.main(command(photos, out, "--storage", "seeds"))
        monkeypatch.setitem(RECIPES, "d1", RECIPES["d3"])  # as a library that augments otherwise would
        with pytest.raises(ValueError, match="sample 0: comes out different from what the teacher saw"):
            sources.load(f"distilled:{out}").train.read(np.array([0]))
        with pytest.raises(SystemExit):
            distil.main(["verify", str(out), "--workers", "1"])

    @pytest.mark.parametrize(("kept", "message"), [(True, "is not finished"), (False, "holds no distilled data set")])
    def test_an_unfinished_one(
        self, kept: bool, message: str, made: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (made / "manifest.yaml").unlink()
        if not kept:
            shutil.rmtree(made)
        fails(["verify", str(made), "--workers", "1"], message, capsys)


def test_shards_say_what_they_hold(photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    distil.main(command(photos, out, "--recipe", "plain", "--teacher", f"onnx:{teacher_file()}", "--top-k", "1"))
    manifest: Manifest = read_manifest(out)
    for part in manifest.parts.values():
        for shard in part.shards:
            assert sum(shard.class_mass) == pytest.approx(shard.images) and sum(shard.entropy) == shard.images
            assert shard.agree == shard.labelled == shard.images  # it looks at colours, and so do the names
            assert 0 < shard.rest_mass < shard.images and 0 <= shard.lost_nats < shard.images
            described = json.loads((out / shard.file).with_suffix(".json").read_text())
            assert described["sha256"] == shard.sha256
    page = (out / "report.html").read_text()
    assert page.count("<img") == 30 and page.count("<svg") == 2 and "data:image/png" in page
    assert all((out / name).stat().st_size for name in ("contact_sheet.png", "class_balance.svg", "entropy.svg"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_what_is_complete(photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    more = ("--replicas", "200", "--teacher", f"onnx:{teacher_file()}")
    run = [sys.executable, "-m", "nas.cli.distil", *command(photos, out, *more)]
    process = subprocess.Popen(run, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ})
    while len(list(out.glob("train-*.json"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped; complete shards are kept; to go on: nas-distill" in error, error
    assert not list(out.glob(".*.tmp"))


@pytest.mark.slow
def test_the_same_bytes_from_a_ray_cluster(photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path) -> None:
    """In a process of its own: Ray leaves sockets open, and warnings are errors here."""
    pytest.importorskip("ray")
    more = ("--recipe", "d3", "--per-class", "7", "--threshold", "0.34", "--teacher", f"onnx:{teacher_file()}")
    one, two = tmp_path / "one" / "set", tmp_path / "two" / "set"
    distil.main(command(photos, one, *more))
    run = [sys.executable, "-m", "nas.cli.distil", *command(photos, two, *more), "--ray", "local"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert contents(one) == contents(two)
