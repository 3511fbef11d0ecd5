"""Records in ArrayRecord files: the only place that knows their form.

A record is a msgpack map: `n` sample, `l` label (-1: none), `c` CRC-32 of the pixels [h, w, 3], `j` JPEG (absent: it is
replayed from the source), `k` and `p` the teacher's top classes (uint16) and their probabilities (float16), both
little-endian.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from nas.data.distil.labels import Sparse

_OPTIONS = "group_size:1,uncompressed"  # one record at a time is read; JPEG does not get smaller


class Record(NamedTuple):
    """A sample of a distilled data set; `top` has no axis of images."""

    sample: int
    label: int
    crc: int
    jpeg: bytes | None
    top: Sparse | None


class Writer:
    """Writes records one after the other; raises OSError where the disk does not take them."""

    def __init__(self, path: pathlib.Path):
        self._path, self._count = path, 0
        path.touch()  # an unwritable folder is an OSError here, not an abort in the library
        self._writer: Any = array_record_module.ArrayRecordWriter(str(path), _OPTIONS)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            self._writer.close()
            if kind is None and self._count and len(Reader(self._path)) != self._count:
                raise OSError(None, "not all records were written", str(self._path))
        except RuntimeError as error:
            if kind is None:
                raise OSError(None, " ".join(str(error).split()), str(self._path)) from None

    def write(self, record: Record) -> None:
        """Append one."""
        fields: dict[str, Any] = {"n": record.sample, "l": record.label, "c": record.crc}
        if record.jpeg is not None:
            fields["j"] = record.jpeg
        if record.top is not None:
            fields |= {"k": record.top.classes.tobytes(), "p": record.top.values.tobytes()}
        try:
            self._writer.write(msgpack.packb(fields))
        except RuntimeError as error:
            raise OSError(None, " ".join(str(error).split()), str(self._path)) from None
        self._count += 1


class Reader:
    """Reads records of one file by position.

    Raises:
      ValueError: not such a file.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        try:
            self._reader: Any = array_record_module.ArrayRecordReader(str(path), "readahead_buffer_size:0")
            self._length = self._reader.num_records()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path}: is no ArrayRecord file ({' '.join(str(error).split())})") from None

    def __len__(self) -> int:
        return self._length

    def read(self, positions: Sequence[int]) -> list[Record]:
        """The records at these positions."""
        return [self._record(data) for data in self._reader.read(list(positions))]

    def _record(self, data: bytes) -> Record:
        try:
            fields = msgpack.unpackb(data)
            top = None
            if "k" in fields:
                top = Sparse(np.frombuffer(fields["k"], "<u2"), np.frombuffer(fields["p"], "<f2"))
            return Record(fields["n"], fields["l"], fields["c"], fields.get("j"), top)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path}: holds a record that cannot be understood ({error!r})") from None
