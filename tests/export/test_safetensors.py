"""safetensors files: round trips, the reference package, and malformed files."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from nas.exporters import safetensors

DTYPES = ("int64", "float64", "float32", "int32", "float16", "uint8", "bool")

names = st.text(st.characters(codec="utf-8"), max_size=8).filter(
    lambda name: name != "__metadata__"
)
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st_numpy.arrays(dtype, st_numpy.array_shapes(min_dims=0, max_side=3, min_side=0))
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("safetensors") / "a.safetensors"


def file_of(header: Any, data: bytes = b"") -> bytes:
    """The bytes of a file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_bytes_of_a_file(path: pathlib.Path) -> None:
    """Header, padding to a multiple of 8, and order by falling size, as the format says."""
    a = np.array([[1, 2]], np.float32)
    safetensors.write(path, {"b": np.array(True), "a": a}, {"kind": "test"})
    text = (
        b'{"__metadata__":{"kind":"test"},'
        b'"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"BOOL","shape":[],"data_offsets":[8,9]}}'
    )
    text += b" " * (-len(text) % 8)
    assert path.read_bytes() == file_of(text, a.tobytes() + b"\1")
    safetensors.write(path, {}, {})
    assert path.read_bytes() == file_of(b"{}      ")
    assert safetensors.read(path) == {}


