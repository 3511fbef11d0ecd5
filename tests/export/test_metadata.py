"""Metadata of TFLite files: read back by us, by a ZIP reader, and slot by slot as phones do."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from typing import Any

import numpy as np
import pytest

from nas.exporters import litert
from nas.exporters.flatbuffer import pack, unpack
from nas.exporters.metadata import ModelInfo, attach, read
from nas.exporters.uint8 import with_uint8_ends
from nas.measurement import models
from search_spaces import ArchSpec, yaml_io

needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
CLASSES = ("cat", "dog", "größer", "a b", "e,f", '"g"', "h", "i", "j", "k")


@pytest.fixture(scope="module")
def model(small_32: ArchSpec) -> bytes:
    return models.network_model(small_32, "float32")


@pytest.fixture(scope="module")
def info(small_32: ArchSpec) -> ModelInfo:
    return ModelInfo(
        name="small-32",
        description="Animals at 32 pixels.",
        classes=CLASSES,
        mean=0.45,
        std=0.225,
        size=32,
        architecture=yaml_io.to_yaml(small_32),
        provenance={"run": "runs/a", "top-1": "0.71"},
    )


class Table:
    """Fields of a table of a FlatBuffer, by the slots of metadata_schema.fbs."""

    def __init__(self, data: bytes, at: int | None = None) -> None:
        table, packer = (litert.module(f"flatbuffers.{name}") for name in ("table", "packer"))
        encode = litert.module("flatbuffers.encode")
        root = encode.Get(packer.uoffset, data, 0)
        self.data, self.table = data, table.Table(data, root if at is None else at)

    def _at(self, slot: int) -> int:
        return self.table.Offset(4 + 2 * slot)

    def text(self, slot: int) -> str:
        return self.table.String(self.table.Pos + self._at(slot)).decode()

    def byte(self, slot: int) -> int:
        return self.data[self.table.Pos + self._at(slot)]

    def floats(self, slot: int) -> np.ndarray:
        start, count = self.table.Vector(self._at(slot)), self.table.VectorLen(self._at(slot))
        return np.frombuffer(self.data, np.float32, count, start)

    def one(self, slot: int) -> Table:
        return Table(self.data, self.table.Indirect(self.table.Pos + self._at(slot)))

    def many(self, slot: int) -> list[Table]:
        if not self._at(slot):
            return []
        start, count = self.table.Vector(self._at(slot)), self.table.VectorLen(self._at(slot))
        return [Table(self.data, self.table.Indirect(start + 4 * i)) for i in range(count)]


def _entries(tflite: bytes) -> dict[str, bytes]:
    model = unpack(tflite)
    return {e.name.decode(): model.buffers[e.buffer].data.tobytes() for e in model.metadata}


def _files(tflite: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(tflite)) as archive:
        assert archive.testzip() is None
        # MediaPipe reads no compressed files.
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        return {name: archive.read(name).decode() for name in archive.namelist()}


@needs_litert
def test_it_is_read_back(small_32: ArchSpec, model: bytes, info: ModelInfo) -> None:
    tflite = attach(model, info)
    again = read(tflite)
    assert again == info
    assert yaml_io.parse_model(again.architecture, ArchSpec, "model") == small_32


@needs_litert
def test_the_model_computes_the_same(model: bytes, info: ModelInfo) -> None:
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    tflite = attach(model, info)
    np.testing.assert_array_equal(litert.run(tflite, image), litert.run(model, image))
    assert litert.operations(tflite) == litert.operations(model)


@needs_litert
def test_the_zip_has_labels_and_description(model: bytes, info: ModelInfo) -> None:
    files = _files(attach(model, info))
    assert list(files) == ["labels.txt", "model.json"]
    assert files["labels.txt"] == "".join(f"{name}\n" for name in CLASSES)
    assert '"größer"' in files["model.json"]


@needs_litert
def test_phones_find_normalisation_and_labels(model: bytes, info: ModelInfo) -> None:
    entries = _entries(attach(model, info))
    assert entries["min_runtime_version"] == _entries(model)["min_runtime_version"]
    data = entries["TFLITE_METADATA"]
    assert data[4:8] == b"M001"
    root = Table(data)
    assert (root.text(0), root.text(1)) == ("small-32", "Animals at 32 pixels.")
    assert root.text(7) == "1.0.0"
    (graph,) = root.many(3)
    (image,), (logits,) = graph.many(2), graph.many(3)
    assert (image.text(0), logits.text(0)) == ("image", "logits")
    assert image.one(3).byte(0) == 2  # ImageProperties
    assert image.one(3).one(1).byte(0) == 1  # RGB
    (unit,) = image.many(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    np.testing.assert_allclose(unit.one(1).floats(0), [0.45 * 255], rtol=1e-6)
    np.testing.assert_allclose(unit.one(1).floats(1), [0.225 * 255], rtol=1e-6)
    assert logits.one(3).byte(0) == 1  # FeatureProperties
    (labels,) = logits.many(6)
    assert labels.text(0) == "labels.txt"
    assert labels.byte(2) == 2  # TENSOR_AXIS_LABELS


@needs_litert
def test_the_same_arguments_give_the_same_bytes(model: bytes, info: ModelInfo) -> None:
    tflite = attach(model, info)
    assert attach(model, info) == tflite
    assert len(tflite) - len(pack(unpack(model))) < 4000


@needs_litert
def test_it_replaces_what_the_model_has(model: bytes, info: ModelInfo) -> None:
    other = info.model_copy(update={"classes": (), "mean": 0.5, "description": ""})
    tflite = attach(attach(model, info), other)
    assert tflite == attach(attach(model, other), other)
    assert read(tflite) == other
    assert list(_files(tflite)) == ["model.json"]
    (graph,) = Table(_entries(tflite)["TFLITE_METADATA"]).many(3)
    assert graph.many(3)[0].many(6) == []


@needs_litert
def test_an_int8_model_with_uint8_ends(small_32: ArchSpec, info: ModelInfo) -> None:
    ends = with_uint8_ends(models.network_model(small_32, "int8"))
    tflite = attach(ends, info)
    assert read(tflite) == info
    assert litert.interpreter(tflite).get_input_details()[0]["dtype"] is np.uint8


@needs_litert
def test_a_description_that_does_not_fit(model: bytes, info: ModelInfo) -> None:
    with pytest.raises(ValueError, match=r"`info.size`: got 64, but .* input is \[1, 32, 32, 3\]"):
        attach(model, info.model_copy(update={"size": 64}))
    with pytest.raises(ValueError, match="`info.classes`: got 1 names, but .* has 10 outputs"):
        attach(model, info.model_copy(update={"classes": ("cat",)}))
    pair = models.operation_model(_add(), "float32")
    with pytest.raises(ValueError, match="expected a model with an input .* and an output "):
        attach(pair, info)


def _add() -> Any:
    from search_spaces import OpCall, Shape

    return OpCall("add", Shape(2, 2, 3), 3)


@needs_litert
def test_a_model_without_description(model: bytes, info: ModelInfo) -> None:
    with pytest.raises(ValueError, match="the model contains no model.json; export it again, or"):
        read(model)
    tflite = io.BytesIO(model)
    with zipfile.ZipFile(tflite, "a") as archive:
        archive.writestr("model.json", '{"name": "other"')
    with pytest.raises(ValueError, match="model.json of the model is not valid JSON"):
        read(tflite.getvalue())


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\n", "a\r", "a\u2028b"])
def test_class_names_are_lines(info: ModelInfo, name: str) -> None:
    with pytest.raises(ValueError, match=r"ModelInfo: classes\[1\]: got .*, expected one line of"):
        ModelInfo(**{**info.model_dump(), "classes": ("a", name)})


def test_numbers_are_checked(info: ModelInfo) -> None:
    for field, value in (("std", 0.0), ("mean", float("nan")), ("size", 0)):
        with pytest.raises(ValueError, match=f"ModelInfo: {field}: got {value}"):
            ModelInfo(**{**info.model_dump(), field: value})
