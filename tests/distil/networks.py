"""Tiny ONNX networks of teachers in closed form, with whatever exporters do to them."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nas.data.collection import ArrayImages


def cells(labels: Sequence[int] | np.ndarray, channel: int = 0) -> ArrayImages:
    """Images of 6 x 6: dark noise, with one light cell in one channel, at the label."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (len(labels), 6, 6, 3)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[label // 6, label % 6, channel] = 250
    return ArrayImages(pixels, np.array(labels, np.int32), "cells")


def cell_network(
    path: pathlib.Path,
    *lines: str,
    order: Sequence[int] = range(12),
    gain: float = 8.0,
    shift: float = 0.0,
    channel: int = 0,
    after: Sequence[str] = (),
    dtype: str = "FLOAT",
    batch: int | str = "b",
    shape: Sequence[int] = (),
    features: bool = False,
    mean: float = 0.0,
    std: float = 255.0,
    constant: str = "",
    **save: Any,
) -> pathlib.Path:
    """ONNX file of a network that sees the light cell; output order[i] belongs to class i.

    Args:
      path: File to write; its YAML is written beside it.
      lines: Further lines of the YAML.
      order: Output of each class.
      gain: Logit of a white cell above that of a black one.
      shift: Logit of a black cell.
      channel: Channel that it looks at.
      after: Operations behind the logits, e.g. Softmax.
      dtype: Type of the input and, if it is a real one, of the output.
      batch: First axis.
      shape: Axes behind the first one of the output; default: one.
      features: Whether its first output is an embedding.
      mean: What the network expects to be subtracted from pixels.
      std: What it expects them to be divided by.
      constant: Name of a second input, a number that is added to all logits.
      save: Arguments of `onnx.save_model`.
    """
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, kind = onnx.helper, getattr(onnx.TensorProto, dtype)
    real = onnx.TensorProto.FLOAT
    weights = np.zeros((6, 6, 3, max(order) + 1), np.float32)
    for label, output in enumerate(order):
        weights[label // 6, label % 6, channel, output] = gain * std / 255
    bias = weights.reshape(108, -1).sum(0) * mean / std + shift
    nodes = [
        make.make_node("Cast", ["image"], ["real"], to=real),
        make.make_node("Reshape", ["real", "flat"], ["row"]),
        make.make_node("MatMul", ["row", "weights"], ["product"]),
        make.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    last = "logits"
    if constant:
        nodes.append(make.make_node("Add", [last, constant], ["moved"]))
        last = "moved"
    for number, name in enumerate(after):
        nodes.append(make.make_node(name, [last], [f"after{number}"]))
        last = f"after{number}"
    axes: list[int | str] = [batch, *(shape or [weights.shape[-1]])]
    if shape:
        nodes.append(make.make_node("Reshape", [last, "shape"], ["shaped"]))
        last = "shaped"
    out = kind if "FLOAT" in dtype else real
    nodes.append(make.make_node("Cast", [last], ["scores"], to=out))
    outputs = [make.make_tensor_value_info("scores", out, axes)]
    if features:
        outputs.insert(0, make.make_tensor_value_info("row", real, [batch, 108]))
    inputs = [make.make_tensor_value_info("image", kind, [batch, 6, 6, 3])]
    if constant:
        inputs.append(make.make_tensor_value_info(constant, real, []))
    arrays = {
        "flat": np.array([-1, 108]),
        "weights": weights.reshape(108, -1),
        "bias": bias.astype(np.float32),
        "shape": np.array([-1, *shape]),
    }
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = make.make_graph(nodes, "cells", inputs, outputs, constants)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    onnx.save_model(model, path, **save)
    text = "\n".join(["schema: 1", "name: cells", "size: 6", *lines, ""])
    path.with_suffix(".yaml").write_text(text, encoding="utf-8")
    return path
