"""The one builder: a spec becomes a network, a space becomes its supernet."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from nas.model.layers.blocks import MODULES
from nas.model.layers.norm import NormMode, NormSettings
from nas.model.selection import Selection
from search_spaces import ArchSpec, SearchSpace, freeze

Arrays = dict[Any, Any]
"""A nested dict of arrays, as `nnx.to_pure_dict` gives it."""


class Network(nnx.Module):
    """A network from [b, h, w, c] images to [b, classes] logits; with a space, the supernet of all its networks."""

    def __init__(self, spec: ArchSpec, space: SearchSpace | None, *, norm: NormSettings, rngs: nnx.Rngs):
        self.space = space
        self.blocks = nnx.List(
            [MODULES[type(block)](block, channels, norm=norm, rngs=rngs) for _, block, channels, _ in spec.walk()]
        )
        self.presence = tuple(block.present for block in spec.blocks)

    def __call__(
        self,
        images: jax.Array,
        vector: jax.Array | None = None,
        *,
        mode: NormMode = "running",
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits.

        Args:
          images: [b, h, w, c], normalised.
          vector: [decisions] int32, for a supernet only; see `Selection`.
          mode: which statistics the norms use. A supernet knows "batch" and "running".
          key: randomness of dropout; None for no dropout.

        Returns:
          [b, classes].
        """
        if self.space is not None and mode == "train":
            raise ValueError("a supernet keeps no running statistics: use mode 'batch', or extract a network first")
        selection = Selection(self.space, vector)
        x = images
        for block, present in zip(self.blocks, self.presence, strict=True):
            x = selection.keep(present, lambda x, block=block: block(x, selection, mode, key), x)
        return x


def build_network(spec: ArchSpec, *, rngs: nnx.Rngs, norm: NormSettings | None = None) -> Network:
    """A stand-alone network.

    Raises:
      ValueError: if the spec has holes.
    """
    if not spec.is_frozen:
        raise ValueError(f"{spec.name} has holes; freeze it first, or build its supernet")
    return Network(spec, None, norm=norm or NormSettings(), rngs=rngs)


def build_supernet(space: SearchSpace, *, rngs: nnx.Rngs, norm: NormSettings | None = None) -> Network:
    """The network that contains all networks of a space, with shared weights."""
    return Network(space.spec, space, norm=norm or NormSettings(), rngs=rngs)


def split(network: Network) -> tuple[Any, Arrays, Arrays]:
    """(graph definition, parameters, statistics), the latter two as nested dicts of arrays: what the steps work on."""
    graph, params, stats = nnx.split(network, nnx.Param, ...)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def inherit(supernet: Arrays, space: SearchSpace, vector: tuple[int, ...], network: Arrays) -> Arrays:
    """The weights (or statistics) that a network of the space has inside its supernet.

    Every array of the network is the prefix, along each axis, of the supernet's array at the same path; only the
    index of a block shifts where blocks before it are absent.

    Args:
      supernet: parameters or statistics of the supernet, from `split`.
      space, vector: which network.
      network: the same of `build_network(freeze(space, vector))`: gives paths and shapes.
    """
    kept = [index for index, present in enumerate(space.present(vector)) if present]
    places = network.get("blocks", {})  # a network may have no statistics at all
    blocks = {
        place: _prefix(supernet["blocks"][index], places[place]) for place, index in enumerate(kept) if place in places
    }
    return {"blocks": blocks} if blocks else {}


def _prefix(large: Any, small: Any) -> Any:
    if isinstance(small, dict):
        return {name: _prefix(large[name], value) for name, value in small.items()}
    return large[tuple(slice(0, n) for n in small.shape)]


def extract(
    supernet: Network, space: SearchSpace, vector: tuple[int, ...], *, norm: NormSettings | None = None
) -> Network:
    """The stand-alone network of `vector` with the weights that it has inside the supernet."""
    network = build_network(freeze(space, vector), rngs=nnx.Rngs(0), norm=norm)
    graph, params, stats = split(network)
    _, shared_params, shared_stats = split(supernet)
    return nnx.merge(graph, inherit(shared_params, space, vector, params), inherit(shared_stats, space, vector, stats))
