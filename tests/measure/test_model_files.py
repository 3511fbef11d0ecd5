"""TFLite files of anyone: what is read from them, and why one is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import search_spaces
from nas.exporters import litert, metadata
from nas.exporters.contents import contents
from nas.exporters.flatbuffer import pack, unpack
from nas.exporters.metadata import ModelInfo
from nas.exporters.record import ExportRecord, sidecar_of
from nas.exporters.uint8 import with_uint8_ends
from nas.measurement import model_files, models
from search_spaces import ArchSpec, files, yaml_io

from ..export.test_delegate import HYBRID
from ..train.striped import SPEC

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
INFO = ModelInfo(name="tiny", mean=0.5, std=0.25, size=8, architecture=yaml_io.to_yaml(SPEC))


@pytest.fixture(scope="module")
def int8() -> bytes:
    return models.network_model(SPEC, "int8")


@pytest.fixture(scope="module")
def float32() -> bytes:
    return models.network_model(SPEC, "float32")


def _schema() -> Any:
    return litert.module("ai_edge_litert.schema_py_generated")


def _with_operator(name: bytes, version: int = 1, number: int = 32) -> Callable[[Any], None]:
    """A change of a model: its MEAN becomes another operator."""

    def change(model: Any) -> None:
        mean = _schema().BuiltinOperator.MEAN
        index, code = next(
            (i, c) for i, c in enumerate(model.operatorCodes) if c.builtinCode == mean
        )
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version, code.customCode = version, name or None
        for op in model.subgraphs[0].operators:
            if op.opcodeIndex == index and name:
                op.builtinOptions, op.builtinOptionsType = None, 0

    return change


def _with_sizes(*sizes: int) -> Callable[[Any], None]:
    """A change of a model: sizes of its input that are open (-1)."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = np.array(sizes, np.int32)

    return change


def _changed(tflite: bytes, change: Callable[[Any], None]) -> bytes:
    model = unpack(tflite)
    change(model)
    return pack(model)


def _saved(content: bytes, folder: pathlib.Path) -> pathlib.Path:
    (folder / "a.tflite").write_bytes(content)
    return folder / "a.tflite"


def test_a_file_of_ours_names_its_network(int8: bytes, tmp_path: pathlib.Path) -> None:
    model = model_files.read(_saved(metadata.attach(int8, INFO), tmp_path))
    assert model.spec == SPEC and model.notes == () and model.left_out == ()
    assert model.why_not_joining == "" and model.contents.dtype == "int8"
    assert model.inputs[0].startswith("int8 [1, 8, 8, 3] ")
    raw = model_files.read(_saved(metadata.attach(with_uint8_ends(int8), INFO), tmp_path))
    assert raw.spec == SPEC and raw.why_not_joining.startswith("its conversions of inputs")


def test_metadata_of_another_network_are_not_believed(
    int8: bytes, small_32: ArchSpec, tmp_path: pathlib.Path
) -> None:
    other = INFO.model_copy(update={"architecture": yaml_io.to_yaml(small_32)})
    model = model_files.read(_saved(metadata.attach(int8, other), tmp_path))
    assert model.spec is None and "name small-32, but it is another network" in model.notes[0]
    broken = INFO.model_copy(update={"architecture": "name: x\n"})
    model = model_files.read(_saved(metadata.attach(int8, broken), tmp_path))
    assert model.spec is None and model.notes[0].startswith("its metadata cannot be used: ")


