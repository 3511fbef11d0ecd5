"""Shapes and dtypes of policies, costs, inputs and losses, checked while they run.

See `checked` in tests/conftest.py. The axes of a call have different lengths, so that a transposed
array cannot pass.

Letters: b images, h height, w width, c channels, k classes, r replicas, d decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, Int32, TypeCheckError, UInt8

import latency_tables
from latency_tables import cost_model
from nas.engine import warmup
from nas.searchers.reinforce import Controller
from nas.tasks import classification, inputs
from search_spaces import SearchSpace

Checked = Callable[..., Callable[..., Any]]
Row = tuple[Callable[..., Any], dict[str, Any], Callable[..., Any]]
"""A function, the shapes of its parameters and result, and a call of it."""


def zeros(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.zeros(shape, dtype)


def images(*shape: int) -> jax.Array:
    return zeros(*shape, dtype=jnp.uint8)


def vectors(space: SearchSpace, replicas: int = 5) -> jax.Array:
    return zeros(replicas, len(space.decisions), dtype=jnp.int32)


POLICY: dict[str, Row] = {
    "sample": (
        Controller.sample,
        {"returns": Int32[Array, "{replicas} {len(self.counts)}"]},
        lambda f, policy, space: f(policy, policy.init(), jax.random.key(0), 5),
    ),
    "probabilities": (
        Controller.probabilities,
        {"returns": Float32[Array, "{len(self.counts)} {self.counts.max()}"]},
        lambda f, policy, space: f(policy, policy.init()),
    ),
    "entropy": (
        Controller.entropy,
        {"returns": Float32[Array, "{len(self.counts)}"]},
        lambda f, policy, space: f(policy, policy.init()),
    ),
    "active": (
        Controller.active,
        {"vectors": Int32[Array, "*r {len(self.counts)}"], "returns": Bool[Array, "*r _"]},
        lambda f, policy, space: f(policy, vectors(space)),
    ),
    "log_probability": (
        Controller.log_probability,
        {"vectors": Int32[Array, "*r {len(self.counts)}"], "returns": Float32[Array, "*r"]},
        lambda f, policy, space: f(policy, policy.init(), vectors(space)),
    ),
    "update": (
        Controller.update,
        {"vectors": Int32[Array, "r {len(self.counts)}"], "rewards": Float32[Array, "r"]},
        lambda f, policy, space: f(policy, policy.init(), vectors(space), zeros(5), 0.1),
    ),
    "warm": (
        warmup.warm,
        {
            "vectors": Int32[Array, "r {len(space.decisions)}"],
            "p": Float32[Array, ""],
            "returns": Int32[Array, "r {len(space.decisions)}"],
        },
        lambda f, policy, space: f(space, vectors(space), jax.random.key(0), jnp.float32(0.5)),
    ),
    "warm-up probability": (
        warmup.probability,
        {"step": Int32[Array, ""], "returns": Float32[Array, ""]},
        lambda f, policy, space: f(jnp.int32(3), 10, 0.25),
    ),
}


@pytest.mark.parametrize("name", POLICY)
def test_policy_and_warm_up(name: str, tiny_space: SearchSpace, checked: Checked) -> None:
    function, shapes, call = POLICY[name]
    policy = Controller.build(tiny_space)
    jax.eval_shape(lambda: call(checked(function, **shapes), policy, tiny_space))


GATHER = {
    "table": Float[Array, "features entries"],
    "offsets": Int[Array | np.ndarray, "blocks"],
    "strides": Int[Array | np.ndarray, "blocks d"],
    "vectors": Int32[Array, "*r d"],
    "returns": Float[Array, "*r features"],
}


def test_costs(tiny_space: SearchSpace, checked: Checked) -> None:
    devices = [latency_tables.device(name) for name in ("macs", "params")]
    costs = cost_model.CostModel.build(tiny_space, devices)
    model = checked(
        cost_model.CostModel.__call__,
        vectors=Int[np.ndarray, "*r {len(self.space.decisions)}"],
        returns=Float64[np.ndarray, "*r {len(self.devices)}"],
    )
    model(costs, np.zeros((5, len(tiny_space.decisions)), int))
    totals = checked(
        cost_model.CostModel.totals,
        sums=Float[Array, "*r {len(self.table)}"],
        returns=Float[Array, "*r {len(self.devices)}"],
    )
    totals(costs, zeros(5, len(costs.table)))
    gather = checked(cost_model.gather, **GATHER)
    table = jnp.asarray(costs.table, jnp.float32)
    gather(table, costs.offsets, costs.strides, vectors(tiny_space))
    with pytest.raises(TypeCheckError, match="vectors"):
        gather(table, costs.offsets, costs.strides, vectors(tiny_space).T)


LOSSES: dict[str, Row] = {
    "normalise": (
        inputs.normalise,
        {"images": UInt8[Array, "*b h w c"], "returns": Float32[Array, "*b h w c"]},
        lambda f: f(images(2, 5, 4, 3), 0.5, 0.25),
    ),
    "flip": (
        inputs.flip,
        {"images": UInt8[Array, "b h w c"], "returns": UInt8[Array, "b h w c"]},
        lambda f: f(images(2, 5, 4, 3), jax.random.key(0)),
    ),
    "noisy": (
        inputs.noisy,
        {"x": Float32[Array, "b h w c"], "returns": Float32[Array, "b h w c"]},
        lambda f: f(zeros(2, 5, 4, 3), 0.1, jax.random.key(0)),
    ),
    "adversarial": (
        inputs.adversarial,
        {"x": Float32[Array, "b h w c"], "returns": Float32[Array, "b h w c"]},
        lambda f: f(jnp.sum, zeros(2, 5, 4, 3), 0.1),
    ),
    "cross_entropy": (
        classification.cross_entropy,
        {
            "logits": Float[Array, "b k"],
            "targets": Float32[Array, "b k"],
            "returns": Float32[Array, ""],
        },
        lambda f: f(zeros(5, 3), zeros(5, 3), 0.1),
    ),
    "quality": (
        classification.Classification.quality,
        {
            "outputs": Float[Array, "b k"],
            "reference": Int[Array, "b"],
            "returns": Float32[Array, ""],
        },
        lambda f: f(
            classification.Classification(3, soft=False), zeros(5, 3), zeros(5, dtype=jnp.int32)
        ),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_inputs_and_losses(name: str, checked: Checked) -> None:
    function, shapes, call = LOSSES[name]
    jax.eval_shape(lambda: call(checked(function, **shapes)))


def test_a_transposed_batch_of_vectors_is_caught(tiny_space: SearchSpace, checked: Checked) -> None:
    """[r, d] given as [d, r]: JAX alone clamps the indices and returns wrong flags."""
    policy = Controller.build(tiny_space)
    transposed = vectors(tiny_space).T
    assert policy.active(transposed).shape == (6, 6), "silently wrong"
    with pytest.raises(TypeCheckError, match="vectors"):
        checked(Controller.active, **POLICY["active"][1])(policy, transposed)
    for name in ("log_probability", "update", "warm"):
        function, shapes, call = POLICY[name]

        def with_transposed(*arguments: Any, function: Any = function, shapes: Any = shapes) -> Any:
            arguments = tuple(
                a.T if isinstance(a, jax.Array) and a.ndim == 2 else a for a in arguments
            )
            return checked(function, **shapes)(*arguments)

        with pytest.raises(TypeCheckError, match="vectors"):
            call(with_transposed, policy, tiny_space)


def test_a_broadcast_batch_of_labels_is_caught(checked: Checked) -> None:
    """[b, 1] labels: JAX alone compares every image with every label."""
    task = classification.Classification(3, soft=False)
    function, shapes, _ = LOSSES["quality"]
    column = zeros(5, 1, dtype=jnp.int32)
    assert task.quality(zeros(5, 3), column).shape == (), "silently wrong"
    with pytest.raises(TypeCheckError, match="reference"):
        checked(function, **shapes)(task, zeros(5, 3), column)


def test_a_transposed_result_is_caught(checked: Checked) -> None:
    def transpose(x: jax.Array) -> jax.Array:
        return x.T

    shapes = {"x": Float[Array, "r b"], "returns": Float[Array, "r b"]}
    checked(transpose, **shapes)(zeros(3, 3))
    with pytest.raises(TypeCheckError, match="return value"):
        checked(transpose, **shapes)(zeros(3, 2))
