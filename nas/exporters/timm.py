"""Networks as models of timm, the PyTorch image models: weights, constructor arguments, code.

timm builds a network from strings, one for each block, such as "uir_r1_a3_k5_s2_e4_c80", in lists
of which only the first block may have a stride. Its kernels are [o, i, k, k]. The published
MobileNetV4 have the same lists, and so the same names of arrays, as in timm. Source of strings,
names and shapes: timm 1.0.31.

Equal weights are an equal network only with the same padding, `gelu_tanh` for gelu, and the epsilon
of our norms; `model_arguments` has all three. timm's own MobileNetV4 weights were trained with
symmetric padding and epsilon 1e-5 (`ArchSpec.padding`, `LayerConfig.epsilon`), those of Hybrid-L
also with the exact gelu, which differs from the tanh form by up to 5e-4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from nas.model.context import LayerConfig
from nas.model.network import Params, Stats, build_network, split
from search_spaces import ArchSpec
from search_spaces.blocks import MQA, UIB, Conv, FusedIB, expanded_width
from search_spaces.ops import Activation, Padding

OTHER_FORMATS = "tflite-*, onnx and stablehlo"
"""Formats that can hold every network; errors name them."""

_COUNTER, _SHOWN = "num_batches_tracked", 5
_ACTIVATIONS: dict[Activation, str] = {"gelu": "gelu_tanh", "none": "identity"}
"""timm's names of activations, where they are not ours."""
_PADDINGS: dict[Padding, str] = {"same": "same", "symmetric": ""}
_SUFFIXES = {"relu": "_nre", "relu6": "_nr6", "hard_swish": "_nhs", "swish": "_nsw"}
"""End of the string of a block whose activation is not that of the network."""
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_OTHER = {"bias": "bias", "layer_scale": "gamma"}
_LINEAR = {"norm": "batch", "bias": False}
_STEM = {"kind": "conv", "kernel": 3, "stride": 2, "groups": 1, **_LINEAR}
_HEAD = {**_STEM, "kernel": 1, "stride": 1}

_Names = tuple[str, str]
"""Names of a convolution and of its norm in timm."""
_TimmBlock = tuple[str, dict[str, _Names]]
"""String of a timm block, and names of its layers by our names."""
_CN: _Names = ("conv", "bn1")
_ER: dict[str, _Names] = {"expand": ("conv_exp", "bn1"), "project": ("conv_pwl", "bn2")}
_UIR = {"start_dw": "dw_start", "expand": "pw_exp", "middle_dw": "dw_mid", "project": "pw_proj"}
_UIR_LAYERS = {ours: (f"{name}.conv", f"{name}.bn") for ours, name in _UIR.items()}
_MQA_LAYERS = {
    "norm": ("", "norm"),
    **{name: (f"attn.{name}.proj", "") for name in ("query", "key", "value", "output")},
    **{f"{name}_dw": (f"attn.{name}.down_conv", f"attn.{name}.norm") for name in ("key", "value")},
}


def to_state_dict(spec: ArchSpec, params: Params, stats: Stats) -> dict[str, np.ndarray]:
    """Convert the arrays of a network to the state dict of its timm model.

    timm has a layer scale in all blocks or in none: in a network that has some, blocks without one
    get a scale of 1.

    Args:
      spec: Network without holes.
      params: Its parameters, from `nas.model.network.split`.
      stats: Its statistics of norms, from `nas.model.network.split`.

    Returns:
      float32 arrays by timm's names; counters of batches are int64.

    Raises:
      ValueError: timm cannot express the network.
    """
    plan, state = _plan(spec), {}
    for path, leaf in (*flatten_dict(params).items(), *flatten_dict(stats).items()):
        array = np.asarray(leaf, np.float32)
        flat, axes = _form(path, array.shape)
        state[_key(plan, path)] = np.ascontiguousarray(array.reshape(flat).transpose(axes))
        if path[-1] == "var":
            state[_key(plan, path).replace("running_var", _COUNTER)] = np.zeros((), np.int64)
    return state | {key: np.ones(count, np.float32) for key, count in plan.unscaled.items()}


