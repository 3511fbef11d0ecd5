"""Files that decide the answers of a teacher: all are hashed, and none lies outside."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from PIL import Image

from nas.cli import distil
from nas.distillation import teacher, teacher_files
from search_spaces import files

from .conftest import contents, fails
from .networks import cell_network, cells

NAMES = tuple("abcdefghijkl")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """imagefolder of light cells, four images of each of twelve classes."""
    root = tmp_path / "photos"
    images = cells(np.arange(48) % 12)
    for index in range(48):
        place = root / NAMES[index % 12]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[index]).save(place / f"{index:02}.png")
    return root


def split(path: pathlib.Path, *lines: str, gain: float = 8.0) -> pathlib.Path:
    """A network whose weights lie in `t.data`."""
    more = {"save_as_external_data": True, "location": "t.data", "size_threshold": 100}
    (path.parent / "t.data").unlink(missing_ok=True)
    return cell_network(path, *lines, gain=gain, **more)


def arguments(folder: pathlib.Path, path: pathlib.Path, out: pathlib.Path) -> list[str]:
    given = ["--source", f"imagefolder:{folder}", "--teacher", f"onnx:{path}", "--out", str(out)]
    return [*given, "--recipe", "plain", "--size", "6", "--shard-images", "8", "--workers", "1"]


def test_weights_outside_of_the_file_are_hashed(tmp_path: pathlib.Path) -> None:
    record = teacher.describe(f"onnx:{split(tmp_path / 't.onnx')}")
    (file,) = record.files
    assert (file.name, file.sha256) == ("t.data", files.sha256(tmp_path / "t.data"))
    assert teacher.describe(f"onnx:{cell_network(tmp_path / 'whole.onnx')}").files == ()


@pytest.mark.parametrize("what", ["weights", "network", "list", "numbers"])
def test_a_change_between_start_and_resume_is_refused(
    what: str, folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    path, out = split(tmp_path / "t.onnx", "class_list: names.txt"), tmp_path / "out"
    graph = path.read_bytes()
    distil.main(arguments(folder, path, out))
    (out / "manifest.yaml").unlink()
    next(iter(out.glob("train-00001*.json"))).unlink()
    before = contents(out)
    name = "t.data"
    if what == "weights":
        split(path, "class_list: names.txt", gain=7.0)
        assert path.read_bytes() == graph
    elif what == "network":
        cell_network(path, "class_list: names.txt")
        name = "t.onnx"
    elif what == "list":
        (tmp_path / "names.txt").write_text("\n".join([*NAMES[:-1], "L"]))
        name = "names.txt"
    else:
        yaml = path.with_suffix(".yaml")
        yaml.write_text(yaml.read_text() + "std: [254]\n")
        message = r"YAML of .*t.onnx has changed \(- std: \[255.0\]; \+ std: \[254.0\]\); .*restore"
        fails(arguments(folder, path, out), message, capsys)
        assert contents(out) == before
        return
    message = f"{name} has changed: sha256 .*, was .*; .* was begun with it: restore the file"
    fails(arguments(folder, path, out), message, capsys)
    assert contents(out) == before


@pytest.mark.parametrize("name", ["../t.data", "/dev/zero", "a/../../t.data", ".", "no.data"])
def test_weights_elsewhere_are_refused(name: str, tmp_path: pathlib.Path) -> None:
    onnx = pytest.importorskip("onnx")
    (tmp_path / "in").mkdir()
    path = split(tmp_path / "in" / "t.onnx")
    (tmp_path / "t.data").write_bytes(b"x")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="t.onnx: takes weights from ") as caught:
        teacher.describe(f"onnx:{path}")
    assert name in str(caught.value)


def test_weights_of_inner_graphs_are_found(tmp_path: pathlib.Path) -> None:
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    inner = onnx.numpy_helper.from_array(np.ones(3, np.float32), "inner")
    inner.ClearField("raw_data")
    inner.data_location = onnx.TensorProto.EXTERNAL
    inner.external_data.add(key="location", value="inner.data")
    out = make.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, [3])
    branch = make.make_graph([], "branch", [], [out], [inner])
    node = make.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = make.make_graph([node], "g", [], [])
    path = tmp_path / "t.onnx"
    path.write_bytes(make.make_model(graph).SerializeToString())
    with pytest.raises(ValueError, match="'inner.data', and there is no such file"):
        teacher_files.onnx_files(path)


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\x3a\xff\xff\xff\xff\x7f", b"\xff" * 99])
def test_a_damaged_file_is_left_to_the_runtime(content: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "t.onnx").write_bytes(content)
    assert teacher_files.onnx_files(tmp_path / "t.onnx") == ()


def test_nothing_is_written_before_the_trial(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = cell_network(tmp_path / "t.onnx", after=["Softmax"]), tmp_path / "out"
    fails(arguments(folder, path, out), "write `output: probabilities`", capsys)
    assert not out.exists()
    yaml = path.with_suffix(".yaml")
    yaml.write_text(yaml.read_text() + "output: probabilities\n")
    distil.main(arguments(folder, path, out))
    assert (out / "manifest.yaml").exists()


def test_doubts_stay_in_the_manifest_and_the_report(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = cell_network(tmp_path / "t.onnx", gain=300.0), tmp_path / "out"
    distil.main(arguments(folder, path, out))
    note = "teacher cells: the entropy of its labels is"
    assert f"note: {note}" in capsys.readouterr().out
    assert note in (out / "manifest.yaml").read_text()
    assert note in (out / "report.html").read_text()
    distil.main(["verify", str(out), "--workers", "1"])
    assert f"note: {note}" in capsys.readouterr().out
