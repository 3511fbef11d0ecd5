"""A model with UINT8 ends is the INT8 model, seen through unsigned bytes."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from nas.exporters import check, litert
from nas.exporters.delegate import LeftOut, left_out
from nas.exporters.flatbuffer import pack, unpack
from nas.exporters.uint8 import with_uint8_ends
from nas.measurement import models
from search_spaces import ArchSpec

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)


@pytest.fixture(scope="module")
def int8(small_32: ArchSpec) -> bytes:
    return models.network_model(small_32, "int8")


def _ends(model: Any) -> tuple[Any, Any]:
    (image,), (logits,) = model.get_input_details(), model.get_output_details()
    return image, logits


def test_raw_pixels_give_exactly_the_results_of_the_int8_model(int8: bytes) -> None:
    signed, unsigned = (litert.interpreter(model) for model in (int8, with_uint8_ends(int8)))
    (image, logits), (pixels, bytes_) = _ends(signed), _ends(unsigned)
    for old, new in ((image, pixels), (logits, bytes_)):
        scale, zero = old["quantization"]
        assert new["dtype"] is np.uint8 and new["quantization"] == (scale, zero + 128)
        assert new["name"] == old["name"] and (new["shape"] == old["shape"]).all()
    seen = set()
    for values in np.random.default_rng(0).integers(0, 256, (20, *pixels["shape"])):
        signed.set_tensor(image["index"], (values - 128).astype(np.int8))
        unsigned.set_tensor(pixels["index"], values.astype(np.uint8))
        signed.invoke()
        unsigned.invoke()
        wanted = signed.get_tensor(logits["index"]).astype(int) + 128
        np.testing.assert_array_equal(unsigned.get_tensor(bytes_["index"]), wanted)
        seen.add(wanted.tobytes())
    assert len(seen) > 10


def test_the_signature_has_the_same_names(int8: bytes) -> None:
    runner = litert.interpreter(with_uint8_ends(int8)).get_signature_runner()
    assert runner.get_input_details()["image"]["dtype"] is np.uint8
    assert runner.get_output_details()["logits"]["dtype"] is np.uint8


def test_it_is_still_one_partition_of_the_same_network(small_32: ArchSpec, int8: bytes) -> None:
    model = with_uint8_ends(int8)
    assert check.difference(small_32, model) is None
    assert left_out(model) == (LeftOut("QUANTIZE", 2),)
    nodes = litert.interpreter(model)._get_ops_details()
    assert len(nodes) - len(litert.operations(model)) == 1


def test_packing_keeps_the_model(int8: bytes) -> None:
    again = pack(unpack(int8))
    assert litert.operations(again) == litert.operations(int8)
    pairs = list(zip(unpack(again).buffers, unpack(int8).buffers, strict=True))
    for new, old in pairs:
        np.testing.assert_array_equal(new.data, old.data)
    assert pack(unpack(again)) == again


def test_packing_aligns_constants(int8: bytes) -> None:
    """At 16 bytes, as TFLite's schema requires; the converter does not."""
    schema = litert.module("ai_edge_litert.schema_py_generated")
    model = schema.Model.GetRootAs(pack(unpack(int8)), 0)
    tables = [model.Buffers(i)._tab for i in range(model.BuffersLength())]
    places = [table.Vector(slot) for table in tables if (slot := table.Offset(4))]
    assert len(places) > 30 and not any(place % 16 for place in places)


def test_constants_outside_the_flatbuffer_are_kept(int8: bytes) -> None:
    """The quantiser puts those of larger models there, such as MobileNetV4-Conv-S."""
    model = unpack(int8)
    largest = max(model.buffers, key=lambda b: 0 if b.data is None else len(b.data))
    data, largest.data = largest.data, None
    largest.offset, largest.size = 2**20, len(data)
    outside = pack(model).ljust(2**20, b"\0") + data.tobytes()
    assert litert.operations(outside) == litert.operations(int8)
    assert pack(unpack(outside)) == pack(unpack(int8))


def test_models_of_other_types_are_refused(small_32: ArchSpec, int8: bytes) -> None:
    expected = "expected a model with INT8 inputs and outputs, got one of "
    with pytest.raises(ValueError, match=f"{expected}FLOAT32"):
        with_uint8_ends(models.network_model(small_32, "float32"))
    with pytest.raises(ValueError, match=f"{expected}UINT8"):
        with_uint8_ends(with_uint8_ends(int8))
