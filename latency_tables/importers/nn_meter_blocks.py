"""Importer: nn-Meter's tables of blocks of a convolution-transformer space, {key: ms}."""

from __future__ import annotations

import collections
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import cast, get_args

from latency_tables.csv_files import read_text, real
from latency_tables.importers import published
from latency_tables.importers.base import (
    NOT_STATED,
    Imported,
    folded,
    origin,
    read_json,
    table_name,
)
from latency_tables.measurement import Measurement
from search_spaces import OpCall, Shape, plain_json
from search_spaces.blocks import AvgPool, Classifier, Conv, MBConv, Pool, lower_chain
from search_spaces.blocks.base import Kernel, Stride
from search_spaces.ops import Activation

_CLASSES = 1000
_N = "([1-9][0-9]{0,5})"
_ACT = f"({'|'.join(get_args(Activation))})"
_FORMS = {  # sizes in pixels and channels, strides, kernels
    "firstconv_HW_CIN_COUT_STRIDE_KERNEL": f"{_N}_{_N}_{_N}_([12])_([1357])",
    "conv_HW_CIN_COUT_EXPANSION_STRIDE_ACTIVATION_KERNEL_{se,nose}": (
        f"{_N}_{_N}_{_N}_{_N}_([12])_{_ACT}_([1357])_(se|nose)"
    ),
    "transds_HW_CIN_COUT_STRIDE_EXPANSION": f"{_N}_{_N}_{_N}_([12])_{_N}",
    "mbpool_HW_CIN_COUT_EXPANSION_ACTIVATION": f"{_N}_{_N}_{_N}_{_N}_{_ACT}",
    "transattn_HW_C_ACTIVATION_VSCALE_{ln,bn}": f"{_N}_{_N}_{_ACT}_{_N}_(?:ln|bn)",
    "transffn_HW_C_EXPANSION_ACTIVATION_{ln,bn}": f"{_N}_{_N}_{_N}_{_ACT}_(?:ln|bn)",
}
_PATTERNS = {form.split("_")[0]: re.compile(pattern) for form, pattern in _FORMS.items()}
_SKIPPED = {
    "transattn": "attention with a window bias per head: the key does not state its operations",
    "transffn": "feed-forward part of a transformer: the key does not state its operations",
}


def read(path: str | os.PathLike[str]) -> Imported:
    """Read {key: milliseconds} of blocks.

    The blocks are the first convolution, inverted bottlenecks, downsampling blocks and the head.
    Keys give sizes, expansion, stride, kernel, activation and whether there is a squeeze-excite.
    The rest is in the source's public code that built the blocks:

    - The squeeze-excite has a quarter of the expanded width and a hard sigmoid.
    - There is no expansion where its factor is 1.
    - A `transds` block has kernel 3, hard swish and squeeze-excite.
    - Where a block changes the number of channels, a 1x1 convolution of its input is added to its
      output; if the stride is 2, the input is first averaged over 2 x 2 pixels.

    The times agree with that shortcut. A `transds` block that keeps its channels has none; it takes
    4 to 8 % less than the mean of those with 8 channels more and fewer at the output. Any other
    block takes as long as that mean. Attention and feed-forward parts are left out.

    Args:
      path: JSON file.

    Returns:
      A measurement for each block.

    Raises:
      ValueError: One line with file, line or key, and cause.

    Source: microsoft/nn-Meter (MIT), nn_meter/predictor/transformer_predictor/lut and
    examples/test_transformer.
    """
    measurements: list[Measurement] = []
    skipped: collections.Counter[str] = collections.Counter()
    for key, value in read_json(path).items():
        kind, _, sizes = key.partition("_")
        match = _PATTERNS[kind].fullmatch(sizes) if kind in _PATTERNS else None
        if match is None:
            expected = next(
                (form for form in _FORMS if form.startswith(f"{kind}_")), ", ".join(_FORMS)
            )
            raise ValueError(f"{_place(path, key)}: {key}: unknown key, expected {expected}")
        ms = real(value) if isinstance(value, int | float) else math.nan
        if not ms > 0:
            raise ValueError(
                f"{_place(path, key)}: {key}: got {value!r}, "
                "expected a positive number of milliseconds"
            )
        if kind in _SKIPPED:
            skipped[_SKIPPED[kind]] += 1
        else:
            measurements.append(Measurement(key, folded(_lower(kind, match.groups())), ms))
    if not measurements:
        raise ValueError(f"{path}: has no block that can be decomposed")
    device = re.match(r"pixel([0-9]+)_", pathlib.Path(path).name)
    name = pathlib.Path(path).name
    fields = {
        "name": table_name("nn-meter", pathlib.Path(path).stem),
        **origin(
            [path],
            published.NN_METER_BLOCKS,
            device=f"Pixel {device[1]}" if device else NOT_STATED,
            processor="CPU",
            runtime=f"TensorFlow Lite, version {NOT_STATED}",
            dtype="float32",
            how="unknown",
            protocol=(
                f"{NOT_STATED}; float32, as the code that builds the models does not quantise them"
            ),
            date=NOT_STATED,
            source=f"github.com/microsoft/nn-Meter, transformer_predictor/lut/{name}",
            licence="MIT",
        ),
    }
    decomposition_note = (
        "inverted bottlenecks are decomposed as their keys say and as the source's public code "
        "builds them, with a 1x1 shortcut where the number of channels changes"
    )
    return Imported(tuple(measurements), fields, decomposition_note, dict(skipped))


