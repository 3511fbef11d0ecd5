"""A trial as a table, a contact sheet and a page; nothing else is written."""

from __future__ import annotations

import html
import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

import nas
from nas.cli import data, distil
from nas.distillation.trial import Trial
from nas.report import trial as report

NAMES = ("<b>cats & dogs", "from_$5", "猫")


@pytest.fixture
def found() -> Trial:
    """Two images that are right, one that is wrong, one without a label."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], np.float32
    )
    images = tuple(Image.fromarray(image) for image in pixels)
    labels = np.array([0, 1, 1, -1], np.int32)
    return Trial("t", NAMES, images, labels, probabilities, ("teacher t: a doubt",), "wrong: line")


def test_a_table_of_labels_and_answers(found: Trial) -> None:
    lines = report.text(found).splitlines()
    assert [line.split() for line in lines[1:5]] == [
        [
            "<b>cats",
            "&",
            "dogs",
            "0.700",
            "<b>cats",
            "&",
            "dogs",
            "0.200",
            "from_$5",
            "0.100",
            "猫",
        ],
        ["from_$5", "0.800", "from_$5", "0.100", "<b>cats", "&", "dogs", "0.100", "猫"],
        ["from_$5", "x", "0.600", "<b>cats", "&", "dogs", "0.300", "from_$5", "0.100", "猫"],
        ["-", "0.600", "猫", "0.200", "<b>cats", "&", "dogs", "0.200", "from_$5"],
    ]
    assert "t: 4 images tried; agrees with 2 of 3 labels (66.7%); entropy" in lines[-3]
    assert lines[-2:] == ["teacher t: a doubt", "refused: wrong: line"]


def test_a_page_and_a_sheet(found: Trial) -> None:
    page = report.page("imagefolder:a&b", found)
    assert page.count("<img") == 4 and "<b>cats &" not in page
    assert html.escape("<b>cats & dogs") in page and "refused: wrong: line" in page
    with Image.open(io.BytesIO(report.sheet(found))) as sheet:
        assert sheet.width == 8 * 136


@pytest.fixture
def given(tmp_path: pathlib.Path) -> list[str]:
    """Arguments: photographs of three colours, and a network of ours that was not trained."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import onnx
    from onnx import helper

    rng = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 90, (8, 8, 3))
            pixels[..., 2 - label] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    real = onnx.TensorProto.FLOAT
    turned = np.eye(3, dtype=np.float32)[::-1] * 6
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "turned"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("image", real, ["b", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", real, ["b", 3])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(turned), "turned")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "t.onnx")
    (tmp_path / "t.yaml").write_text("name: colour\nsize: 8\n")
    source = f"imagefolder:{tmp_path / 'photos'}"
    return ["--source", source, "--teacher", f"onnx:{tmp_path / 't.onnx'}"]


def test_a_try_shows_and_writes_nothing_else(
    given: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.rglob("*"))
    distil.main([*given, "--try", "9"])
    shown = capsys.readouterr().out
    assert shown.count("\n") == 12 and "9 images tried; agrees with 9 of 9 labels" in shown
    assert set(tmp_path.rglob("*")) == before
    page, sheet = tmp_path / "try.html", tmp_path / "try.png"
    distil.main([*given, "--try", "9", "--html", str(page), "--sheet", str(sheet)])
    assert set(tmp_path.rglob("*")) == {*before, page, sheet}
    assert page.read_text().count("<img") == 9 and f"written: {page}" in capsys.readouterr().out


def test_a_try_of_a_wrong_teacher_shows_the_table_and_the_line_to_change(
    given: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.yaml").write_text("name: colour\nsize: 8\nclasses: [2, 0, 1]\n")
    with pytest.raises(SystemExit) as stopped:
        distil.main([*given, "--try", "18"])
    shown = capsys.readouterr()
    assert stopped.value.code == 2 and "18 images tried; agrees with 0 of 18" in shown.out
    assert "write `classes: [0, 1, 2]`" in shown.err.splitlines()[-1]


def test_the_look_and_a_dry_run_try_the_teacher(
    given: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "teacher: colour: 18 images tried; agrees with 18 of 18 labels (100.0%)"
    data.main(["look", given[1], *given[2:]])
    assert line in capsys.readouterr().out
    distil.main([*given, "--out", str(tmp_path / "out"), "--dry-run"])
    assert line in capsys.readouterr().out and not (tmp_path / "out").exists()
    (tmp_path / "t.yaml").write_text("name: colour\nsize: 8\noutput: probabilities\n")
    for program, arguments in (
        (data, ["look", given[1], *given[2:]]),
        (distil, [*given, "--out", str(tmp_path / "out"), "--dry-run"]),
    ):
        with pytest.raises(SystemExit) as stopped:
            program.main(arguments)
        assert stopped.value.code == 2
        assert "write `output: logits`" in capsys.readouterr().err.splitlines()[-1]


def test_a_trial_from_python(given: list[str]) -> None:
    found = nas.try_teacher(given[1], given[3], images=6)
    assert found.trial.probabilities.shape == (6, 3) and not found.trial.contradiction
    assert "agrees with 6 of 6 labels" in str(found) and "6 images" in repr(found)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--try", "0"], "images to try: got 0, expected at least 1"),
        (["--out", "x", "--html", "y"], "--html and --sheet go with --try"),
        (["--try", "3", "--html", "SOURCE/a.html"], "--html .*lies inside the source"),
    ],
)
def test_options_of_a_try(
    more: list[str], message: str, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = [text.replace("SOURCE", given[1].partition(":")[2]) for text in more]
    with pytest.raises(SystemExit):
        distil.main([*given, *more])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("nas-distill: error: ")
    assert re.search(message, error), error


def test_a_try_needs_a_teacher(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        distil.main([*given[:2], "--try", "3"])
    assert "needs --teacher" in capsys.readouterr().err
