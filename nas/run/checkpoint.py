"""Checkpoints: the one module that knows the checkpoint library.

What is resumed together is saved together: the state's arrays, under their paths, with the seconds that the run has
taken.
"""

from __future__ import annotations

import logging
import pathlib
from typing import Any, TypeVar

import jax
import numpy as np

S = TypeVar("S")
_KEEP = 2
_CLOCK = "elapsed_s"


class Checkpoints:
    """The checkpoints of one run; use it as a context manager.

    Args:
      folder: made if absent.
    """

    def __init__(self, folder: pathlib.Path):
        logging.getLogger("absl").setLevel(logging.ERROR)  # the library narrates every save
        from orbax.checkpoint import v1 as ocp

        policies: Any = ocp.training  # its policies do not fit its own protocols
        self._folder = folder
        self._checkpointer = policies.Checkpointer(
            folder.absolute(),
            save_decision_policy=policies.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.preservation_policies.LatestN(_KEEP),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        found = self._checkpointer.latest
        return None if found is None else int(found.step)

    def save(self, step: int, state: Any, elapsed_s: float) -> None:
        """Save a state (any tree of arrays) atomically; a step that is already saved is left alone."""
        if self.latest is not None and self.latest >= step:
            return
        arrays = jax.device_get(state)  # the library would compile several small programs for each array on a device
        self._checkpointer.save(step, {**_by_path(arrays), _CLOCK: np.float64(elapsed_s)})

    def load(self, like: S) -> tuple[S, float]:
        """The newest state, and the seconds the run had taken.

        Args:
          like: a state of the same structure, e.g. the initial one.

        Raises:
          ValueError: if the checkpoint is of another structure, with what differs.
        """
        wanted = _by_path(like)
        self._check(wanted)
        loaded = self._checkpointer.load(None, {**wanted, _CLOCK: np.float64(0)})
        leaves = [jax.numpy.array(loaded[path]) for path in wanted]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), float(loaded[_CLOCK])

    def _check(self, wanted: dict[str, Any]) -> None:
        saved = self._checkpointer.metadata(None).metadata
        shapes = {path: tuple(leaf.shape) for path, leaf in saved.items() if path != _CLOCK}
        needed = {path: tuple(leaf.shape) for path, leaf in wanted.items()}
        for path in {**needed, **shapes}:
            if shapes.get(path) != needed.get(path):
                raise ValueError(
                    f"{self._folder}: the checkpoint has {path} as {shapes.get(path, 'nothing')}, this run needs "
                    f"{needed.get(path, 'nothing')}; it was made with another configuration or version"
                )


def _by_path(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