@given(arrays=st.dictionaries(names, arrays, max_size=4), metadata=st.dictionaries(names, names))
def test_round_trip(
    path: pathlib.Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    safetensors.write(path, arrays, metadata)
    back = safetensors.read(path)
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()
        assert back[name].flags.writeable


def test_views_and_bfloat16(path: pathlib.Path) -> None:
    """Strided arrays are written in order; bfloat16, which numpy lacks, is read as float32."""
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    half = jnp.asarray([1.5, -3e38, jnp.inf, jnp.nan], jnp.bfloat16)
    safetensors.write(path, {"view": array.T[::2], "half": half}, {})
    back = safetensors.read(path)
    np.testing.assert_array_equal(back["view"], array.T[::2])
    assert back["half"].dtype == np.float32
    np.testing.assert_array_equal(back["half"], np.asarray(half, np.float32))


def test_a_failure_leaves_the_old_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "a.safetensors"
    safetensors.write(path, {"a": np.zeros(2)}, {})
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("search_spaces.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        safetensors.write(path, {"a": np.ones(3)}, {})
    assert path.read_bytes() == old


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("a", np.zeros(2, np.complex64), "'a': has type complex64; known types are int64, float64"),
        ("a", np.zeros(2, ">f4"), "'a': has type >f4"),
        ("a", np.array(["text"]), "'a': has type <U4"),
        ("__metadata__", np.zeros(2), "'__metadata__': this name is reserved"),
    ],
)
def test_arrays_that_cannot_be_written(
    tmp_path: pathlib.Path, name: str, array: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        safetensors.write(tmp_path / "a", {name: array}, {})
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


MALFORMED = {
    "empty": (b"", "a header of 0 bytes in a file of 0"),
    "short": (b"\1\0\0", "a header of 1 bytes in a file of 3"),
    "header too long": (b"\xff" * 8 + b"{}", "bytes in a file of 10"),
    "no text": (file_of(b"\xff\xfe"), "utf-8"),
    "no JSON": (file_of(b'{"a": '), "Expecting value"),
    "too deep": (file_of(b"[" * 100_000), "not a readable safetensors file"),
    "no object": (file_of([1]), "the header is not an object of objects"),
    "metadata": (file_of({"__metadata__": 3}), "the header is not an object of objects"),
    "twice": (file_of(b'{"a": 1, "a": 1}'), "a name appears twice"),
    "no entry": (file_of({"a": 3}), "'a': type, shape and place do not fit: '3'"),
    "no offsets": (file_of({"a": {"dtype": "F32", "shape": []}}), "'a': type, shape and place"),
    "dtype": (file_of({"a": entry("F8_E4M3")}), "'a': type 'F8_E4M3' is none of I64, F64, F32"),
    "dtype list": (file_of({"a": entry(dtype=["F32"])}), "'a': type, shape and place"),  # type: ignore[arg-type]
    "negative": (file_of({"a": entry(shape=[-1])}, bytes(4)), "'a': type, shape and place"),
    "fraction": (file_of({"a": entry(shape=[1.0])}, bytes(4)), "'a': type, shape and place"),
    "bool": (file_of({"a": entry(shape=[True])}, bytes(4)), "'a': type, shape and place"),
    "size": (file_of({"a": entry(shape=[2])}, bytes(4)), "'a': type, shape and place"),
    "backwards": (file_of({"a": entry(offsets=[4, 0])}, bytes(4)), "'a': type, shape and place"),
    "axes": (file_of({"a": entry(shape=[1] * 65)}, bytes(4)), "'a': type, shape and place"),
    "huge": (file_of({"a": entry(shape=[0, 2**62], offsets=[0, 0])}), "'a': type, shape and"),
    "out of range": (file_of({"a": entry()}, bytes(3)), "'a': cut off, at bytes 0 to 4"),
    "gap": (file_of({"a": entry(offsets=[4, 8])}, bytes(8)), "'a': gap, at bytes 4 to 8"),
    "overlap": (
        file_of({"a": entry(), "b": entry(shape=[2], offsets=[2, 10])}, bytes(10)),
        "'b': overlap, at bytes 2 to 10",
    ),
    "rest": (file_of({"a": entry()}, bytes(6)), "2 bytes follow the last tensor"),
    "truth": (
        file_of({"a": entry("BOOL", offsets=[0, 1])}, b"\2"),
        "'a': has bytes besides 0 and 1, but type BOOL",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(tmp_path: pathlib.Path, case: str) -> None:
    content, message = MALFORMED[case]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        safetensors.read(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="none.*is not a readable safetensors file"):
        safetensors.read(tmp_path / "none")


@given(data=st.data())
def test_mutated_bytes_are_read_or_a_value_error(path: pathlib.Path, data: st.DataObject) -> None:
    arrays = {"a": np.arange(3, dtype=np.float32), "flag": np.array([True]), "n": np.array(2)}
    safetensors.write(path, arrays, {"k": "v"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(start + 8, len(content))))
        content[start:stop] = data.draw(st.binary(max_size=8))
    expect_arrays_or_a_value_error(path, bytes(content))


@given(
    header=st.dictionaries(
        names,
        values
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BOOL", "BF16", "x"]),
                "shape": values | st.lists(st.integers()),
                "data_offsets": values | st.lists(st.integers(0, 8), min_size=2, max_size=2),
            }
        ),
    ),
    data=st.binary(max_size=8),
)
def test_any_header_is_read_or_a_value_error(
    path: pathlib.Path, header: dict[str, Any], data: bytes
) -> None:
    expect_arrays_or_a_value_error(path, file_of(header, data))


def expect_arrays_or_a_value_error(path: pathlib.Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read = safetensors.read(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in read.values())


def test_the_reference_package_agrees(tmp_path: pathlib.Path) -> None:
    """Equal bytes, and either reads what the other wrote."""
    reference = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    arrays = {
        f"layer.{place}.{dtype}": (rng.normal(size=(2, place + 1)) * 9).astype(dtype)
        for place, dtype in enumerate(DTYPES)
    } | {"scalar": np.array(3), "empty": np.zeros((0, 2), np.float32)}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    safetensors.write(ours, arrays, {"format": "pt"})
    reference.save_file(arrays, theirs, {"format": "pt"})
    assert ours.read_bytes() == theirs.read_bytes()
    for back in (safetensors.read(theirs), reference.load_file(ours)):
        assert set(back) == set(arrays)
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype
            np.testing.assert_array_equal(back[name], array)
