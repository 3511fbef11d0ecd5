"""Files of teachers: inputs and outputs by name, batches, types, shapes, names of classes."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.data.distilled.manifest import TeacherSpec
from nas.distillation import backends, teacher, trial
from nas.distillation.teacher import Teacher

from .networks import cell_network, cells

NAMES = tuple("abcdefghijkl")
LABELS = np.arange(10)


def opened(path: pathlib.Path, names: tuple[str, ...] = NAMES) -> Teacher:
    return Teacher(teacher.describe(f"onnx:{path}"), names)


def images() -> list[Image.Image]:
    return [cells(LABELS).open(i) for i in range(len(LABELS))]


GOOD: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "batches of one": ((), {"batch": 1}),
    "batches of four": ((), {"batch": 4}),
    "one image at a time": (("batch: 1",), {}),
    "[b, k, 1, 1]": ((), {"shape": (12, 1, 1)}),
    "[b, 1, 1, k]": ((), {"shape": (1, 1, 12)}),
    "[b, k, 1, 1] by number": ((f"classes: {list(range(12))}",), {"shape": (12, 1, 1)}),
    "uint8": (("mean: [0]", "std: [1]"), {"dtype": "UINT8", "std": 1.0}),
    "int8": (("mean: [128]", "std: [1]"), {"dtype": "INT8", "std": 1.0, "mean": 128.0}),
    "float16": ((), {"dtype": "FLOAT16"}),
    "float64": ((), {"dtype": "DOUBLE"}),
    "two outputs": (("output_name: scores",), {"features": True}),
    "one output by name": (("output_name: scores",), {}),
    "two inputs": (("constants: {rate: 3}",), {"constant": "rate"}),
    "two inputs by name": (("input_name: image", "constants: {rate: 3}"), {"constant": "rate"}),
}
"""{name: (lines of the YAML, arguments of the network)}."""


@pytest.mark.parametrize(("lines", "network"), GOOD.values(), ids=GOOD)
def test_files_of_many_exporters_give_the_same(
    lines: tuple[str, ...], network: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    plain = opened(cell_network(tmp_path / "plain.onnx"))(images())
    found = opened(cell_network(tmp_path / "t.onnx", *lines, **network))(images())
    assert (found.argmax(1) == LABELS).all()
    np.testing.assert_allclose(found, plain, atol=2e-3)


BAD: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    "two outputs": (
        (),
        {"features": True},
        r"has the outputs row float \[b, 108\], scores float \[b, 12\]; name .*`output_name:`",
    ),
    "no such output": (("output_name: logit",), {}, r"outputs scores float .*`output_name:`"),
    "the embedding": (
        ("output_name: row",),
        {"features": True},
        "gives 108 outputs, but the source has 12 classes",
    ),
    "a map of features": ((), {"shape": (3, 4)}, r"output is .*\[b, 3, 4\], no row of scores"),
    "two inputs": (
        (),
        {"constant": "rate"},
        r"has the inputs image float .*, rate float \[\]; name that .*`input_name:`",
    ),
    "an input without a value": (
        ("input_name: image",),
        {"constant": "rate"},
        r"give each besides the image a number as `constants: \{rate: 0\}`",
    ),
    "no such constant": (("constants: {rat: 0}",), {}, "no 'rat'; correct `constants:`"),
    "uint8 with the usual numbers": (
        (),
        {"dtype": "UINT8"},
        r"takes pixels as uint8, but mean .* 0 to 1 .*`mean: \[0\]` and `std: \[1\]`",
    ),
    "int8 of 0..255": (
        ("mean: [0]", "std: [1]"),
        {"dtype": "INT8"},
        r"`mean: \[128\]` and `std: \[1\]`",
    ),
    "one number": (
        (),
        {"order": [0]},
        r"gives one number for an image; expected one for each of the 12 classes",
    ),
    "a batch in the graph": (
        ("batch: 4",),
        {"batch": "b", "shape": (6, 2, 1)},
        r"output is .*no row of scores",
    ),
    "a name too few": (
        ("class_names: [a, b]",),
        {},
        "`class_names` lists 2 names, but it gives 12 outputs",
    ),
    "a name that differs": (
        (f"class_names: {[*NAMES[:-2], 'l', 'x']}",),
        {},
        "`class_names` has no 'k'; write the names as the source has them",
    ),
}
"""{name: (lines of the YAML, arguments of the network, message)}."""


@pytest.mark.parametrize(("lines", "network", "message"), BAD.values(), ids=BAD)
def test_a_file_that_does_not_fit_is_refused_when_it_is_opened(
    lines: tuple[str, ...], network: dict[str, Any], message: str, tmp_path: pathlib.Path
) -> None:
    path = cell_network(tmp_path / "t.onnx", *lines, **network)
    with pytest.raises(ValueError, match=message) as caught:
        opened(path)(images())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_names_are_compared_in_one_form_of_unicode(tmp_path: pathlib.Path) -> None:
    decomposed, composed = "cafe\u0301", "caf\u00e9"
    path = cell_network(tmp_path / "t.onnx", f"class_names: [b, {decomposed}, A_b]", order=range(3))
    assert opened(path, ("a-b", "b", composed)).outputs.kept == (2, 0, 1)


def test_a_teacher_of_more_classes_is_used_by_name(tmp_path: pathlib.Path) -> None:
    path = cell_network(tmp_path / "t.onnx", f"class_names: {list(NAMES)}")
    asked = opened(path, ("d", "b"))
    assert asked.outputs == ((3, 1), True, ())
    assert asked(images()).shape == (10, 2)


def test_names_in_a_list_beside_the_yaml(tmp_path: pathlib.Path) -> None:
    path = cell_network(tmp_path / "t.onnx", "class_list: names.txt")
    (tmp_path / "names.txt").write_text("\ufeff" + "\n".join(reversed(NAMES)) + "\n\n", "utf-8")
    record = teacher.describe(f"onnx:{path}")
    assert Teacher(record, NAMES).outputs.kept == tuple(range(11, -1, -1))
    assert [file.name for file in record.files] == ["names.txt"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.txt", "t.yaml: class_list: there is no 'absent.txt' beside it; copy it there"),
        ("../names.txt", "t.yaml: class_list: got '../names.txt', outside of its folder"),
        ("/dev/zero", "t.yaml: class_list: got '/dev/zero', outside of its folder"),
        ("endless.txt", "endless.txt: cannot be read: is a device or pipe"),
        ("utf16.txt", "utf16.txt: cannot be read: not UTF-8 text"),
    ],
)
def test_a_list_that_cannot_be_read(name: str, message: str, tmp_path: pathlib.Path) -> None:
    path = cell_network(tmp_path / "t.onnx", f"class_list: {name}")
    (tmp_path / "endless.txt").symlink_to("/dev/zero")
    (tmp_path / "utf16.txt").write_text("\n".join(NAMES), "utf-16")
    with pytest.raises(ValueError, match=re.escape(message)):
        teacher.describe(f"onnx:{path}")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("classes", '["b", "a", "c"]'),
        ("names", "{0: 'b', 1: 'a', 2: 'c'}"),
        ("labels", '{"0": "b", "1": "a", "2": "c"}'),
    ],
)
def test_names_in_the_file_itself_decide(key: str, text: str, tmp_path: pathlib.Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = cell_network(tmp_path / "t.onnx", order=range(3))
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: text})
    onnx.save(model, path)
    assert opened(path, ("a", "b", "c")).outputs.kept == (1, 0, 2)
    # Other words for the classes say nothing about their order.
    assert opened(path, ("x", "y", "z")).outputs == ((0, 1, 2), False, ())


def test_numbers_that_contradict_names_are_refused_with_the_right_line(
    tmp_path: pathlib.Path,
) -> None:
    path = cell_network(
        tmp_path / "t.onnx", "classes: [1, 0]", "class_names: [a, b, c]", order=range(3)
    )
    message = r"'a' is 'b', 'b' is 'a'; write `classes: \[0, 1\]`"
    with pytest.raises(ValueError, match=message):
        opened(path, ("a", "b"))
    # As many names as outputs: they may be those of `classes`, so they prove nothing.
    path = cell_network(path, "classes: [1, 0]", "class_names: [a, b]", order=range(2))
    assert opened(path, ("a", "b")).outputs == ((1, 0), False, ())


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.0, 255.0, ""),
        (
            0.0,
            1.0,
            r"takes numbers from 0 to 1 as uint8, .* 0 to 255; write `mean: \[0\]` and `std:",
        ),
        (127.5, 127.5, r"-1 to 1; write `mean: \[0\]` and `std: \[255\]`"),
        (0.0, 65025.0, r"`std: \[255\]`"),
        (10.0, 250.0, ""),
    ],
)
def test_the_range_of_a_quantised_input(mean: float, std: float, message: str) -> None:
    spec = TeacherSpec(name="t", size=1, mean=(mean,), std=(std,))
    if not message:
        assert backends._check_range(spec, 1 / 255, 0, np.dtype(np.uint8)) == ()
        return
    with pytest.raises(ValueError, match=message):
        backends._check_range(spec, 1 / 255, 0, np.dtype(np.uint8))


def test_half_of_the_range_of_a_quantised_input_is_a_doubt() -> None:
    spec = TeacherSpec(name="t", size=1)
    (doubt,) = backends._check_range(spec, 2 / 255, -1, np.dtype(np.int8))
    assert "-1.0" in doubt or "from -0.99" in doubt
    assert "`mean: [127]` and `std: [127.5]` would use all" in doubt
    # Integers of 16 bits are symmetrical.
    assert backends._check_range(spec, 1 / 32767, 0, np.dtype(np.int16)) == ()


def _tflite(folder: pathlib.Path, *lines: str) -> pathlib.Path:
    """Uint8 [1, 4, 4, 3] -> softmax of the means of the channels, uint8 in steps of 1/256."""
    pytest.importorskip("ai_edge_litert")
    from nas.exporters import flatbuffer, litert

    schema = litert.module("ai_edge_litert.schema_py_generated")

    def tensor(name: str, shape: list[int], scale: float, buffer: int = 0) -> Any:
        quantisation = schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])
        return schema.TensorT(
            name=name, shape=shape, type=schema.TensorType.UINT8, quantization=quantisation,
            buffer=buffer,
        )  # fmt: skip

    axes = schema.TensorT(name="axes", shape=[2], type=schema.TensorType.INT32, buffer=1)
    operators = [
        schema.OperatorT(
            opcodeIndex=0, inputs=[0, 1], outputs=[2],
            builtinOptionsType=schema.BuiltinOptions.ReducerOptions,
            builtinOptions=schema.ReducerOptionsT(keepDims=False),
        ),
        schema.OperatorT(
            opcodeIndex=1, inputs=[2], outputs=[3],
            builtinOptionsType=schema.BuiltinOptions.SoftmaxOptions,
            builtinOptions=schema.SoftmaxOptionsT(beta=8.0),
        ),
    ]  # fmt: skip
    graph = schema.SubGraphT(
        tensors=[
            tensor("image", [1, 4, 4, 3], 1 / 255),
            axes,
            tensor("mean", [1, 3], 1 / 255),
            tensor("scores", [1, 3], 1 / 256),
        ],
        inputs=[0],
        outputs=[3],
        operators=operators,
    )
    codes = [schema.BuiltinOperator.MEAN, schema.BuiltinOperator.SOFTMAX]
    model = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=2)
            for code in codes
        ],
        subgraphs=[graph],
        buffers=[
            schema.BufferT(),
            schema.BufferT(data=np.frombuffer(np.array([1, 2], "<i4").tobytes(), np.uint8)),
        ],
    )
    path = folder / "t.tflite"
    path.write_bytes(flatbuffer.pack(model))
    text = "\n".join(["schema: 1", "name: t", "size: 4", *lines, ""])
    path.with_suffix(".yaml").write_text(text)
    return path


def test_a_uint8_tflite_model_is_scaled(tmp_path: pathlib.Path) -> None:
    path = _tflite(tmp_path, "output: probabilities")
    asked = Teacher(teacher.describe(f"tflite:{path}"), ("r", "g", "b"))
    pixels = np.random.default_rng(0).integers(0, 100, (5, 4, 4, 3)).astype(np.uint8)
    pixels[np.arange(5), :, :, np.arange(5) % 3] += 100
    found = asked([Image.fromarray(image) for image in pixels])
    expected = np.exp(8 * pixels.mean((1, 2)) / 255)
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), atol=0.02)


def test_units_of_0_to_1_are_named_before_the_range_of_a_quantised_input(
    tmp_path: pathlib.Path,
) -> None:
    path = _tflite(tmp_path, "mean: [0.5]", "std: [0.25]", "output: probabilities")
    with pytest.raises(ValueError, match=r"write `mean: \[127.5\]` and `std: \[63.75\]`"):
        record = teacher.describe(f"tflite:{path}")
        trial.try_teacher(record, cells(LABELS % 3), ("r", "g", "b"), 6)


@pytest.mark.parametrize("lines", [("mean: [0]", "std: [1]"), ("mean: [127.5]", "std: [127.5]")])
def test_a_uint8_tflite_model_with_other_units_is_refused(
    lines: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    path = _tflite(tmp_path, *lines, "output: probabilities")
    with pytest.raises(ValueError, match=r"t.tflite: takes .* write `mean: \[0\]` and `std: \[255"):
        Teacher(teacher.describe(f"tflite:{path}"), ("r", "g", "b"))
