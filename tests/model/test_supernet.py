"""A supernet computes, for every decision vector, the network that the vector freezes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.model.context import NormMode
from nas.model.network import Network, build_supernet, extract, inherit, split
from search_spaces import ArchSpec, SearchSpace, freeze

TOLERANCE = 1e-5
"""Largest error relative to the largest output: the same sums, perhaps in another order."""

Vectors = Callable[[SearchSpace, int], list[tuple[int, ...]]]
Images = Callable[[ArchSpec], jax.Array]
Parse = Callable[[str], ArchSpec]

EQUALITY = [
    *(
        pytest.param(
            name, ("batch", "running"), 8, marks=pytest.mark.slow, id=f"{name}, 8 networks"
        )
        for name in (
            "coarse by stage",
            "coarse by block",
            "fine",
            "one stage",
            "hybrid",
            "alternatives",
        )
    ),
    *(
        pytest.param(name, ("batch",), 1, id=name)
        for name in ("coarse by block", "one stage", "hybrid")
    ),
    pytest.param("alternatives", ("batch", "running"), 1, id="alternatives"),
]
"""Space, modes of the norms, and number of extracted networks that are compiled.

The slow rows repeat the quick ones.
"""


@pytest.mark.parametrize(("name", "modes", "extracted"), EQUALITY)
def test_a_supernet_equals_the_extracted_network(
    spaces: dict[str, SearchSpace],
    randomised: Callable[[SearchSpace], Network],
    distinct_vectors: Vectors,
    images_for: Images,
    name: str,
    modes: tuple[NormMode, ...],
    extracted: int,
) -> None:
    space = spaces[name]
    supernet, images = randomised(space), images_for(space.spec)
    graph, *arrays = split(supernet)
    shared = {
        mode: jax.jit(lambda x, v, mode=mode: nnx.merge(graph, *arrays)(x, v, mode=mode))
        for mode in modes
    }
    outputs = []
    vectors = distinct_vectors(space, extracted + 1)
    for vector in vectors:
        outputs += [
            np.asarray(shared[mode](images, jnp.asarray(vector, jnp.int32))) for mode in modes
        ]
    # the test could not fail if decisions changed nothing
    for i, output in enumerate(outputs):
        assert all(np.abs(output - other).max() > 1e-3 for other in outputs[:i])
    for position, vector in enumerate(vectors[:extracted]):
        network = extract(supernet, space, vector)
        alone, *weights = split(network)
        both = jax.jit(
            lambda w, x, alone=alone: [nnx.merge(alone, *w)(x, mode=mode) for mode in modes]
        )(weights, images)
        for mode, got, want in zip(modes, outputs[len(modes) * position :], both, strict=False):
            error = np.abs(got - want).max() / np.abs(want).max()
            assert error <= TOLERANCE, (vector, mode, error)


def _check_unused(shared: Any, used: Any, path: tuple[Any, ...] = ()) -> int:
    """Assert that `shared` is 0 outside the prefix that `used` is, and count those numbers."""
    if isinstance(shared, dict):
        return sum(
            _check_unused(value, (used or {}).get(key), (*path, key))
            for key, value in shared.items()
        )
    rest = np.array(shared)
    if used is not None:
        rest[tuple(slice(0, n) for n in used.shape)] = 0
    assert (rest == 0).all(), path
    return rest.size - (used.size if used is not None else 0)


def test_only_the_parameters_of_the_chosen_network_get_gradients(
    randomised: Callable[[SearchSpace], Network], images_for: Images, parse: Parse
) -> None:
    space = SearchSpace(
        parse("""
name: alternatives
resolution: 5
blocks:
- {kind: conv, filters: {one_of: [16, 8], name: width}}
- {kind: uib, filters: {one_of: [16, 8], name: width}, start_dw: {one_of: [0, 3], name: kernel},
   middle_dw: 0, present: {one_of: [true, false], name: kind}}
- {kind: fused_ib, filters: {one_of: [16, 8], name: width}, kernel: 1,
   expansion: {one_of: [2.0, 3.0], name: expansion}, present: {one_of: [false, true], name: kind}}
