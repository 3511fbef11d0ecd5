"""Weights to start from: those of another network, as far as they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nas.model.network import Arrays, split
from nas.run.train_config import TrainConfig
from nas.training.program import build
from search_spaces import ArchSpec

_SHOWN = 3  # arrays that are named in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """Weights of a network that start as those of another one.

    Attributes:
      params: Weights.
      stats: Statistics of norms.
      whole: Arrays that were taken as they are.
      part: Arrays of another size, of which the common part was taken, with both shapes.
      fresh: Arrays that the other network does not have; they are random.
      note: What to know about the other network.
    """

    params: Arrays
    stats: Arrays
    whole: tuple[str, ...]
    part: tuple[str, ...]
    fresh: tuple[str, ...]
    note: str = ""

    def __str__(self) -> str:
        text = f"{len(self.whole)} arrays taken"
        if self.part:
            text += f", {len(self.part)} in part ({_some(self.part)})"
        if self.fresh:
            text += f", {len(self.fresh)} new ({_some(self.fresh)})"
        return f"{text}; {self.note}" if self.note else text


def fit(
    spec: ArchSpec, config: TrainConfig, seed: int, params: Arrays, stats: Arrays, origin: str
) -> Fitted:
    """Start a network from the weights of another one.

    Arrays of one path are compared: of equal shapes all is taken, otherwise the common first part
    along each axis. What is not taken is random, as without a starting point.

    Args:
      spec: The network.
      config: Recipe, for its random weights.
      seed: Random seed of its random weights.
      params: Weights of the other network.
      stats: Statistics of its norms; may be empty.
      origin: What the other network is called in errors.

    Raises:
      ValueError: Nothing fits.
    """
    new = jax.tree.map(np.asarray, split(build(spec, config, seed))[1:])
    found = {**dict(_leaves("", params)), **dict(_leaves("", stats))}
    whole, part, fresh = [], [], []

    def taken(path: Any, leaf: np.ndarray) -> np.ndarray:
        name = _name(path)
        other = found.get(name)
        if other is None or other.ndim != leaf.ndim:
            fresh.append(name)
            return leaf
        if other.shape == leaf.shape:
            whole.append(name)
            return np.asarray(other, leaf.dtype)
        part.append(f"{name} {list(leaf.shape)} of {list(other.shape)}")
        common = tuple(slice(0, min(sizes)) for sizes in zip(leaf.shape, other.shape, strict=True))
        out = leaf.copy()
        out[common] = other[common]
        return out

    params, stats = (jax.tree_util.tree_map_with_path(taken, tree) for tree in new)
    if not whole and not part:
        raise ValueError(
            f"`init`: no array of {origin} fits {spec.name}; give weights of a similar network, or "
            "leave `init` out"
        )
    return Fitted(params, stats, tuple(whole), tuple(part), tuple(fresh))


def _leaves(prefix: str, tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield prefix + _name(path), np.asarray(leaf)


def _name(path: Any) -> str:
    return ".".join(str(getattr(key, "key", key)) for key in path)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
