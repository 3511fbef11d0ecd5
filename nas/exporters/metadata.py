"""Metadata in TFLite files: what a model sees and says, in the forms that tools on phones read."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import pydantic

from nas.exporters import litert
from nas.exporters.flatbuffer import pack, unpack
from search_spaces import yaml_io
from search_spaces.frozen import FrozenModel

LABELS = "labels.txt"
"""File in the ZIP behind a model: a line for each class, in the order of the outputs."""
INFO = "model.json"
"""File in the ZIP behind a model: its `ModelInfo`."""


def _one_line(name: str) -> str:
    if name.splitlines() != [name] or not name.strip():
        raise ValueError(f"got {name!r}, expected one line of text: {LABELS} has a line for each")
    return name


class ModelInfo(FrozenModel):
    """Description of an image classifier, which its file contains.

    Attributes:
      name: Name of the model.
      description: Description for people, in a sentence or two.
      classes: Names of the classes, in the order of the outputs; empty if they have none.
      mean: Mean of images / 255.
      std: Standard deviation of images / 255; the network sees (image / 255 - mean) / std.
      size: Height and width of its images in pixels.
      architecture: Its spec as YAML text.
      provenance: Origin of its weights, as texts by name.
    """

    name: str
    description: str = ""
    classes: tuple[Annotated[str, pydantic.AfterValidator(_one_line)], ...] = ()
    mean: Annotated[float, pydantic.Field(allow_inf_nan=False)]
    std: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    size: Annotated[int, pydantic.Field(ge=1, strict=True)]
    architecture: str
    provenance: dict[str, str] = {}


def attach(tflite: bytes, info: ModelInfo) -> bytes:
    """Write metadata into a model, in place of any that it has.

    The model gets the entry TFLITE_METADATA: a FlatBuffer with the normalisation of the input and
    the file of the labels. Behind the model is a ZIP with `LABELS` (if there are classes) and
    `INFO`; runtimes ignore it. The same arguments give the same bytes.

    Args:
      tflite: Model with one input [1, h, w, c] and one output [1, classes].
      info: Its description.

    Returns:
      The model with metadata.

    Raises:
      ValueError: The description does not fit the model.

    Source: metadata_schema.fbs 1.5.0 of TFLite Support and MediaPipe. MediaPipe reads files of the
    ZIP only if they are not compressed.
    """
    schema = litert.module("ai_edge_litert.schema_py_generated")
    model = unpack(tflite)
    channels = _check(model.subgraphs[0], info)
    data = np.frombuffer(_flatbuffer(_metadata(info, channels)), np.uint8)
    entry = next((entry for entry in model.metadata or () if entry.name == _KEY), None)
    if entry is None:
        entry = schema.MetadataT(name=_KEY, buffer=len(model.buffers))
        model.metadata = [*(model.metadata or ()), entry]
        model.buffers.append(schema.BufferT())
    model.buffers[entry.buffer].data = data
    text = json.dumps(info.model_dump(mode="json"), indent=1, ensure_ascii=False)
    files = {LABELS: "".join(f"{name}\n" for name in info.classes), INFO: f"{text}\n"}
    out = io.BytesIO()
    out.write(pack(model))
    # Offsets count from the beginning of the file, as `unzip` expects.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            if content:
                member = zipfile.ZipInfo(name)  # of 1980, for the same bytes each time
                member.create_system = 3
                member.external_attr = 0o644 << 16
                archive.writestr(member, content)
    return out.getvalue()


def read(tflite: bytes) -> ModelInfo:
    """Read the description of a model of `attach`.

    Args:
      tflite: The model.

    Returns:
      Its description.

    Raises:
      ValueError: The model has none, or its description is of another form.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(tflite)) as archive:
            text = archive.read(INFO)
    except (zipfile.BadZipFile, KeyError):
        raise ValueError(
            f"the model contains no {INFO}; export it again, or use the file before other tools "
            "changed it"
        ) from None
    try:
        return yaml_io.validate(json.loads(text), ModelInfo, INFO)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{INFO} of the model is not valid JSON: {error}") from None


