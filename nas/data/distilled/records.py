"""Records in ArrayRecord files: the only module that knows their format.

A record is a msgpack map: `n` sample, `l` label (-1: none), `c` CRC-32 of the pixels [h, w, 3], `j`
JPEG (absent: the image is replayed from the source), `k` and `p` the teacher's top classes (uint16)
and their probabilities (float16), both little-endian.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from nas.data.distilled.labels import Sparse
from search_spaces import files

# Readers ask for single records, and compression does not make JPEG smaller.
_OPTIONS = "group_size:1,uncompressed"


class Record(NamedTuple):
    """A sample of a distilled data set.

    Attributes:
      sample: Number of the sample in its split.
      label: Class index from 0; -1 for none.
      crc: CRC-32 of the pixels.
      jpeg: Bytes of the JPEG; None if the image is replayed from the source.
      top: Sparse teacher labels without an image axis, or None.
    """

    sample: int
    label: int
    crc: int
    jpeg: bytes | None
    top: Sparse | None


class Writer:
    """Writer of a record file; use it as a context manager.

    Args:
      path: Path of the file; created at once.

    Raises:
      OSError: The disk refuses the data.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._count = 0
        # In an unwritable folder this is an OSError, where the library would abort.
        path.touch()
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
        """Append a record.

        Args:
          record: Record to append.

        Raises:
          OSError: The disk refuses the data.
        """
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
    """Reader of a record file by position.

    Args:
      path: Path of the file.

    Raises:
      ValueError: The file is no ArrayRecord file.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        try:
            with files.open_regular(path):  # the library would wait for a pipe
                pass
            self._reader: Any = array_record_module.ArrayRecordReader(
                str(path), "readahead_buffer_size:0"
            )
            self._length = self._reader.num_records()
        except (OSError, RuntimeError, ValueError) as error:
            raise files.BadFile(
                f"{path}: is no ArrayRecord file ({' '.join(str(error).split())})"
            ) from None

    def __len__(self) -> int:
        return self._length

    def read(self, positions: Sequence[int]) -> list[Record]:
        """Read the records at some positions.

        Args:
          positions: Positions, 0..len - 1.

        Returns:
          The records, in the order of the positions.

        Raises:
          ValueError: A record is malformed.
        """
        try:
            found = self._reader.read(list(positions))
        except (RuntimeError, ValueError, IndexError) as error:
            cause = " ".join(str(error).split())[:200]
            raise files.BadFile(
                f"{self._path}: is damaged ({cause}); run `nas-distill verify` on its folder, and "
                "distil again"
            ) from None
        return [self._record(data) for data in found]

    def _record(self, data: bytes) -> Record:
        try:
            fields = msgpack.unpackb(data)
            top = None
            if "k" in fields:
                top = Sparse(np.frombuffer(fields["k"], "<u2"), np.frombuffer(fields["p"], "<f2"))
                if len(top.classes) != len(top.values) or not np.isfinite(top.values).all():
                    raise ValueError("its probabilities do not fit its classes")
            numbers = [fields[name] for name in ("n", "l", "c")]
            if any(type(number) is not int for number in numbers):
                raise ValueError(f"got {numbers}, expected integers")
            jpeg = fields.get("j")
            if not isinstance(jpeg, bytes | None):
                raise ValueError("its image is no bytes")
            return Record(numbers[0], numbers[1], numbers[2], jpeg, top)
        except Exception as error:  # msgpack has a dozen of its own
            raise files.BadFile(f"{self._path}: holds a malformed record ({error!r})") from None
