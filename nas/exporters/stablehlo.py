"""Networks as StableHLO: one file for CPU, CUDA and TPU, and for any batch size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nas.model.context import LayerConfig
from nas.model.layers import portable
from nas.model.network import Params, Stats, build_network, split
from search_spaces import ArchSpec

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms that a file runs on."""


def network_stablehlo(
    spec: ArchSpec, params: Params, stats: Stats, *, epsilon: float = LayerConfig().epsilon
) -> bytes:
    """Convert a trained network to a serialised `jax.export.Exported`.

    It maps float32 images [b, h, w, c], normalised, to logits [b, classes], for any b. JAX reads
    such files for at least six months after they were written.

    Args:
      spec: Network without holes.
      params: Its parameters, from `nas.model.network.split`.
      stats: Its statistics of norms, from `nas.model.network.split`.
      epsilon: Variance offset of the norms that it was trained with.

    Returns:
      The file.
    """
    config = LayerConfig(epsilon=epsilon)
    graph, _, _ = split(
        nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0), config=config))
    )
    params, stats = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), (params, stats))

    def forward(images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, stats)(images)

    size = spec.resolution
    shape = jax.export.symbolic_shape(f"b, {size}, {size}, {spec.input_channels}")
    argument = jax.ShapeDtypeStruct(shape, jnp.float32)
    with portable.convolutions():
        exported = jax.export.export(jax.jit(forward), platforms=PLATFORMS)(argument)
    return bytes(exported.serialize())


def load(file: bytes) -> Callable[[np.ndarray], jax.Array]:
    """The function of a file.

    Args:
      file: Content of the file.

    Returns:
      From float32 images [b, h, w, c] to logits [b, classes].
    """
    return jax.export.deserialize(bytearray(file)).call