def from_state_dict(spec: ArchSpec, state: Mapping[str, np.ndarray]) -> tuple[Params, Stats]:
    """Convert the state dict of a timm model to the arrays of a network.

    Norms of timm often have another epsilon (1e-5) than ours; a state dict does not contain it. To
    compute the same, build the network with `LayerConfig(epsilon=...)`.

    Args:
      spec: Network without holes.
      state: Arrays by timm's names; counters of batches are ignored.

    Returns:
      Parameters and statistics of norms, float32, as from `nas.model.network.split`.

    Raises:
      ValueError: timm cannot express the network; or arrays are missing, surplus or of another
        shape or type; or a layer scale is not 1 in a block that has none. The message lists the
        first of them.
    """
    plan = _plan(spec)
    rest = {key: array for key, array in state.items() if not key.endswith(f".{_COUNTER}")}
    problems = []

    def take(key: str, wanted: tuple[int, ...]) -> np.ndarray:
        array = rest.pop(key, None)
        if array is None:
            problems.append(f"{key} {wanted} is missing")
        elif array.shape != wanted:
            problems.append(f"{key} has the shape {array.shape}, not {wanted}")
        elif array.dtype.kind != "f":
            problems.append(f"{key} {wanted} has the type {array.dtype}, not a float")
        else:
            return np.asarray(array, np.float32)
        return np.ones(wanted, np.float32)

    def ours(path: tuple[Any, ...], like: Any) -> np.ndarray:
        flat, axes = _form(path, like.shape)
        array = take(_key(plan, path), tuple(flat[axis] for axis in axes))
        return np.ascontiguousarray(array.transpose(np.argsort(axes)).reshape(like.shape))

    _, *shapes = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))
    params, stats = (
        unflatten_dict({path: ours(path, leaf) for path, leaf in flatten_dict(tree).items()})
        for tree in shapes
    )
    for key, channels in plan.unscaled.items():
        if (take(key, (channels,)) != 1).any():
            problems.append(f"{key} is not 1, and the block has no layer_scale")
    problems += [f"{key} {np.shape(array)} is surplus" for key, array in rest.items()]
    if problems:
        shown = "; ".join(problems[:_SHOWN]) + "; ..." * (len(problems) > _SHOWN)
        raise ValueError(f"{spec.name}: the state dict has {len(problems)} misfits: {shown}")
    return params, stats


def model_arguments(spec: ArchSpec, config: LayerConfig | None = None) -> dict[str, Any]:
    """The arguments with which timm builds a network, as data for JSON.

    "class" is the full name of timm's class, "arguments" has its arguments that are plain data. Of
    the others, `block_args` is `decode_arch_def(arch_def)`, `act_layer` is
    `get_act_layer(activation)`, `norm_layer` is `BatchNorm2d` with the arguments "norm", and
    `round_chs_fn` the identity (timm would round filters to multiples of 8). "image" is [c, h, w].

    "patches" are what `model_code` does besides: "layer_scales" adds these layers, which start at
    "layer_scale" and for which `EfficientNet` has no argument; "feature_info" corrects a method of
    timm's attention that fails, e.g. in front of a stride.

    Args:
      spec: Network without holes.
      config: Hyperparameters of the layers; None for the defaults.

    Returns:
      Nested dicts and lists of texts and numbers.

    Raises:
      ValueError: timm cannot express the network.
    """
    plan, config = _plan(spec), config or LayerConfig()
    blocks: tuple[Any, ...] = spec.blocks
    arguments = {
        "num_classes": spec.classes,
        "in_chans": spec.input_channels,
        "stem_size": blocks[0].filters,
        "fix_stem": True,
        "num_features": 0 if plan.head is None else blocks[plan.head].filters,
        "pad_type": _PADDINGS[spec.padding],
        "drop_rate": spec.head.classifier.dropout,
    }
    if plan.pools_first:
        scale = {"layer_scale_init_value": plan.layer_scale}
        arguments |= {"head_norm": True, "head_bias": False, **scale}
    else:
        arguments["output_stride"] = max(32, math.prod(b.spatial_stride for b in spec.backbone))
    classes = ("efficientnet.EfficientNet", "mobilenetv3.MobileNetV3")
    return {
        "class": f"timm.models.{classes[plan.pools_first]}",
        "arch_def": plan.arch_def,
        "activation": _ACTIVATIONS.get(blocks[0].activation, blocks[0].activation),
        "norm": {"eps": config.epsilon, "momentum": round(1 - config.momentum, 9)},
        "arguments": arguments,
        "layer_scale": plan.layer_scale,
        "patches": plan.patches,
        "image": [spec.input_channels, spec.resolution, spec.resolution],
    }


