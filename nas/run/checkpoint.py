"""Checkpoints; the only module that imports the checkpoint library.

What is resumed together is saved together: the state's arrays, under their paths, with the seconds
that the run has taken; beside it lie the hashes of its files. Of several processes that compute
together the first one writes; the others read the same folder, or a copy of it that was made before
they started.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from nas.host import remote
from search_spaces import files

S = TypeVar("S")
_KEEP = 2
_CLOCK = "elapsed_s"
_SHOWN = 3  # differences that a message lists


class Unusable(ValueError):
    """Error of checkpoints from which a run cannot be resumed."""


class Checkpoints:
    """The checkpoints of one run; use it as a context manager.

    Args:
      folder: Folder of the checkpoints; created if it does not exist.
      message: Called with a line when a checkpoint is damaged and the one before it is used.
    """

    def __init__(self, folder: pathlib.Path, message: Callable[[str], None] = lambda text: None):
        # The library logs every save, and with tracebacks what it raises.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = folder.absolute()
        self._message = message
        self._failed = False
        self._checkpointer = self._open()

    def _open(self) -> Any:
        from orbax.checkpoint import v1 as ocp

        policies: Any = ocp.training  # its policies do not fit its own protocols
        return policies.Checkpointer(
            self._folder,
            save_decision_policy=policies.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.preservation_policies.LatestN(_KEEP),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception: object) -> None:
        # The library raises the error of a failed save once more.
        with contextlib.suppress(*(Exception,) * self._failed):
            self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        found = self._checkpointer.latest
        return None if found is None else int(found.step)

    def save(self, step: int, state: Any, elapsed_s: float) -> None:
        """Save a state atomically; a step that is already saved is left unchanged.

        Args:
          step: Steps done.
          state: Any tree of arrays.
          elapsed_s: Seconds that the run has taken.

        Raises:
          search_spaces.files.NotWritten: The disk is full, or refuses; older checkpoints are kept.
        """
        if self.latest is not None and self.latest >= step:
            return
        # On the host: the library would compile small programs for arrays on a device.
        arrays = _by_path(jax.device_get(state))
        path = self._folder / str(step)
        if jax.process_index() == 0:
            _check_room(arrays, path)
        try:
            self._checkpointer.save(step, {**arrays, _CLOCK: np.float64(elapsed_s)})
        except Exception as error:
            self._failed = True
            for unfinished in self._folder.glob(f"{step}.*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            code = error.errno if isinstance(error, OSError) else _os_error(error)
            if code is None:
                raise
            raise files.NotWritten(code, os.strerror(code), str(path)) from error
        if jax.process_index():
            return
        # Complete from here on; if the process dies now, it is not verified when it is read.
        files.write_atomically(path / remote.LAST, json.dumps(_hashes(path), indent=1))

    def load(self, like: S) -> tuple[S, float]:
        """The newest intact state; damaged ones are set aside.

        Args:
          like: State of the same structure, e.g. the initial one.

        Returns:
          The state, and the seconds that the run had taken.

        Raises:
          Unusable: The checkpoint has another structure, with what differs; or none is intact.
        """
        wanted = _by_path(like)
        while (step := self.latest) is not None:
            try:
                _verify(self._folder / str(step))
                saved = self._checkpointer.metadata(step).metadata
            except Exception as error:  # ours, or whatever the library makes of damaged files
                self._set_aside(step, error)
                continue
            self._check(
                {path: tuple(getattr(leaf, "shape", ())) for path, leaf in saved.items()}, wanted
            )
            try:
                loaded = self._checkpointer.load(step, {**wanted, _CLOCK: np.float64(0)})
            except Exception as error:
                self._set_aside(step, error)
                continue
            leaves = [jax.numpy.array(loaded[path]) for path in wanted]
            return jax.tree.unflatten(jax.tree.structure(like), leaves), float(loaded[_CLOCK])
        raise Unusable(f"{self._folder}: no checkpoint is whole; start again in another `workdir`")

    def _set_aside(self, step: int, error: Exception) -> None:
        self._checkpointer.close()
        aside = self._folder / f"damaged-{step}"
        if jax.process_index() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            (self._folder / str(step)).rename(aside)
        if jax.process_count() > 1:  # the others look into the folder only then
            multihost_utils.sync_global_devices(f"set aside {step}")
            if (
                jax.process_index() and (self._folder / str(step)).exists()
            ):  # it is a copy of this machine's own
                shutil.rmtree(self._folder / str(step), ignore_errors=True)
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        self._message(
            f"checkpoint {step} is damaged ({why}); it is now {aside}, and the one before it is "
            "used"
        )
        self._checkpointer = self._open()

    def _check(self, shapes: dict[str, tuple[int, ...]], wanted: dict[str, Any]) -> None:
        needed = {path: tuple(leaf.shape) for path, leaf in wanted.items()} | {_CLOCK: ()}
        differences = [
            f"{path} as {shapes.get(path, 'nothing')}, this run needs {needed.get(path, 'nothing')}"
            for path in {**needed, **shapes}
            if shapes.get(path) != needed.get(path)
        ]
        if differences:
            shown = "; ".join(differences[:_SHOWN])
            more = len(differences) - _SHOWN
            raise Unusable(
                f"{self._folder}: the checkpoint has {shown}{f'; and {more} more' * (more > 0)}; "
                "it was made with another configuration or version: give another `workdir`"
            )


def _os_error(error: Exception) -> int | None:
    """Number of the system's error that the library has in a message only."""
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else None


def _check_room(arrays: dict[str, Any], path: pathlib.Path) -> None:
    """Raise NotWritten on a full disk, of which the library would print tracebacks."""
    needed = sum(leaf.nbytes for leaf in arrays.values())
    if shutil.disk_usage(path.parent).free < needed:
        raise files.NotWritten(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _hashes(step: pathlib.Path) -> dict[str, str]:
    """{file: sha256} of a checkpoint's folder."""
    files = sorted(path for path in step.rglob("*") if path.is_file() and path.name != remote.LAST)
    return {
        str(path.relative_to(step)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def _verify(step: pathlib.Path) -> None:
    """Raise ValueError if a file is not what was written."""
    path = step / remote.LAST
    if not path.exists():
        return
    written, found = json.loads(path.read_text(encoding="utf-8")), _hashes(step)
    for name in sorted({*written, *found}):
        if written.get(name) != found.get(name):
            raise ValueError(
                f"{name} {'has changed' if name in found and name in written else 'is missing'}"
            )


def _by_path(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
