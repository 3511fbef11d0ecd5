"""What the tests of networks share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

Filled = Callable[[Callable[[], Any]], Any]
MacCounter = Callable[..., tuple[int, int, tuple[int, ...]]]


@pytest.fixture(scope="session")
def filled() -> Filled:
    """filled(build): the module that build() makes, with random arrays (numpy's) none of which is 0 or 1 throughout.

    Nothing is compiled for its initial weights, which is most of the time that a small module takes. Kernels have
    variance 1 / fan_in, means lie in -0.3 to 0.7, all other vectors (variances, scales, biases) in 0.5 to 1.5.
    """

    def fill(build: Callable[[], Any]) -> Any:
        graph, state = nnx.split(nnx.eval_shape(build))
        rng = np.random.default_rng(0)

        def one(path: Any, a: Any) -> np.ndarray:
            if a.ndim > 1:
                values = rng.normal(0, 1 / math.sqrt(math.prod(a.shape[:-1])), a.shape)
            else:
                values = rng.uniform(0.5, 1.5, a.shape) - (0.8 if "mean" in jax.tree_util.keystr(path) else 0)
            return values.astype(a.dtype)

        return nnx.merge(graph, jax.tree_util.tree_map_with_path(one, state))

    return fill


@pytest.fixture(scope="session")
def count_macs() -> MacCounter:
    """count_macs(function, *arguments) -> (MACs of convolutions and dense layers, of products of activations, shape).

    Counted in the traced program, not in specs: an independent witness of what a network computes. A matrix product
    with a batch dimension has no weights among its operands, all others have. The shape is that of the (only) result.
    """

    def count(function: Callable[..., Any], *arguments: Any) -> tuple[int, int, tuple[int, ...]]:
        traced = jax.make_jaxpr(function)(*arguments)
        return *_count(traced.jaxpr), traced.out_avals[0].shape

    return count


def _count(jaxpr: Any) -> tuple[int, int]:
    dense = products = 0
    for equation in jaxpr.eqns:
        name, shapes = equation.primitive.name, [v.aval.shape for v in equation.invars if hasattr(v, "aval")]
        out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if name == "conv_general_dilated":
            assert equation.params["dimension_numbers"].rhs_spec[0] == 3  # kernels are [h, w, in / groups, out]
            dense += out * math.prod(shapes[1][:3])
        elif name == "dot_general":
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            macs = out * math.prod(shapes[0][axis] for axis in contracted)
            dense, products = (dense, products + macs) if batch else (dense + macs, products)
        else:
            inner = [_count(sub) for value in equation.params.values() for sub in _jaxprs(value)]
            if name == "cond" and inner:  # only one branch runs; the stock convolution is one of them
                inner = [max(inner)]
            times = equation.params["length"] if name == "scan" else 1
            dense += times * sum(d for d, _ in inner)
            products += times * sum(p for _, p in inner)
    return dense, products


def _jaxprs(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []
