"""Networks as timm models: arrays there and back, a reference in numpy, and timm itself."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import pathlib
import random
import re
import runpy
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.exporters import safetensors, timm
from nas.measurement import models
from nas.model.context import LayerConfig
from nas.model.network import build_network, split
from search_spaces import ArchSpec
from search_spaces.blocks import MHSA, MQA, UIB, BaseBlock, Classifier, Conv, FusedIB, Pool
from search_spaces.ops import Padding

from .timm_reference import forward


def spec_of(*blocks: BaseBlock, resolution: int = 13, padding: Padding = "same") -> ArchSpec:
    """A network of these blocks and a classifier."""
    chain = (*blocks, Classifier(classes=5, dropout=0.25))
    spec = ArchSpec.model_validate({"name": "net", "resolution": resolution, "blocks": chain})
    return spec.model_copy(update={"padding": padding})


@functools.cache
def network(name: str) -> ArchSpec:
    """A network of the library, one of a stage of `small-32`, or one with all kinds of blocks."""
    if name == "fine":
        space = search_spaces.fine_space(search_spaces.base("small-32"))
        return search_spaces.freeze(space, space.random(random.Random(3)))
    if name == "hybrid":
        space = search_spaces.hybrid_space(search_spaces.base("small-32"))
        attention = [int(decision.name.endswith(".block")) for decision in space.decisions]
        return search_spaces.freeze(space, attention)
    if name in KINDS:
        return KINDS[name]
    return search_spaces.base(name)


# Every form of every block; filters that are no multiple of 8; layer scales in some blocks only.
_TRUNK = (
    Conv(filters=12, stride=2, activation="gelu"),
    FusedIB(filters=12, expansion=1.5, activation="gelu"),
    FusedIB(filters=20, kernel=5, expansion=2.0, activation="relu", project_activation="relu6"),
    UIB(filters=20, start_dw=3, middle_dw=0, activation="gelu"),
    UIB(filters=24, start_dw=5, middle_dw=0, stride=2, activation="hard_swish", layer_scale=0.1),
    MQA(heads=2, key_dim=4, kv_stride=2, kv_kernel=5, value_dim=4),
    UIB(filters=24, middle_dw=0, activation="gelu", expansion=2.5),
    Conv(filters=28, groups=4, activation="swish"),
    MQA(heads=3, key_dim=5, layer_scale=0.1),
    UIB(filters=32, start_dw=3, middle_dw=5, stride=2, activation="gelu", layer_scale=0.1),
)
_HEAD_CONV = Conv(filters=36, kernel=1, activation="gelu")
KINDS = {
    "conv behind pool": spec_of(*_TRUNK, MQA(heads=1, key_dim=2), Pool(), _HEAD_CONV),
    "conv before pool": spec_of(*_TRUNK, _HEAD_CONV, Pool()),
    "symmetric": spec_of(*_TRUNK, Pool(), resolution=16, padding="symmetric"),
    "no head conv": spec_of(*_TRUNK, MQA(heads=1, key_dim=2), Pool()),
}
NETWORKS = ("small-32", "mnv4-conv-s", "mnv4-hybrid-m", "fine", "hybrid", *KINDS)


@functools.cache
def weights(name: str) -> tuple[Any, Any]:
    """Random parameters and statistics."""
    _, *shapes = split(nnx.eval_shape(lambda: build_network(network(name), rngs=nnx.Rngs(0))))
    params, stats = (models.random_weights(tree, seed) for seed, tree in enumerate(shapes))
    return params, stats


def calibrated(name: str) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """(parameters, statistics of a batch, the batch, its logits).

    With random statistics activations grow from block to block, and a softmax becomes one-hot at a
    position that rounding decides.
    """
    spec, config = network(name), LayerConfig(momentum=0.0)
    graph, *_ = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0), config=config)))
    count = 16 if spec.resolution > 32 else 32
    shape = (count, spec.resolution, spec.resolution, spec.input_channels)
    images = np.random.default_rng(3).normal(size=shape).astype(np.float32)

    @jax.jit
    def run(params: Any, stats: Any, images: jax.Array) -> tuple[Any, jax.Array]:
        module = nnx.merge(graph, params, stats)
        module(images, mode="train")
        return split(module)[2], module(images)

    params, stats = weights(name)
    stats, logits = run(params, stats, images)
    return params, jax.tree.map(np.asarray, stats), images, np.asarray(logits)


@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back(name: str) -> None:
    """Every array has one name in timm and comes back bit for bit; none is lost."""
    spec, trees = network(name), weights(name)
    state = timm.to_state_dict(spec, *trees)
    back = timm.from_state_dict(spec, state)
    assert jax.tree.structure(back) == jax.tree.structure(trees)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(trees), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    trained = {key: array for key, array in state.items() if not re.search("running|num_", key)}
    added = [key for key in trained if key.endswith("gamma") and (trained[key] == 1).all()]
    assert bool(added) == (name == "hybrid" or name in KINDS)
    size = sum(array.size for key, array in trained.items() if key not in added)
    assert size == search_spaces.params(spec)
    norms = sum(key.endswith("running_var") for key in state)
    assert norms == sum(key.endswith("num_batches_tracked") for key in state)
    assert all(array.flags.c_contiguous for array in state.values())


def test_strings_and_arguments() -> None:
    small = timm.model_arguments(network("small-32"), LayerConfig(epsilon=1e-5, momentum=0.9))
    assert small["class"] == "timm.models.efficientnet.EfficientNet"
    assert small["arch_def"] == [
        ["er_r1_k3_s1_e2_c24", "uir_r1_a3_k3_s1_e4_c24", "uir_r1_a0_k3_s1_e4_c24"],
        ["uir_r1_a3_k3_s2_e4_c48", *["uir_r1_a0_k3_s1_e4_c48"] * 2],
        ["uir_r1_a3_k3_s2_e4_c80", *["uir_r1_a0_k3_s1_e4_c80"] * 2],
    ]
    assert small["norm"] == {"eps": 1e-5, "momentum": 0.1}
    assert small["image"] == [3, 32, 32] and small["arguments"]["num_features"] == 160
    conv = timm.model_arguments(network("mnv4-conv-s"))
    assert conv["class"] == "timm.models.mobilenetv3.MobileNetV3"
    assert conv["arch_def"][0] == ["cn_r1_k3_s2_c32", "cn_r1_k1_s1_c32"]
    assert conv["arch_def"][-1] == ["cn_r1_k1_s1_c960"]
    hybrid = timm.model_arguments(network("mnv4-hybrid-m"))
    assert hybrid["arguments"]["layer_scale_init_value"] == 1e-5
    assert [len(strings) for strings in hybrid["arch_def"]] == [1, 2, 12, 16, 1]
    assert hybrid["arch_def"][2][4] == "mqa_r1_k3_h4_s1_v2_d64_c160"


# What timm lacks: layer scales in EfficientNet, and attention that ends a list.
PATCHES = {
    "hybrid": ["feature_info", "layer_scales"],
    "conv behind pool": ["feature_info"],
    "conv before pool": ["feature_info", "layer_scales"],
    "symmetric": ["feature_info", "layer_scales"],
    "no head conv": ["feature_info", "layer_scales"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_data_and_code_say_the_same(name: str) -> None:
    data = timm.model_arguments(network(name))
    assert json.loads(json.dumps(data)) == data
    assert data["patches"] == PATCHES.get(name, [])
    code = timm.model_code(network(name))
    values = {
        line.targets[0].id: ast.literal_eval(line.value)
        for line in ast.parse(code).body
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
    }
    assert values == {"ARCH_DEF": data["arch_def"], "ARGUMENTS": data["arguments"]}
    assert ("LayerScale2d(" in code) == ("layer_scales" in data["patches"])
    assert ("feature_info = " in code) == ("feature_info" in data["patches"])
    assert all(len(line) <= 100 for line in code.splitlines())


@pytest.mark.parametrize("name", KINDS)
def test_a_reference_in_numpy_agrees(name: str) -> None:
    """Strings and state dict alone, read as timm reads them, give the logits of our modules."""
    params, stats, images, logits = calibrated(name)
    spec = network(name)
    state = timm.to_state_dict(spec, params, stats)
    data = timm.model_arguments(spec)
    reference = [forward(data, state, image.transpose(2, 0, 1)) for image in images]
    assert np.abs(np.array(reference) - logits).max() <= 1e-5 * np.ptp(logits)


STEM, LAST, HEAD = Conv(filters=8, stride=2), UIB(filters=8), Conv(filters=8, kernel=1)
BESIDE = "where the first block has 'relu'"
REFUSED: dict[tuple[int, str], tuple[BaseBlock, ...]] = {
    (0, "kernel 5 in the first block"): (Conv(filters=8, stride=2, kernel=5), LAST, Pool()),
    (0, "stride 1 in the first block"): (Conv(filters=8), LAST, Pool()),
    (0, "bias True in the first block"): (Conv(filters=8, stride=2, bias=True), LAST, Pool()),
    (0, "kind 'uib' in the first block"): (UIB(filters=8, stride=2), LAST, Pool()),
    (0, "a network of one convolution"): (STEM, Pool()),
    (1, "norm 'none'"): (STEM, Conv(filters=8, norm="none"), LAST, Pool()),
    (1, "bias True"): (STEM, Conv(filters=8, bias=True), LAST, Pool()),
    (1, f"activation 'gelu' {BESIDE}"): (STEM, UIB(filters=8, activation="gelu"), Pool()),
    (1, f"activation 'none' {BESIDE}"): (STEM, Conv(filters=8, activation="none"), LAST, Pool()),
    (1, f"activation 'sigmoid' {BESIDE}"): (
        *(STEM, FusedIB(filters=8, project_activation="sigmoid"), Pool()),
    ),
    (1, "query_stride 2"): (STEM, MQA(heads=1, key_dim=4, query_stride=2), Pool()),
    (1, "value_dim 8 beside key_dim 4"): (STEM, MQA(heads=1, key_dim=4, value_dim=8), Pool()),
    (1, "output_bias True"): (STEM, MQA(heads=1, key_dim=4, output_bias=True), Pool()),
    (1, "kind 'mhsa'"): (STEM, MHSA(heads=1, key_dim=4), Pool()),
    (3, "kernel 3 behind the pooling"): (STEM, LAST, Pool(), Conv(filters=8)),
    (3, "kind 'uib' behind the pooling"): (STEM, LAST, Pool(), LAST),
    (4, "two blocks behind the pooling"): (STEM, LAST, Pool(), HEAD, HEAD),
    (5, "a total stride of 64"): (STEM, *[UIB(filters=8, stride=2)] * 5, Pool(), HEAD),
}


@pytest.mark.parametrize(("index", "problem"), REFUSED)
def test_what_timm_cannot_express(index: int, problem: str) -> None:
    spec = spec_of(*REFUSED[index, problem], resolution=64)
    calls = (timm.model_code, lambda spec: timm.from_state_dict(spec, {}))
    for call in (timm.model_arguments, *calls):
        with pytest.raises(ValueError) as error:
            call(spec)
        assert str(error.value) == (
            f"net: blocks[{index}] ({spec.blocks[index].kind}): timm cannot express {problem}; "
            "tflite-*, onnx and stablehlo can"
        )


def test_holes_are_refused(small_32: ArchSpec) -> None:
    with pytest.raises(ValueError, match="small-32-fine has holes; freeze it first"):
        timm.model_arguments(search_spaces.fine_space(small_32).spec)


def test_which_networks_of_the_zoo_are_timm_models() -> None:
    accepted = set()
    for name in search_spaces.zoo_names():
        try:
            timm.model_arguments(search_spaces.zoo(name))
        except ValueError as error:
            assert "timm cannot express" in str(error)
        else:
            accepted.add(name)
    assert accepted == {name for name in search_spaces.zoo_names() if name.startswith("mnv4")}


def test_a_state_dict_that_does_not_fit() -> None:
    spec = network("small-32")
    state = timm.to_state_dict(spec, *weights("small-32"))
    del state["bn1.weight"], state["bn1.num_batches_tracked"]
    state["conv_stem.weight"] = np.zeros((16, 3, 5, 5), np.float32)
    state["classifier.bias"] = np.zeros(10, np.int32)
    state["extra.weight"] = np.zeros((2, 3))
    with pytest.raises(ValueError) as error:
        timm.from_state_dict(spec, state)
    text = str(error.value)
    assert text.startswith("small-32: the state dict has 4 misfits: ") and "\n" not in text
    for misfit in (
        "bn1.weight (16,) is missing",
        "conv_stem.weight has the shape (16, 3, 5, 5), not (16, 3, 3, 3)",
        "classifier.bias (10,) has the type int32, not a float",
        "extra.weight (2, 3) is surplus",
    ):
        assert misfit in text
    with pytest.raises(ValueError, match=r"has \d{3} misfits: ([^;]* is missing; ){5}\.\.\.$"):
        timm.from_state_dict(spec, {})


def test_a_layer_scale_that_the_block_does_not_have() -> None:
    spec, trees = network("conv before pool"), weights("conv before pool")
    state = timm.to_state_dict(spec, *trees)
    key = "blocks.0.3.layer_scale.gamma"
    assert (state[key] == 1).all()
    state[key] = state[key] / 2
    with pytest.raises(ValueError, match=f"{key} is not 1, and the block has no layer_scale"):
        timm.from_state_dict(spec, state)


@pytest.fixture(scope="module")
def torch() -> Any:
    """PyTorch, with timm installed; both are optional."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors.torch")
    try:
        importlib.import_module("timm")
    except Exception as error:  # a torchvision that does not fit torch is a RuntimeError
        pytest.skip(f"timm cannot be imported: {error}")
    return torch


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        *("small-32", "mnv4-conv-s", "fine", "hybrid"),
        *KINDS,
        pytest.param("mnv4-hybrid-m", marks=pytest.mark.slow),
    ],
)
def test_timm_agrees(name: str, torch: Any, tmp_path: pathlib.Path) -> None:
    """`model.py` loads `model.safetensors` strictly; logits are within 1e-5 of their range."""
    params, stats, images, logits = calibrated(name)
    spec = network(name)
    safetensors.write(
        tmp_path / "model.safetensors", timm.to_state_dict(spec, params, stats), {"format": "pt"}
    )
    (tmp_path / "model.py").write_text(timm.model_code(spec))
    model = runpy.run_path(str(tmp_path / "model.py"))["load"]()
    with torch.inference_mode():
        theirs = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.abs(theirs - logits).max() <= 1e-5 * np.ptp(logits)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "size", ["conv_small", "conv_medium", "conv_large", "hybrid_medium", "hybrid_large"]
)
def test_names_and_shapes_of_timms_own_networks(size: str, torch: Any) -> None:
    with torch.device("meta"):
        model = importlib.import_module("timm").create_model(f"mobilenetv4_{size}")
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    spec = search_spaces.zoo(f"mnv4-{size[: size.index('_') + 2].replace('_', '-')}")
    state = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    ours = timm.to_state_dict(spec, *timm.from_state_dict(spec, state))
    assert {key: array.shape for key, array in ours.items()} == shapes