def test_a_strangers_file(tmp_path: pathlib.Path, float32: bytes) -> None:
    from nas.exporters import tflite

    two = tflite.to_tflite(lambda a, b: a @ b, (4, 8), (8, 5))
    model = model_files.read(_saved(two, tmp_path))
    assert [text.split(" serving")[0] for text in model.inputs] == [
        "float32 [4, 8]",
        "float32 [8, 5]",
    ]
    assert model.contents.macs == 4 * 8 * 5 and model.why_not_joining == "its network is not known"
    model = model_files.read(_saved(_changed(float32, _with_sizes(-1, 8, 8, 3)), tmp_path))
    assert model.notes == ("its batch is open, and set to 1",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"", "is empty"),
        (lambda b: b"hello, this is text", r"is not a TFLite file \(it begins with b'hello, t'\)"),
        (lambda b: b[: len(b) // 2], "is damaged or cut off"),
        (lambda b: b[:-1], "is damaged or cut off"),
        (
            lambda b: _changed(b, _with_operator(b"FlexErf")),
            r"cannot run its operator FlexErf \(number \d+\): it is one of TensorFlow's",
        ),
        (
            lambda b: _changed(b, _with_operator(b"edgetpu-custom-op")),
            "operator edgetpu-custom-op .*: the file was compiled for an Edge TPU",
        ),
        (
            lambda b: _changed(b, _with_operator(b"Mine")),
            "operator Mine .*: it is a custom operator",
        ),
        (
            lambda b: _changed(b, _with_operator(b"", 99, 40)),
            "cannot run its operator MEAN in version 99, which is newer than LiteRT",
        ),
        (
            lambda b: _changed(b, _with_operator(b"", 1, 250)),
            "cannot run its operator number 250, newer than LiteRT",
        ),
        (
            lambda b: _changed(b, _with_sizes(-1, -1, -1, 3)),
            r"has sizes that are not fixed, \[-1, -1, -1, 3\]; convert it again with fixed sizes",
        ),
    ],
)
def test_files_that_cannot_be_measured(
    float32: bytes, change: Callable[[bytes], bytes], message: str, tmp_path: pathlib.Path
) -> None:
    path = _saved(change(float32), tmp_path)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as caught:
        model_files.read(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_that_of_its_record(int8: bytes, tmp_path: pathlib.Path) -> None:
    path = _saved(int8, tmp_path)
    sidecar_of(path).write_text("a: stranger's\n")
    assert model_files.read(path).spec is None
    record = ExportRecord(
        format="tflite-int8",
        file="a.tflite",
        bytes=len(int8) + 7,
        sha256="0" * 64,
        network="tiny",
        classes=(),
        size=8,
        mean=0.5,
        std=0.25,
    )
    files.write_atomically(sidecar_of(path), yaml_io.to_yaml(record))
    with pytest.raises(ValueError, match=r"is not the file that a.tflite.yaml describes \(\d+ by"):
        model_files.read(path)


def test_what_counts_as_a_file(tmp_path: pathlib.Path, int8: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(int8)
    (tmp_path / "model.onnx").write_bytes(b"something else")
    yes = ["absent.tflite", "A.LITE", tmp_path / "model.bin"]
    no = ["small-32", "a.yaml", SPEC, tmp_path]
    assert [model_files.is_model_file(item) for item in yes + no] == [True] * 3 + [False] * 4
    with pytest.raises(ValueError, match="model.onnx: is neither a TFLite file nor the YAML file"):
        model_files.is_model_file(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("dtype", "kind"), [("int8", "int8"), ("float32", "float32"), ("float16", "float16")]
)
def test_contents_are_those_of_the_network(dtype: Any, kind: str) -> None:
    """All multiply-accumulates of a hybrid, with its products of activations, and its type."""
    spec = yaml_io.parse_model(HYBRID, ArchSpec, "hybrid")
    found = contents(models.network_model(spec, dtype))
    assert found.macs == search_spaces.macs(spec) + search_spaces.attention_macs(spec)
    assert found.dtype == kind and found.uncounted == ()
    assert list(found.operators.values()) == sorted(found.operators.values(), reverse=True)


def test_types_of_other_mixtures(float32: bytes) -> None:
    op = litert.operations(float32)[0]
    image, kernel, *rest = op.reads
    ops = [dataclasses.replace(op, reads=(image, dataclasses.replace(kernel, dtype="INT8"), *rest))]
    from nas.exporters import contents as module

    assert module._dtype(ops) == "float32 with int8 weights"
    assert module._dtype([]) == "?"