- {kind: pool}
- {kind: classifier, classes: 3}
""")
    )
    supernet, images = randomised(space), images_for(space.spec)
    graph, params, stats = split(supernet)

    def loss(logits: jax.Array) -> jax.Array:
        return (jnp.sin(jnp.arange(logits.size)).reshape(logits.shape) * logits).sum()

    @jax.jit
    @jax.grad
    def gradient(params: Any, vector: jax.Array) -> jax.Array:
        return loss(nnx.merge(graph, params, stats)(images, vector, mode="batch"))

    for chosen in (
        {"width": 1, "kernel": 1, "kind": 0, "expansion": 0},
        {"width": 0, "kernel": 1, "kind": 1, "expansion": 0},
    ):
        vector = space.vector(chosen)
        alone, weights, statistics = split(extract(supernet, space, vector))
        want = jax.jit(
            jax.grad(
                lambda w, a=alone, s=statistics: loss(nnx.merge(a, w, s)(images, mode="batch"))
            )
        )(weights)
        shared = gradient(params, jnp.asarray(vector, jnp.int32))
        scale = max(float(jnp.abs(a).max()) for a in jax.tree.leaves(want))
        jax.tree.map(
            lambda got, want: np.testing.assert_allclose(got, want, atol=1e-4 * scale),  # noqa: B023
            inherit(shared, space, vector, weights),
            want,
        )
        kept = [index for index, present in enumerate(space.present(vector)) if present]
        used = {index: want["blocks"][i] for i, index in enumerate(kept) if i in want["blocks"]}
        assert _check_unused(shared, {"blocks": used}) > 0.2 * sum(
            a.size for a in jax.tree.leaves(shared)
        )


def test_warm_up_averages_presence(
    randomised: Callable[[SearchSpace], Network], images_for: Images, parse: Parse
) -> None:
    """Index = number of options: the mean over them, also of the logits: the block is the last."""
    space = SearchSpace(
        parse("""
name: last-depth
resolution: 6
blocks:
- {kind: conv, filters: 8}
- {kind: uib, filters: 8, present: {one_of: [true, false], name: depth}}
- {kind: pool}
- {kind: classifier, classes: 3}
""")
    )
    supernet, images = randomised(space), images_for(space.spec)
    graph, *arrays = split(supernet)
    run = jax.jit(lambda v: nnx.merge(graph, *arrays)(images, v, mode="running"))
    options = [run(jnp.array([index])) for index in range(2)]
    np.testing.assert_allclose(run(jnp.array([2])), (options[0] + options[1]) / 2, atol=1e-5)
    assert np.abs(options[0] - options[1]).max() > 0.01


def test_the_largest_network_has_every_shared_weight(
    spaces: dict[str, SearchSpace], randomised: Callable[[SearchSpace], Network]
) -> None:
    """In a coarse space that is all; in a fine one all but the depthwise layers of other sizes."""
    for name in ("coarse by stage", "coarse by block", "fine"):
        space = spaces[name]
        supernet = randomised(space)
        _, large, _ = split(supernet)
        largest = tuple(decision.largest for decision in space.decisions)
        assert all(space.present(largest))
        _, small, _ = split(extract(supernet, space, largest))
        large_leaves, small_leaves = (
            dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (large, small)
        )
        for path, array in large_leaves.items():
            if "dw" not in jax.tree_util.keystr(path) or name != "fine":
                np.testing.assert_array_equal(array, small_leaves[path])
        assert set(small_leaves) <= set(large_leaves)


def _shared_fraction(space: SearchSpace) -> float:
    """Fraction of a supernet's parameters outside of depthwise options, computed from shapes."""
    _, params, _ = split(nnx.eval_shape(lambda: build_supernet(space, rngs=nnx.Rngs(0))))
    sizes = [
        (jax.tree_util.keystr(p), a.size) for p, a in jax.tree_util.tree_leaves_with_path(params)
    ]
    return sum(size for path, size in sizes if "_dw" not in path) / sum(size for _, size in sizes)


def test_the_forms_of_uib_share_their_weights(
    small_32: ArchSpec, conv_m: ArchSpec, distinct_vectors: Vectors
) -> None:
    """More than 95 % of the parameters of a sampled network are shared by all networks.

    Of the supernets' own parameters less is shared, because they hold four depthwise layers in each
    block: these figures are ours. Source of the 95 %: paper section 3. A few networks of this space
    fall below, down to 94.8 % where every depthwise layer is there and 5x5.
    """
    space = search_spaces.fine_space(conv_m)
    assert _shared_fraction(space) == pytest.approx(0.928, abs=5e-4)
    assert _shared_fraction(search_spaces.fine_space(small_32)) == pytest.approx(0.741, abs=5e-4)
    _, supernet, _ = split(nnx.eval_shape(lambda: build_supernet(space, rngs=nnx.Rngs(0))))
    shared = sum(
        a.size
        for p, a in jax.tree_util.tree_leaves_with_path(supernet)
        if "_dw" not in jax.tree_util.keystr(p)
    )
    for vector in distinct_vectors(space, 20):
        assert shared / search_spaces.params(freeze(space, vector)) > 0.95


def test_a_network_may_be_left_without_statistics(
    randomised: Callable[[SearchSpace], Network], images_for: Images, parse: Parse
) -> None:
    """The only block with weights besides the classifier is optional, and absent."""
    space = SearchSpace(
        parse("""
name: optional-only
resolution: 4
blocks:
- {kind: conv, filters: 3, present: {one_of: [true, false], name: depth}}
- {kind: pool}
- {kind: classifier, classes: 2}
""")
    )
    supernet, images = randomised(space), images_for(space.spec)
    got = extract(supernet, space, (1,))(images)
    np.testing.assert_allclose(got, supernet(images, jnp.array([1])), atol=1e-6)
