"""The one builder: a spec becomes a network, a space becomes its supernet."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from nas.model.blocks import module_of
from nas.model.context import LayerSettings, NormMode, Pass
from nas.model.selection import Selection
from search_spaces import ArchSpec, SearchSpace, freeze
from search_spaces.blocks import Attention, Classifier

Arrays = dict[Any, Any]
"""A nested dict of arrays, as `nnx.to_pure_dict` gives it."""


class Network(nnx.Module):
    """A network from [b, h, w, c] images to [b, classes] logits; with a space, the supernet of all its networks."""

    def __init__(self, spec: ArchSpec, space: SearchSpace | None, *, settings: LayerSettings, rngs: nnx.Rngs):
        self.space = space
        self.blocks = nnx.List(
            [module_of(block)(block, channels, settings=settings, rngs=rngs) for _, block, channels, _ in spec.walk()]
        )
        self.spec, self.dtype = spec, settings.dtype

    def __call__(
        self,
        images: jax.Array,
        vector: jax.Array | None = None,
        *,
        mode: NormMode = "running",
        key: jax.Array | None = None,
        stochastic_depth: float = 0.0,
    ) -> jax.Array:
        """Logits.

        Args:
          images: [b, h, w, c], normalised.
          vector: [decisions] int32, for a supernet only; see `Selection`.
          mode: which statistics the norms use. A supernet knows "batch" and "running".
          key: randomness of dropout and stochastic depth; None for neither.
          stochastic_depth: peak rate, see `drop_rates`.

        Returns:
          [b, classes], float32.
        """
        if self.space is not None and mode == "train":
            raise ValueError("a supernet keeps no running statistics: use mode 'batch', or extract a network first")
        selection = Selection(self.space, vector)
        rates = drop_rates(self.spec, stochastic_depth)
        x = images.astype(self.dtype)
        for index, (block, spec) in enumerate(zip(self.blocks, self.spec.blocks, strict=True)):
            now = Pass(selection, mode, None if key is None else jax.random.fold_in(key, index), rates[index])
            x = selection.keep(spec.present, lambda x, block=block, now=now: block(x, now), x)
        return x.astype(jnp.float32)


def drop_rates(spec: ArchSpec, peak: float) -> tuple[float, ...]:
    """Stochastic depth of every block: rate_i = peak * (i + 1) / blocks before the classifier; attention has the peak.

    Source: the released code, which counts stem, pooling and head too and gives attention blocks the peak.
    """
    count = sum(not isinstance(block, Classifier) for block in spec.blocks)
    return tuple(
        peak if isinstance(block, Attention) else min(peak * (index + 1) / count, peak)
        for index, block in enumerate(spec.blocks)
    )


def build_network(spec: ArchSpec, *, rngs: nnx.Rngs, settings: LayerSettings | None = None) -> Network:
    """A stand-alone network.

    Raises:
      ValueError: if the spec has holes.
    """
    if not spec.is_frozen:
        raise ValueError(f"{spec.name} has holes; freeze it first, or build its supernet")
    return Network(spec, None, settings=settings or LayerSettings(), rngs=rngs)


def build_supernet(space: SearchSpace, *, rngs: nnx.Rngs, settings: LayerSettings | None = None) -> Network:
    """The network that contains all networks of a space, with shared weights."""
    return Network(space.spec, space, settings=settings or LayerSettings(), rngs=rngs)


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
    supernet: Network, space: SearchSpace, vector: tuple[int, ...], *, settings: LayerSettings | None = None
) -> Network:
    """The stand-alone network of `vector` with the weights that it has inside the supernet."""
    spec = freeze(space, vector)
    shapes = nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0), settings=settings))
    graph, params, stats = split(shapes)
    _, shared_params, shared_stats = split(supernet)
    return nnx.merge(graph, inherit(shared_params, space, vector, params), inherit(shared_stats, space, vector, stats))