def model_code(spec: ArchSpec, config: LayerConfig | None = None) -> str:
    """A Python file that builds the network with timm and loads `model.safetensors` beside it.

    Args:
      spec: Network without holes.
      config: Hyperparameters of the layers; None for the defaults.

    Returns:
      Text of the file; it needs torch, timm and safetensors.

    Raises:
      ValueError: timm cannot express the network.
    """
    data = model_arguments(spec, config)
    scaled, corrected = (name in data["patches"] for name in ("layer_scales", "feature_info"))
    module, _, name = data["class"].rpartition(".")
    return _CODE.format(
        spec=spec.name,
        image=data["image"],
        layers="LayerScale2d, get_act_layer" if scaled else "get_act_layer",
        blocks=_BLOCKS if corrected else "",
        module=module,
        name=name,
        arch_def=json.dumps(data["arch_def"], indent=4),
        arguments="".join(f'    "{key}": {value!r},\n' for key, value in data["arguments"].items()),
        activation=data["activation"],
        norm=", ".join(f"{key}={value!r}" for key, value in data["norm"].items()),
        before=_CORRECTION if corrected else "",
        behind=_SCALES.format(value=data["layer_scale"]) if scaled else "",
    )


_CODE = '''"""{spec}, built with timm.

`load()` is the trained model in evaluation mode. It maps images [n, c, h, w], float32 and
normalised as in training, to logits; [c, h, w] is {image}.
"""

import functools
import pathlib

import safetensors.torch
import torch
from timm.layers import {layers}
{blocks}from {module} import {name}, decode_arch_def

ARCH_DEF = {arch_def}
ARGUMENTS = {{
{arguments}}}


def build():
    """The model with random weights."""
{before}    model = {name}(
        block_args=decode_arch_def(ARCH_DEF),
        act_layer=get_act_layer("{activation}"),
        norm_layer=functools.partial(torch.nn.BatchNorm2d, {norm}),
        round_chs_fn=lambda channels: channels,
        **ARGUMENTS,
    )
{behind}    return model


def load(path=pathlib.Path(__file__).with_name("model.safetensors")):
    """The model with the weights of a file, which must fit exactly."""
    model = build()
    model.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return model.eval()
'''
_BLOCKS = "from timm.models._efficientnet_blocks import MobileAttention\n"
_CORRECTION = """    # timm's own method reads a layer that attention does not have
    MobileAttention.feature_info = lambda self, _: dict(module="", num_chs=self.norm.num_features)
"""
_SCALES = """    for block in list(model.blocks.modules()):  # the class has no argument for them
        if hasattr(block, "layer_scale"):
            channels = block.feature_info("bottleneck")["num_chs"]
            block.layer_scale = LayerScale2d(channels, {value})
"""


class _Plan(NamedTuple):
    """Place of a network's blocks in its timm model.

    `head` is the index of timm's `conv_head`; it follows the pooling if `pools_first`. `layers` has
    the names of a layer by its block's index and our name; `unscaled` the channels of layer scales
    that only timm has, by name. See `model_arguments` for the others.
    """

    head: int | None
    pools_first: bool
    arch_def: list[list[str]]
    layers: dict[tuple[int, str], _Names]
    unscaled: dict[str, int]
    layer_scale: float | None
    patches: list[str]


def _plan(spec: ArchSpec) -> _Plan:
    if not spec.is_frozen:
        raise ValueError(f"{spec.name} has holes; freeze it first")
    blocks: tuple[Any, ...] = spec.blocks
    end, pools_first, head = len(spec.backbone), len(spec.head.blocks) > 2, None

    def refuse_if(index: int, problem: str | None, place: str = "") -> None:
        if problem:
            where = f"{spec.name}: blocks[{index}] ({blocks[index].kind})"
            raise ValueError(f"{where}: timm cannot express {problem}{place}; {OTHER_FORMATS} can")

    refuse_if(0, _odd(blocks[0], _STEM), " in the first block")
    default = blocks[0].activation
    layers = {(0, "conv"): ("conv_stem", "bn1"), (len(blocks) - 1, "dense"): ("classifier", "")}
    wanted = {**_HEAD, "activation": default}
    if pools_first:
        head = end + 1
        refuse_if(head, _odd(blocks[head], wanted), " behind the pooling")
        refuse_if(head + 1, "two blocks behind the pooling" * (len(spec.head.blocks) > 3))
        layers[head, "conv"] = ("conv_head", "norm_head")
    elif end > 2 and not _odd(blocks[end - 1], wanted):
        end = head = end - 1
        layers[head, "conv"] = ("conv_head", "bn2")
    refuse_if(0, "a network of one convolution" * (end < 2))
    arch_def: list[list[str]] = []
    scale = next((s for block in blocks if (s := getattr(block, "layer_scale", None))), None)
    unscaled, stride = {}, 2
    patches = {"layer_scales"} if scale and not pools_first else set()
    for index, block, channels, _ in list(spec.walk())[1:end]:
        refuse_if(index, _problem(block, default))
        stride *= block.spatial_stride
        # timm turns further strides into dilation
        refuse_if(index, f"a total stride of {stride}" * (pools_first and stride > 32))
        if not arch_def or block.spatial_stride > 1 or isinstance(block, Conv):
            arch_def.append([])
        for string, names in _timm_blocks(block, channels, default):
            place = f"blocks.{len(arch_def) - 1}.{len(arch_def[-1])}."
            arch_def[-1].append(string)
            for layer, (weight, norm) in {**names, "layer_scale": ("layer_scale", "")}.items():
                layers[index, layer] = (place + weight, place + norm)
            if scale and isinstance(block, UIB | MQA) and block.layer_scale is None:
                unscaled[f"{place}layer_scale.gamma"] = block.out_channels(channels)
        last = index + 1 == end or blocks[index + 1].spatial_stride > 1
        if isinstance(block, MQA) and (last or patches):
            patches.add("feature_info")
    return _Plan(head, pools_first, arch_def, layers, unscaled, scale, sorted(patches))


