"""Files of named arrays in the safetensors format, which PyTorch libraries read and write.

A file is the length of its header (8 bytes, little-endian), the header (JSON: type, shape and
place of each array), and the bytes of the arrays, without gaps. Source: the format's description
and its reference implementation, github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from search_spaces import files

# By falling size, so that every array is aligned: the reference's order. numpy has no bfloat16.
_BYTES = {"I64": 8, "F64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1}
_NAMES = ("int64", "float64", "float32", "int32", "bfloat16", "float16", "uint8", "bool")
_CODES = dict(zip(_NAMES, _BYTES, strict=True))
_DTYPES = {code: name for name, code in _CODES.items()}
_METADATA, _LONGEST_HEADER = "__metadata__", 100_000_000


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write arrays to a file, which is replaced in one step.

    Args:
      path: The file; missing folders are made.
      arrays: Arrays by name, of any type that `read` knows.
      metadata: Texts by name; may be empty.

    Raises:
      ValueError: An array has another type, or the name that the metadata has in the header.
    """
    path, host = pathlib.Path(path), {}
    for name, array in arrays.items():
        host[name] = array = np.asarray(array)
        if name == _METADATA or array.dtype.name not in _CODES or not array.dtype.isnative:
            what = "this name is reserved" if name == _METADATA else f"has type {array.dtype}"
            raise ValueError(f"{path}: {name!r}: {what}; known types are {', '.join(_NAMES)}")
    names = sorted(host, key=lambda name: (_NAMES.index(host[name].dtype.name), name))
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        array, start, end = host[name], end, end + host[name].nbytes
        place = {"shape": list(array.shape), "data_offsets": [start, end]}
        header[name] = {"dtype": _CODES[array.dtype.name], **place}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with files.replaced(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(host[name].tobytes() for name in names)


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of a file.

    Args:
      path: The file.

    Returns:
      Arrays by name; those of type BF16 as float32, which holds the same values.

    Raises:
      ValueError: There is no such file, or it is malformed; the message names file and tensor.
    """
    try:
        with files.open_regular(path) as file:
            data = np.fromfile(file, np.uint8)
        length = int.from_bytes(data[:8].tobytes(), "little")
        if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
        header = json.loads(data[8 : 8 + length].tobytes().decode(), object_pairs_hook=_unique)
        if not isinstance(header, dict) or not isinstance(header.pop(_METADATA, {}), dict):
            raise ValueError("the header is not an object of objects")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not a readable safetensors file ({error})") from None
    data, arrays, covered = data[8 + length :], {}, 0
    for start, end, name, info in sorted(_place(path, *item) for item in header.items()):
        if start != covered or end > len(data):
            problem = "overlap" if start < covered else "gap" if start > covered else "cut off"
            raise ValueError(f"{path}: {name!r}: {problem}, at bytes {start} to {end}")
        arrays[name], covered = _array(f"{path}: {name!r}", data[start:end], *info), end
    if covered != len(data):
        raise ValueError(f"{path}: {len(data) - covered} bytes follow the last tensor")
    return arrays


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name appears twice")
    return dict(pairs)


def _place(path: Any, name: str, info: Any) -> tuple[int, int, str, tuple[str, list[int]]]:
    match info:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [start, end]}:
            if code not in _BYTES:
                raise ValueError(f"{path}: {name!r}: type {code!r} is none of {', '.join(_BYTES)}")
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
            # numpy has no larger array, not even an empty one
            small = whole and len(shape) <= 64 and math.prod(max(n, 1) for n in shape) < 2**60
            if small and end - start == math.prod(shape) * _BYTES[code]:
                return start, end, name, (code, shape)
    raise ValueError(f"{path}: {name!r}: type, shape and place do not fit: {str(info)[:99]!r}")


def _array(where: str, raw: np.ndarray, code: str, shape: list[int]) -> np.ndarray:
    if code == "BOOL" and (raw > 1).any():
        raise ValueError(f"{where}: has bytes besides 0 and 1, but type BOOL")
    if code == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return raw.view(_DTYPES[code]).reshape(shape)
