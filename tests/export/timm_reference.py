"""timm's networks in numpy, from its strings and a state dict alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


def forward(data: dict[str, Any], state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Logits of an image [c, h, w] by timm's strings and state dict."""
    default = ACTIVATIONS[data["activation"]]

    def conv(name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        return convolution(x, state[f"{name}.weight"], stride, data["arguments"]["pad_type"])

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        ends = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, var = (state[f"{name}.{end}"][:, None, None] for end in ends)
        return (x - mean) / np.sqrt(var + data["norm"]["eps"]) * weight + bias

    def uir(at: str, x: np.ndarray, act: Function, k: int, s: int, a: int, **_: str) -> np.ndarray:
        if a:
            x = norm(f"{at}.dw_start.bn", conv(f"{at}.dw_start.conv", x, 1 if k else s))
        x = act(norm(f"{at}.pw_exp.bn", conv(f"{at}.pw_exp.conv", x)))
        if k:
            x = act(norm(f"{at}.dw_mid.bn", conv(f"{at}.dw_mid.conv", x, s)))
        return norm(f"{at}.pw_proj.bn", conv(f"{at}.pw_proj.conv", x))

    def mqa(at: str, x: np.ndarray, act: Function, h: int, v: int, d: int, **_: str) -> np.ndarray:
        x = norm(f"{at}.norm", x)
        query = conv(f"{at}.attn.query.proj", x).reshape(h, d, -1)
        sides = []
        for side in (f"{at}.attn.key", f"{at}.attn.value"):
            small = norm(f"{side}.norm", conv(f"{side}.down_conv", x, 2)) if v == 2 else x
            sides.append(conv(f"{side}.proj", small).reshape(d, -1))
        scores = np.exp(np.einsum("hdn,dm->hnm", query, sides[0]) / np.sqrt(d))
        y = np.einsum("hnm,dm->hdn", scores / scores.sum(-1, keepdims=True), sides[1])
        return conv(f"{at}.attn.output.proj", y.reshape(-1, *x.shape[1:]))

    def er(at: str, x: np.ndarray, act: Function, s: int, **_: str) -> np.ndarray:
        x = act(norm(f"{at}.bn1", conv(f"{at}.conv_exp", x, s)))
        return norm(f"{at}.bn2", conv(f"{at}.conv_pwl", x))

    def cn(at: str, x: np.ndarray, act: Function, s: int, **_: str) -> np.ndarray:
        return act(norm(f"{at}.bn1", conv(f"{at}.conv", x, s)))

    x = default(norm("bn1", conv("conv_stem", x.astype(np.float64), 2)))
    for number, strings in enumerate(data["arch_def"]):
        for place, string in enumerate(strings):
            kind, *parts = string.split("_")
            act = next((SUFFIXES[part] for part in parts if part in SUFFIXES), default)
            options = dict(re.findall(r"_([a-z]+)([\d.]+)", string.replace("_nr6", "")))
            sizes = {name: int(value) for name, value in options.items() if "." not in value}
            at = f"blocks.{number}.{place}"
            y = {"uir": uir, "mqa": mqa, "er": er, "cn": cn}[kind](at, x, act, **sizes)
            if f"{at}.layer_scale.gamma" in state:
                y = y * state[f"{at}.layer_scale.gamma"][:, None, None]
            x = x + y if y.shape == x.shape and kind != "cn" else y
    pools_first = data["class"].endswith("V3")
    x = x.mean((1, 2), keepdims=True) if pools_first else x
    if data["arguments"]["num_features"]:
        x = default(norm("norm_head" if pools_first else "bn2", conv("conv_head", x)))
    return state["classifier.weight"] @ x.mean((1, 2)) + state["classifier.bias"]


def convolution(x: np.ndarray, kernel: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """Convolution of [c, h, w] with [o, i, k, k]; "" is symmetric, "same" has extra pixels last."""
    size, groups = kernel.shape[-1], len(x) // kernel.shape[1]
    pads = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:]]
    ends = [(pad // 2, pad - pad // 2) if padding else (size // 2, size // 2) for pad in pads]
    x = np.pad(x, ((0, 0), *ends))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    windows = windows[:, ::stride, ::stride]
    grouped = windows.reshape(groups, -1, *windows.shape[1:])
    y = np.einsum("gihwkl,goikl->gohw", grouped, kernel.reshape(groups, -1, *kernel.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


ACTIVATIONS: dict[str, Function] = {
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
}
SUFFIXES: dict[str, Function] = {
    "nre": lambda x: np.maximum(x, 0),
    "nr6": relu6,
    "nhs": lambda x: x * relu6(x + 3) / 6,
    "nsw": lambda x: x / (1 + np.exp(-x)),
}
