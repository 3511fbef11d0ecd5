"""Importer: Once-for-all's latency tables of MobileNetV3 blocks, a YAML file a resolution."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Annotated, cast

import pydantic

from latency_tables.csv_files import read_text
from latency_tables.importers import published
from latency_tables.importers.base import NOT_STATED, Imported, folded, origin, table_name
from latency_tables.measurement import Measurement
from search_spaces import OpCall, Shape, make_divisible, plain_json, yaml_io
from search_spaces.blocks import Classifier, Conv, MBConv, Pool
from search_spaces.blocks.base import Kernel, Stride
from search_spaces.frozen import FrozenModel

_N = "([1-9][0-9]{0,5})"
_SHAPE = f"{_N}x{_N}x{_N}"
_KEY = re.compile(
    rf"(?P<layer>[A-Za-z0-9_]+)-input:{_SHAPE}-output:(?:{_SHAPE}|(?P<classes>[1-9][0-9]*))"
    rf"(?:-expand:(?P<expand>[1-9][0-9]*)-kernel:(?P<kernel>[1357])-stride:(?P<stride>[12])"
    r"-idskip:(?P<idskip>[01])-se:(?P<se>[01])-hs:(?P<hs>[01]))?"
)


class _Entry(FrozenModel):
    count: Annotated[int, pydantic.Field(ge=1)]
    mean: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    std: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


class _File(pydantic.RootModel[dict[str, _Entry]]):
    pass


def read(path: str | os.PathLike[str]) -> Imported:
    """Read one file of {key: count, mean, std in ms}, or every `*.yaml` of a folder.

    Keys give the shapes. Those of a bottleneck also give the expanded width, kernel, stride,
    residual, squeeze-excite and hard swish (else ReLU). From the source's public code:

    - The squeeze-excite is a quarter of the expanded width, rounded to a multiple of 8, with a hard
      sigmoid.
    - A bottleneck whose expanded width is that of its input has no expansion.
    - The first convolution is 3x3, the other two 1x1 with hard swish.

    Args:
      path: YAML file, or a folder of them.

    Returns:
      A measurement for each key of each file.

    Raises:
      ValueError: One line with file, line and cause.

    Source: mit-han-lab/once-for-all (MIT), tables of the Samsung Note10.
    """
    folder = pathlib.Path(path)
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else [folder]
    if not files:
        raise ValueError(f"{path}: has no *.yaml files")
    measurements = []
    for file in files:
        text = read_text(file)
        for key, entry in yaml_io.parse_model(text, _File, str(file)).root.items():
            try:
                ops = folded(_lower(key))
            except ValueError as error:
                raise ValueError(
                    f"{file}:{plain_json.line_of(text, key)}: {key}: {error}"
                ) from None
            name = f"{file.stem}/{key}" if len(files) > 1 else key
            measurements.append(Measurement(name, ops, entry.mean, entry.std, entry.count))
    fields = {
        "name": table_name("ofa", folder.stem.removeprefix("ofa_")),
        **origin(
            files,
            published.OFA_NOTE10,
            device="Samsung Note10",
            processor="CPU",
            runtime=NOT_STATED,
            how="measured",
            protocol=f"mean of `count` runs of a layer; all else {NOT_STATED}",
            date=NOT_STATED,
            source="github.com/mit-han-lab/once-for-all, latency tables",
            licence="MIT",
        ),
    }
    decomposition_note = (
        "inverted bottlenecks are decomposed as their keys say; the squeeze-excite is that of the "
        "source's code"
    )
    return Imported(tuple(measurements), fields, decomposition_note, {})


def _lower(key: str) -> Iterator[OpCall]:
    """The operations of one key. Raises ValueError with the cause."""
    match = _KEY.fullmatch(key)
    layers = ("Conv", "expanded_conv", "Conv_1", "AvgPool2D", "Conv_2", "Logits")
    if (
        match is None
        or match["layer"] not in layers
        or (match["expand"] is None) != (match["layer"] != layers[1])
    ):
        raise ValueError(
            f"unknown key; expected {', '.join(layers)} with -input:HxWxC-output:HxWxC, "
            "and for expanded_conv -expand:N-kernel:K-stride:S-idskip:0/1-se:0/1-hs:0/1"
        )
    sizes = [int(group) if group else 0 for group in match.groups()[1:7]]
    at = Shape(*sizes[:3])
    out = Shape(1, 1, int(match["classes"])) if match["classes"] else Shape(*sizes[3:])
    match match["layer"]:
        case "Conv":
            block = Conv(
                filters=out.channels, kernel=3, stride=_stride(at, out), activation="hard_swish"
            )
        case "Conv_1" | "Conv_2":
            block = Conv(filters=out.channels, kernel=1, activation="hard_swish")
        case "AvgPool2D":
            block = Pool()
        case "Logits":
            block = Classifier(classes=out.channels)
        case _:
            expanded = int(match["expand"])
            if expanded < at.channels:
                raise ValueError(
                    f"expand: got {expanded}, expected at least the {at.channels} channels of the "
                    "input; is it a ratio?"
                )
            block = MBConv(
                filters=out.channels,
                expanded=0 if expanded == at.channels else expanded,
                kernel=cast(Kernel, int(match["kernel"])),
                stride=cast(Stride, int(match["stride"])),
                squeeze=make_divisible(expanded // 4) if match["se"] == "1" else 0,
                activation="hard_swish" if match["hs"] == "1" else "relu",
                gate="hard_sigmoid",
            )
            if (match["idskip"] == "1") != (match["stride"] == "1" and out == at):
                raise ValueError(
                    "idskip: expected 1 if and only if stride is 1 and input and output are equal"
                )
    if block.after(at) != out:
        raise ValueError(
            f"output: expected {_format(block.after(at))} of such a layer, got {_format(out)}"
        )
    return block.lower(at)


def _stride(at: Shape, out: Shape) -> Stride:
    return 1 if at.height == out.height else 2


def _format(shape: Shape) -> str:
    return f"{shape.height}x{shape.width}x{shape.channels}"
