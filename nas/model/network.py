"""Builders: from a spec to its network, and from a space to its supernet."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import nnx

from nas.model.blocks import module_of
from nas.model.context import ForwardPass, LayerConfig, NormMode
from nas.model.heads import HEADS, ClassifierHead
from nas.model.selection import Selection
from search_spaces import ArchSpec, SearchSpace, freeze
from search_spaces.blocks import Attention, Classifier

Arrays = dict[Any, Any]
"""Nested dict of arrays, as `nnx.to_pure_dict` makes it."""

Params = Arrays
"""Trainable parameters of a network, or their gradients."""

Stats = Arrays
"""Running statistics of a network's norms."""


class Network(nnx.Module):
    """Network from [b, h, w, c] images to [b, classes] logits, or the supernet of a space.

    Args:
      spec: Spec of the network; with holes if there is a space.
      space: Space whose supernet this is, or None for a network without holes.
      config: Hyperparameters of the layers.
      rngs: Source of the initial weights.
    """

    def __init__(
        self, spec: ArchSpec, space: SearchSpace | None, *, config: LayerConfig, rngs: nnx.Rngs
    ):
        self.space = space
        config = dataclasses.replace(config, padding=spec.padding)
        # One list for backbone and head: its indices are part of every parameter's path.
        self.blocks = nnx.List(
            [
                module_of(block)(block, channels, config=config, rngs=rngs)
                for _, block, channels, _ in spec.walk()
            ]
        )
        self.spec, self.dtype = spec, config.dtype

    def __call__(
        self,
        images: jax.Array,
        vector: jax.Array | None = None,
        *,
        shares: jax.Array | None = None,
        mode: NormMode = "running",
        key: jax.Array | None = None,
        stochastic_depth: float = 0.0,
    ) -> jax.Array:
        """Compute the logits.

        Args:
          images: [b, h, w, c], normalised.
          vector: [decisions] int32, for a supernet only; see `Selection`.
          shares: [decisions, options] float instead of a vector; see `Selection.from_shares`.
          mode: Statistics of the norms; a supernet has "batch" and "running" only.
          key: Random key of dropout and stochastic depth; None disables both.
          stochastic_depth: Peak rate; see `drop_rates`.

        Returns:
          [b, classes], float32.

        Raises:
          ValueError: Images of another shape than the spec's, a mode that the network does not
            have, or decisions that do not fit it.
        """
        forward = self._forward_pass(vector, shares, mode, key, stochastic_depth)
        return self.head(self._run_backbone(images, forward)[-1], forward)

    def features(
        self,
        images: jax.Array,
        vector: jax.Array | None = None,
        *,
        shares: jax.Array | None = None,
        mode: NormMode = "running",
        key: jax.Array | None = None,
        stochastic_depth: float = 0.0,
    ) -> dict[str, jax.Array]:
        """Compute the feature maps of the backbone's endpoints; the head does not run.

        Args:
          images: [b, h, w, c], normalised.
          vector: [decisions] int32, for a supernet only; see `Selection`.
          shares: [decisions, options] float instead of a vector; see `Selection.from_shares`.
          mode: Statistics of the norms; a supernet has "batch" and "running" only.
          key: Random key of stochastic depth; None disables it.
          stochastic_depth: Peak rate; see `drop_rates`.

        Returns:
          [b, h, w, c] of each endpoint, by its name in `ArchSpec.named_endpoints`, in the dtype of
          the network's activations.

        Raises:
          ValueError: As for a call of the network.
        """
        forward = self._forward_pass(vector, shares, mode, key, stochastic_depth)
        outputs = self._run_backbone(images, forward)
        return {name: outputs[index + 1] for name, index in self.spec.named_endpoints.items()}

    @property
    def head(self) -> ClassifierHead:
        """Head of the network: `network.head(features)` are logits."""
        first = len(self.spec.backbone)
        modules = [self.blocks[index] for index in range(first, len(self.blocks))]
        return HEADS[type(self.spec.head)](self.spec.head, modules, first)

    def _forward_pass(
        self,
        vector: jax.Array | None,
        shares: jax.Array | None,
        mode: NormMode,
        key: jax.Array | None,
        stochastic_depth: float,
    ) -> ForwardPass:
        if self.space is not None and mode == "train":
            raise ValueError(
                "a supernet keeps no running statistics: use mode 'batch', or extract a network "
                "first"
            )
        rates = drop_rates(self.spec, stochastic_depth)
        return ForwardPass(self._selection(vector, shares), mode, key, rates)

    def _selection(self, vector: jax.Array | None, shares: jax.Array | None) -> Selection:
        if shares is None:
            return Selection(self.space, vector)
        if vector is not None:
            raise ValueError("got a decision vector and shares; pass one of the two")
        if self.space is None:
            raise ValueError("got shares, but a network without holes takes none")
        return Selection.from_shares(self.space, shares)

    def _run_backbone(self, images: jax.Array, forward: ForwardPass) -> list[jax.Array]:
        """The images, and the output of every block of the backbone."""
        self._check_shape(images)
        outputs = [images.astype(self.dtype)]
        for index, spec in enumerate(self.spec.backbone):
            outputs.append(forward.run(index, self.blocks[index], spec, outputs[-1]))
        return outputs

    def _check_shape(self, images: jax.Array) -> None:
        spec, shape = self.spec, list(images.shape)
        expected = [spec.resolution, spec.resolution, spec.input_channels]
        if len(shape) == 4 and shape[1:] == expected:
            return
        if len(shape) != 4:
            cure = "add the batch axis" if shape == expected else "pass an array of 4 axes"
        elif shape[3] != spec.input_channels:
            cure = "convert them, or change the spec's input_channels"
        else:
            cure = "resize them, or change the spec's resolution"
        kind = "network" if self.space is None else "supernet"
        raise ValueError(
            f"{kind} {spec.name!r} takes images [b, {', '.join(map(str, expected))}], "
            f"got {shape}; {cure}"
        )


