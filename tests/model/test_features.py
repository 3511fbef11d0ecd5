"""Features of a backbone's endpoints, and the head that turns them into logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.model import heads
from nas.model.network import Network, build_network, extract, split
from search_spaces import ArchSpec, SearchSpace
from search_spaces import heads as spec_heads

# One network for each kind of block.
ZOO = ["mnv4-conv-s", "mnv4-hybrid-m", "mobilenet-v3-large", "convnext-t", "nextvit-s"]


@pytest.mark.parametrize("name", ZOO)
def test_endpoints_have_the_shapes_of_their_blocks_outputs(name: str) -> None:
    spec = search_spaces.zoo(name)
    graph, *arrays = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))
    shape = (2, spec.resolution, spec.resolution, spec.input_channels)
    features = jax.eval_shape(
        lambda arrays, x: nnx.merge(graph, *arrays).features(x),
        arrays,
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    inputs = {index: (2, *size, channels) for index, _, channels, size in spec.walk()}
    assert {name: array.shape for name, array in features.items()} == {
        name: inputs[index + 1] for name, index in spec.named_endpoints.items()
    }
    strides = [spec.resolution // array.shape[1] for array in features.values()]
    assert strides[-1] == 32 and strides == sorted(set(strides))


def _with_endpoints(spec: ArchSpec, endpoints: dict[str, int]) -> ArchSpec:
    return spec.with_blocks(spec.blocks, endpoints=endpoints)


def test_logits_are_the_head_of_the_last_features(
    small_base: ArchSpec, filled: Any, images_for: Callable[[ArchSpec], jax.Array]
) -> None:
    last = len(small_base.backbone) - 1
    spec = _with_endpoints(small_base, {"stem": 0, "last": last})
    network = filled(lambda: build_network(spec, rngs=nnx.Rngs(0)))
    assert isinstance(network.head, heads.ClassifierHead)
    graph, state = nnx.split(network)

    @jax.jit
    def run(state: Any, images: jax.Array) -> Any:
        network = nnx.merge(graph, state)
        features = network.features(images)
        return features, network.head(features["last"]), network(images)

    features, logits, want = run(state, images_for(spec))
    assert set(features) == {"stem", "last"} and features["stem"].shape == (3, 6, 6, 8)
    np.testing.assert_allclose(logits, want, rtol=1e-6)
    assert logits.dtype == jnp.float32


def test_features_need_no_head(
    small_base: ArchSpec, filled: Any, images_for: Callable[[ArchSpec], jax.Array]
) -> None:
    """The classifier's weights are NaN."""
    network = filled(lambda: build_network(small_base, rngs=nnx.Rngs(0)))
    network.blocks[-1].dense.kernel[...] *= jnp.nan
    graph, state = nnx.split(network)

    @jax.jit
    def run(state: Any, images: jax.Array) -> Any:
        network = nnx.merge(graph, state)
        return network.features(images), network(images)

    features, logits = run(state, images_for(small_base))
    assert all(np.isfinite(array).all() for array in features.values())
    assert np.isnan(logits).all()


def test_head_and_backbone_share_one_list_of_blocks(small_base: ArchSpec) -> None:
    """The paths of parameters, which checkpoints and weight files name, count all blocks."""
    network = nnx.eval_shape(lambda: build_network(small_base, rngs=nnx.Rngs(0)))
    _, params, stats = split(network)
    assert list(params) == list(stats) == ["blocks"]
    assert set(params["blocks"]) == {0, 1, 2, 3, 4, 5, 7}, "6 is the pool"


def test_features_of_a_supernet_are_those_of_the_extracted_network(
    spaces: dict[str, SearchSpace],
    randomised: Callable[[SearchSpace], Network],
    distinct_vectors: Callable[[SearchSpace, int], list[tuple[int, ...]]],
    images_for: Callable[[ArchSpec], jax.Array],
) -> None:
    """Up to its width; the supernet's further channels are 0."""
    space = spaces["coarse by stage"]
    supernet, images = randomised(space), images_for(space.spec)
    (vector,) = distinct_vectors(space, 1)
    graph, *arrays = split(supernet)
    shared = jax.jit(lambda x, v: nnx.merge(graph, *arrays).features(x, v, mode="batch"))
    network, *weights = split(extract(supernet, space, vector))
    alone = jax.jit(lambda w, x: nnx.merge(network, *w).features(x, mode="batch"))(weights, images)
    features = shared(images, jnp.asarray(vector, jnp.int32))
    assert list(features) == list(alone)
    for name, want in alone.items():
        width = want.shape[-1]
        np.testing.assert_allclose(features[name][..., :width], want, rtol=1e-4, atol=1e-4)
        assert (features[name][..., width:] == 0).all()


def test_every_head_of_a_spec_has_a_class() -> None:
    assert set(heads.HEADS) == {spec_heads.ClassifierHead}