def _check(graph: Any, info: ModelInfo) -> int:
    """Channels of the input of a model that a description fits; a ValueError for others."""
    shapes = [[*map(int, graph.tensors[i].shape)] for i in (*graph.inputs, *graph.outputs)]
    if (len(graph.inputs), len(graph.outputs)) != (1, 1) or [*map(len, shapes)] != [4, 2]:
        raise ValueError(
            f"expected a model with an input [1, h, w, c] and an output [1, classes], got {shapes}"
        )
    (_, *sides, channels), (_, outputs) = shapes
    if sides != [info.size] * 2:
        raise ValueError(f"`info.size`: got {info.size}, but the model's input is {shapes[0]}")
    if info.classes and len(info.classes) != outputs:
        raise ValueError(
            f"`info.classes`: got {len(info.classes)} names, but the model has {outputs} outputs"
        )
    return channels


_KEY = b"TFLITE_METADATA"
_IDENTIFIER = b"M001"
_COLOR_SPACES = {1: 2, 3: 1}  # grayscale and RGB, by channels
# Numbers of members of unions and enums.
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_TENSOR_AXIS_LABELS = 2

# Fields of the tables in the order of their slots, up to the last one that is used.
_FIELDS = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata"),
        *("author", "license", "associated_files", "min_parser_version"),
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content"),
        *("process_units", "stats", "associated_files"),
    ),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "AssociatedFile": ("name", "description", "type"),
}


class _Table:
    """Table of a FlatBuffer. Its fields are text, bytes (int), float32 vectors, or tables."""

    def __init__(self, kind: str, **fields: Any) -> None:
        self.fields = {_FIELDS[kind].index(name): value for name, value in fields.items()}


def _metadata(info: ModelInfo, channels: int) -> _Table:
    pixels = _Table("NormalizationOptions", mean=[255 * info.mean], std=[255 * info.std])
    colors = _Table("ImageProperties", color_space=_COLOR_SPACES.get(channels, 0))
    image = _Table(
        "TensorMetadata",
        name="image",
        description=f"Image of {info.size} x {info.size} pixels.",
        content=_Table("Content", content_properties_type=_IMAGE, content_properties=colors),
        process_units=[_Table("ProcessUnit", options_type=_NORMALIZATION, options=pixels)],
    )
    labels = _Table(
        "AssociatedFile",
        name=LABELS,
        description="Names of the classes, one a line.",
        type=_TENSOR_AXIS_LABELS,
    )
    feature = _Table("FeatureProperties")
    logits = _Table(
        "TensorMetadata",
        name="logits",
        description="Logits of the classes; their softmax is the probabilities.",
        content=_Table("Content", content_properties_type=_FEATURE, content_properties=feature),
        associated_files=[labels] if info.classes else [],
    )
    graph = _Table(
        "SubGraphMetadata", input_tensor_metadata=[image], output_tensor_metadata=[logits]
    )
    return _Table(
        "ModelMetadata",
        name=info.name,
        description=info.description,
        subgraph_metadata=[graph],
        min_parser_version="1.0.0",  # version of the newest field here
    )


def _flatbuffer(root: _Table) -> bytes:
    builder = litert.module("flatbuffers").Builder()
    builder.Finish(_write(builder, root), _IDENTIFIER)
    return bytes(builder.Output())


def _write(builder: Any, value: _Table | str | list[Any]) -> int:
    """Offset of a value, after writing it and all below it: children come before their table."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        if isinstance(value[0], float):
            return _vector(builder, value, builder.PrependFloat32)
        offsets = [_write(builder, item) for item in value]
        return _vector(builder, offsets, builder.PrependUOffsetTRelative)
    fields = {
        slot: field if isinstance(field, int) else _write(builder, field)
        for slot, field in value.fields.items()
        if field not in ("", [])
    }
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, field in fields.items():
        if isinstance(value.fields[slot], int):
            builder.PrependUint8Slot(slot, field, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, field, 0)
    return builder.EndObject()


def _vector(builder: Any, values: Iterable[Any], prepend: Any) -> int:
    """Offset of a vector of items of 4 bytes."""
    values = list(values)
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        prepend(value)
    return builder.EndVector()
