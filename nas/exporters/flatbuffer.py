"""TFLite files as objects that can be edited, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas.exporters import litert

_ALIGNMENT = 16  # bytes; TFLite's schema requires it of weights


def unpack(tflite: bytes) -> Any:
    """Unpack a model file into the objects of LiteRT's schema.

    Args:
      tflite: The model; what lies behind its FlatBuffer, such as a ZIP, is left out.

    Returns:
      A `ModelT`, which contains all constants, also those that the file has outside its FlatBuffer.
    """
    schema = litert.module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(tflite, 0)
    for buffer in model.buffers:
        # The quantiser puts constants there when they sum to 256 kB; offsets are those in the file.
        if buffer.offset > 1:
            buffer.data = np.frombuffer(tflite, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: Any) -> bytes:
    """Pack the objects of a model into a file; the opposite of `unpack`.

    Args:
      model: A `ModelT`.

    Returns:
      The TFLite model.
    """
    flatbuffers = litert.module("flatbuffers")

    class Aligned(flatbuffers.Builder):
        # LiteRT's Python code ignores the alignment that the schema requires.
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
            return super().StartVector(
                elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment
            )

    builder = Aligned(sum(len(b.data) for b in model.buffers if b.data is not None) + 2**16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
