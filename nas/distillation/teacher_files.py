"""Files that decide the answers of a teacher: its network, weights outside of it, class lists."""

from __future__ import annotations

import mmap
import pathlib
from collections.abc import Iterator

from nas.data.distilled.manifest import TeacherFile, TeacherRecord
from nas.host.terminal import one_line
from search_spaces import files, yaml_io

_PARTS = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""{message: {number of a field: message in it}} of all that may hold a tensor. Source: onnx.proto,
so that a teacher needs onnxruntime alone."""
_DEPTH = 64  # messages in messages


def onnx_files(model: pathlib.Path) -> tuple[TeacherFile, ...]:
    """The files with weights that an ONNX file refers to.

    Args:
      model: The ONNX file.

    Returns:
      The files, sorted by name.

    Raises:
      ValueError: One is missing, is no file, or lies outside of the folder of the model.
    """
    return tuple(
        TeacherFile(name=name, sha256=files.sha256(_weights(model, name)))
        for name in sorted(_locations(model))
    )


def changed(old: TeacherRecord | None, new: TeacherRecord | None) -> str:
    """The first file of a teacher that has changed since a request was made.

    Args:
      old: The teacher of that request.
      new: The teacher now.

    Returns:
      Path and both hashes, or the lines of its YAML; "" if none has, or the teachers are different
      ones.
    """
    if old is None or new is None or old.text != new.text:
        return ""
    path = pathlib.Path(new.text.partition(":")[2])
    before = {path: old.sha256} | {path.parent / file.name: file.sha256 for file in old.files}
    after = {path: new.sha256} | {path.parent / file.name: file.sha256 for file in new.files}
    for name in before | after:
        was, now = before.get(name), after.get(name)
        if was != now:
            shown = [digits[:12] if digits else "absent" for digits in (now, was)]
            return f"{one_line(str(name))} has changed: sha256 {shown[0]}, was {shown[1]}"
    differences = yaml_io.differences(old.spec, new.spec)
    return f"the YAML of {new.text} has changed ({differences})" if differences else ""


def is_inside(name: str) -> bool:
    """Whether a name in a file stays in the folder of that file.

    Args:
      name: Relative path, as the file has it.
    """
    path = pathlib.Path(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _weights(model: pathlib.Path, name: str) -> pathlib.Path:
    path, shown = pathlib.Path(name), one_line(name)
    if not is_inside(name):
        raise ValueError(
            f"{model}: takes weights from {shown!r}, outside of its folder; save it again with "
            "them beside it"
        )
    if not (model.parent / path).is_file():
        raise ValueError(
            f"{model}: takes weights from {shown!r}, and there is no such file in its folder; copy "
            "it there"
        )
    return model.parent / path


def _locations(model: pathlib.Path) -> set[str]:
    with model.open("rb") as file:
        if not model.stat().st_size:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            found: set[str] = set()
            parts: list[memoryview] = [view]
            try:
                found.update(_walk("model", view, parts, 0))
            # A damaged file; the runtime says so when it opens it.
            except (IndexError, RecursionError):
                pass
            finally:
                for part in reversed(parts):
                    part.release()
            return found


def _walk(message: str, data: memoryview, parts: list[memoryview], depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        return
    known = _PARTS[message]
    for number, content in _fields(data, parts):
        kind = known.get(number)
        if kind == "entry":
            entry = {key: bytes(value) for key, value in _fields(content, parts)}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode("utf-8", "replace")
        elif kind:
            yield from _walk(kind, content, parts, depth + 1)


def _fields(data: memoryview, parts: list[memoryview]) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the fields of a message that hold bytes."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        wire = key & 7
        if wire == 0:
            _, position = _varint(data, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        elif wire == 2:
            size, position = _varint(data, position)
            part = data[position : position + size]
            parts.append(part)
            yield key >> 3, part
            position += size
        else:
            return


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128 or shift > 63:
            return value, position