def _odd(block: Any, wanted: Mapping[str, Any]) -> str | None:
    """First property of a block that is not the wanted one."""
    found = ((name, getattr(block, name, None)) for name in wanted)
    return next((f"{name} {got!r}" for name, got in found if got != wanted[name]), None)


def _problem(block: Any, default: Activation) -> str | None:
    """First property of a block that timm's strings do not have."""
    if isinstance(block, MQA):
        if block.value_dim not in (None, block.key_dim):
            return f"value_dim {block.value_dim} beside key_dim {block.key_dim}"
        return _odd(block, {"query_stride": 1, "output_bias": False})
    if not isinstance(block, Conv | FusedIB | UIB):
        return f"kind {block.kind!r}"
    if isinstance(block, Conv) and (problem := _odd(block, _LINEAR)):
        return problem
    activations = [block.activation]
    if isinstance(block, FusedIB) and block.project_activation != "none":
        activations.append(block.project_activation)
    odd = [name for name in activations if name != default and name not in _SUFFIXES]
    return f"activation {odd[0]!r} where the first block has {default!r}" if odd else None


def _timm_blocks(block: Any, channels: Any, default: Activation) -> list[_TimmBlock]:
    """Blocks of timm for one of ours, mostly one."""

    def end(filters: int, activation: Activation) -> str:
        return f"c{filters}" + ("" if activation == default else _SUFFIXES[activation])

    if isinstance(block, MQA):
        sizes = f"h{block.heads}_s1_v{block.kv_stride}_d{block.key_dim}_c{channels}"
        return [(f"mqa_r1_k{block.kv_kernel}_{sizes}", _MQA_LAYERS)]
    stride, last = f"s{block.stride}", end(block.filters, block.activation)
    if isinstance(block, Conv):
        groups = f"_gs{channels // block.groups}" if block.groups > 1 else ""
        return [(f"cn_r1_k{block.kernel}_{stride}_{last}{groups}", {"conv": _CN})]
    expansion = f"e{float(block.expansion)!r}".removesuffix(".0")
    if isinstance(block, UIB):
        kernels = f"a{block.start_dw}_k{block.middle_dw}"
        return [(f"uir_r1_{kernels}_{stride}_{expansion}_{last}", _UIR_LAYERS)]
    if block.project_activation == "none":
        return [(f"er_r1_k{block.kernel}_{stride}_{expansion}_{last}", _ER)]
    width = end(expanded_width(channels, block.expansion), block.activation)
    project = end(block.filters, block.project_activation)
    expand = f"cn_r1_k{block.kernel}_{stride}_{width}"
    return [(expand, {"expand": _CN}), (f"cn_r1_k1_s1_{project}", {"project": _CN})]


def _key(plan: _Plan, path: tuple[Any, ...]) -> str:
    """Name in timm of an array with our path: "blocks", index, layer, ..., array."""
    weight, norm = plan.layers[path[1:3]]
    if "norm" in path:
        return f"{norm}.{_NORM[path[-1]]}"
    return f"{weight}.{_OTHER.get(path[-1], 'weight')}"


def _form(path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[int]]:
    """Shape of an array as [c], [i, o] or [k, k, i, o], and the order of these axes in timm."""
    if len(shape) == 3:
        a, b, c = shape
        depthwise, output = path[-1] == "kernel", path[-1] == "output"
        shape = (a, b, 1, c) if depthwise else (1, 1, a * b, c) if output else (1, 1, a, b * c)
    return shape, {1: [0], 2: [1, 0], 4: [3, 2, 0, 1]}[len(shape)]