def _lower(kind: str, values: tuple[str, ...]) -> Iterator[OpCall]:
    match kind, values:
        case "firstconv", (size, channels, filters, stride, kernel):
            conv = Conv(
                filters=int(filters),
                kernel=_kernel(kernel),
                stride=_stride(stride),
                activation="hard_swish",
            )
            return conv.lower(Shape(int(size), int(size), int(channels)))
        case "conv", (size, channels, filters, expansion, stride, activation, kernel, squeeze):
            at = Shape(int(size), int(size), int(channels))
            act = cast(Activation, activation)
            return _bottleneck(
                at,
                int(filters),
                int(expansion),
                _stride(stride),
                _kernel(kernel),
                act,
                squeeze == "se",
            )
        case "transds", (size, channels, filters, stride, expansion):
            at = Shape(int(size), int(size), int(channels))
            return _bottleneck(
                at, int(filters), int(expansion), _stride(stride), 3, "hard_swish", True
            )
        case "mbpool", (size, channels, filters, expansion, activation):
            wide = Conv(
                filters=int(channels) * int(expansion),
                kernel=1,
                activation=cast(Activation, activation),
            )
            head = Conv(filters=int(filters), kernel=1, activation="none", norm="none")
            chain = (wide, Pool(), head, Classifier(classes=_CLASSES))
            return lower_chain(chain, Shape(int(size), int(size), int(channels)))
    raise AssertionError(kind)


def _bottleneck(
    at: Shape,
    filters: int,
    expansion: int,
    stride: Stride,
    kernel: Kernel,
    activation: Activation,
    squeeze: bool,
) -> Iterator[OpCall]:
    wide = at.channels * expansion
    block = MBConv(
        filters=filters,
        stride=stride,
        kernel=kernel,
        expanded=wide if expansion > 1 else 0,
        squeeze=wide // 4 if squeeze else 0,
        activation=activation,
        gate="hard_sigmoid",
    )
    yield from block.lower(at)
    if filters != at.channels:
        shortcut = Conv(filters=filters, kernel=1, activation="none", norm="none")
        yield from lower_chain((AvgPool(), shortcut) if stride == 2 else (shortcut,), at)
        yield OpCall("add", at.after(channels=filters, stride=stride), filters, role="residual")


def _kernel(text: str) -> Kernel:
    return cast(Kernel, int(text))


def _stride(text: str) -> Stride:
    return cast(Stride, int(text))


def _place(path: str | os.PathLike[str], key: str) -> str:
    return f"{path}:{plain_json.line_of(read_text(path), json.dumps(key))}"