def drop_rates(spec: ArchSpec, peak: float) -> tuple[float, ...]:
    """Stochastic depth rate of every block.

    rate_i = peak * (i + 1) / number of blocks before the classifier; attention has the peak

    Args:
      spec: Spec of the network.
      peak: Highest rate, 0..1.

    Returns:
      One rate for each of `spec.blocks`.

    Source: the released code, which counts stem, pooling and head too and gives attention blocks
    the peak.
    """
    count = sum(not isinstance(block, Classifier) for block in spec.blocks)
    return tuple(
        peak if isinstance(block, Attention) else min(peak * (index + 1) / count, peak)
        for index, block in enumerate(spec.blocks)
    )


def build_network(spec: ArchSpec, *, rngs: nnx.Rngs, config: LayerConfig | None = None) -> Network:
    """Build a stand-alone network.

    Args:
      spec: Spec without holes.
      rngs: Source of the initial weights.
      config: Hyperparameters of the layers; None for the defaults.

    Returns:
      The network.

    Raises:
      ValueError: The spec has holes.
    """
    if not spec.is_frozen:
        raise ValueError(f"{spec.name} has holes; freeze it first, or build its supernet")
    return Network(spec, None, config=config or LayerConfig(), rngs=rngs)


def build_supernet(
    space: SearchSpace, *, rngs: nnx.Rngs, config: LayerConfig | None = None
) -> Network:
    """Build the network that contains all networks of a space, with shared weights.

    Args:
      space: Search space.
      rngs: Source of the initial weights.
      config: Hyperparameters of the layers; None for the defaults.

    Returns:
      The supernet.
    """
    return Network(space.spec, space, config=config or LayerConfig(), rngs=rngs)


def split(network: Network) -> tuple[Any, Params, Stats]:
    """Split a network into its structure and its arrays, on which compiled steps work.

    Args:
      network: Network or supernet.

    Returns:
      Graph definition, parameters, and statistics; `nnx.merge` makes a network of them.
    """
    graph, params, stats = nnx.split(network, nnx.Param, ...)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def inherit(
    supernet: Arrays, space: SearchSpace, vector: tuple[int, ...], network: Arrays
) -> Arrays:
    """Cut the parameters (or statistics) of one network out of its supernet's.

    Every array of the network is the prefix, along each axis, of the supernet's array at the same
    path; only the index of a block shifts where blocks before it are absent.

    Args:
      supernet: Parameters or statistics of the supernet, from `split`.
      space: Space of the supernet.
      vector: Decisions of the network.
      network: The same arrays of `build_network(freeze(space, vector))`, which give paths and
        shapes.

    Returns:
      The network's arrays.
    """
    kept = [index for index, present in enumerate(space.present(vector)) if present]
    shapes = network.get("blocks", {})  # a network may have no statistics at all
    blocks = {
        position: _prefix(supernet["blocks"][index], shapes[position])
        for position, index in enumerate(kept)
        if position in shapes
    }
    return {"blocks": blocks} if blocks else {}


def _prefix(large: Any, small: Any) -> Any:
    if isinstance(small, dict):
        return {name: _prefix(large[name], value) for name, value in small.items()}
    return large[tuple(slice(0, n) for n in small.shape)]


def extract(
    supernet: Network,
    space: SearchSpace,
    vector: tuple[int, ...],
    *,
    config: LayerConfig | None = None,
) -> Network:
    """Build the stand-alone network of a decision vector with its weights in the supernet.

    Args:
      supernet: Supernet of the space.
      space: Search space.
      vector: Decisions of the network.
      config: Hyperparameters of the layers; None for the defaults.

    Returns:
      The network.
    """
    spec = freeze(space, vector)
    shapes = nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0), config=config))
    graph, params, stats = split(shapes)
    _, shared_params, shared_stats = split(supernet)
    return nnx.merge(
        graph,
        inherit(shared_params, space, vector, params),
        inherit(shared_stats, space, vector, stats),
    )
