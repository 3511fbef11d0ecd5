"""Checkpoints; the only module that imports the checkpoint library.

What is resumed together is saved together: the state's arrays, under their paths, with the seconds
that the run has taken; beside it lie the hashes of its files. Of several processes that compute
together the first one writes; the others read the same folder, or a copy of it that was made before
they started.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from nas.host import remote
from search_spaces import files, plain_json

S = TypeVar("S")
_KEEP = 2
_CLOCK = "elapsed_s"
_CUT_OFF = "cut-off-"  # start of the name of a checkpoint that has no hashes
_SHOWN = 3  # differences that a message lists
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Checkpoints:
    """The checkpoints of one run that is going on; use it as a context manager.

    A checkpoint without its hashes is one that a kill cut off, and counts for nothing.

    Args:
      folder: Folder of the checkpoints; created if it does not exist.
      message: Called with a line when a checkpoint is damaged and the one before it is used.
    """

    def __init__(self, folder: pathlib.Path, message: Callable[[str], None] = lambda text: None):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised, too
        self._folder = folder.absolute()
        self._message = message
        if jax.process_index() == 0:
            self._set_aside_cut_off()
        _synchronise("set aside what was cut off")
        with files.writing(folder):
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

    def __exit__(self, kind: Any, *exception: object) -> None:
        with contextlib.suppress(*([Exception] if kind else [])):  # the first error counts
            self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint."""
        found = self._checkpointer.latest
        return None if found is None else int(found.step)

    def save(self, step: int, state: Any, elapsed_s: float) -> None:
        """Save a state atomically; a step that is already saved is left unchanged.

        Args:
          step: Steps done.
          state: Any tree of arrays.
          elapsed_s: Seconds that the run has taken.

        Raises:
          CannotWrite: The disk is full, or the like.
        """
        if self.latest is not None and self.latest >= step:
            return
        # On the host: the library would compile small programs for arrays on a device.
        arrays = _by_path(jax.device_get(state))
        saved = self._folder / str(step)
        if jax.process_index() == 0:
            _check_room(arrays, saved)
        try:
            with _writing(saved):
                self._checkpointer.save(step, {**arrays, _CLOCK: np.float64(elapsed_s)})
        except Exception:
            for unfinished in self._folder.glob(f"{step}.*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        if jax.process_index():
            return
        # Complete from here on; if the process dies before, the checkpoint counts for nothing.
        files.write_atomically(saved / remote.LAST, json.dumps(_hashes(saved), indent=1))
        for path in self._folder.glob(f"{_CUT_OFF}*"):
            shutil.rmtree(path, ignore_errors=True)

    def load(self, like: S) -> tuple[S, float]:
        """The newest intact state; damaged ones are set aside.

        Args:
          like: State of the same structure, e.g. the initial one.

        Returns:
          The state, and the seconds that the run had taken.

        Raises:
          ValueError: The checkpoint has another structure, with what differs; or none is intact.
        """
        while (step := self.latest) is not None:
            try:
                return _load(self._folder / str(step), like)
            except _Damaged as error:
                self._set_aside(step, error)
        raise files.BadFile(_none_whole(self._folder))

    def _set_aside_cut_off(self) -> None:
        """Rename a checkpoint without hashes; it is removed once a newer one is whole."""
        whole = complete_steps(self._folder)
        cut_off = [step for step in steps(self._folder) if step not in whole]
        if len(cut_off) > 1 and not whole:  # no kill leaves two
            raise files.BadFile(
                f"{self._folder}: no checkpoint has its hashes, {remote.LAST}, without which none "
                "is trusted; restore a copy of the folder, or start again in another `workdir`"
            )
        for step in cut_off:
            aside = self._folder / f"{_CUT_OFF}{step}"
            shutil.rmtree(aside, ignore_errors=True)
            (self._folder / str(step)).rename(aside)
            self._message(
                f"checkpoint {step} has no hashes, as after a kill, and is not trusted; the one "
                "before it is used"
            )

    def _set_aside(self, step: int, error: Exception) -> None:
        self._checkpointer.close()
        aside = self._folder / f"damaged-{step}"
        if jax.process_index() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            (self._folder / str(step)).rename(aside)
        if jax.process_count() > 1:  # the others look into the folder only then
            _synchronise(f"set aside {step}")
            if (
                jax.process_index() and (self._folder / str(step)).exists()
            ):  # it is a copy of this machine's own
                shutil.rmtree(self._folder / str(step), ignore_errors=True)
        self._message(
            f"checkpoint {step} is damaged ({error}); it is now {aside}, and the one before it is "
            "used"
        )
        self._checkpointer = self._open()


def load_latest(
    folder: pathlib.Path, like: S, message: Callable[[str], None] = lambda text: None
) -> tuple[S, int]:
    """The newest intact state of a finished run, whose files are not touched.

    Args:
      folder: Folder of the checkpoints.
      like: State of the same structure.
      message: Called with a line when a checkpoint is damaged and the one before it is used.

    Returns:
      The state, and the step of its checkpoint.

    Raises:
      ValueError: There is no checkpoint, none is intact, or it has another structure.
    """
    folder = folder.absolute()
    found = steps(folder)
    if not found:
        raise ValueError(f"{folder}: has no checkpoint")
    for step in reversed(found):
        try:
            return _load(folder / str(step), like)[0], step
        except _Damaged as error:
            message(f"checkpoint {step} in {folder} is damaged ({error}); an earlier one is used")
    raise files.BadFile(_none_whole(folder))


def steps(folder: pathlib.Path) -> list[int]:
    """Steps that a folder has checkpoints of, in rising order.

    Args:
      folder: Folder of the checkpoints.
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def complete_steps(folder: pathlib.Path) -> list[int]:
    """Those of `steps` whose checkpoints have their hashes, which are written last.

    Args:
      folder: Folder of the checkpoints.
    """
    return [step for step in steps(folder) if (folder / str(step) / remote.LAST).exists()]


class _Damaged(Exception):
    """A checkpoint that is not what was written."""


def _load(path: pathlib.Path, like: S) -> tuple[S, float]:
    """The state of one checkpoint, and its seconds; raises _Damaged, or ValueError for another."""
    from orbax.checkpoint import v1 as ocp

    wanted = _by_path(like)
    try:
        _verify(path)
        saved: Any = ocp.metadata(str(path)).metadata
    except Exception as error:  # ours, or whatever the library makes of damaged files
        raise _Damaged(_cause(error)) from None
    _check(
        path.parent,
        {name: tuple(getattr(leaf, "shape", ())) for name, leaf in saved.items()},
        wanted,
    )
    try:
        loaded: Any = ocp.load(str(path), {**wanted, _CLOCK: np.float64(0)})
    except Exception as error:
        raise _Damaged(_cause(error)) from None
    leaves = [jax.numpy.array(loaded[name]) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), float(loaded[_CLOCK])


def _cause(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _none_whole(folder: pathlib.Path) -> str:
    cure = "restore a copy of the folder, or start again in another `workdir`"
    return f"{folder}: no checkpoint is whole; {cure}"


def _synchronise(what: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
    """`files.writing`, also for the library's own errors, which have the system's in a message."""
    try:
        with files.writing(path):
            yield
    except files.CannotWrite:
        raise
    except Exception as error:
        number = _os_error(str(error))
        if number is None:
            raise
        with files.writing(path):
            raise OSError(number, os.strerror(number)) from None


def _os_error(text: str) -> int | None:
    """Number of the system's error that a message is about."""
    if found := re.search(r"os_error_code='(\d+)'", text):
        return int(found[1])
    return next((n for n in _FULL if os.strerror(n).lower() in text.lower()), None)


def _check_room(arrays: dict[str, Any], path: pathlib.Path) -> None:
    """Raise CannotWrite on a full disk, of which the library would print tracebacks."""
    needed = sum(leaf.nbytes for leaf in arrays.values())
    if shutil.disk_usage(path.parent).free < needed:
        with files.writing(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _check(
    folder: pathlib.Path, shapes: dict[str, tuple[int, ...]], wanted: dict[str, Any]
) -> None:
    needed = {path: tuple(leaf.shape) for path, leaf in wanted.items()} | {_CLOCK: ()}
    differences = [
        f"{path} as {shapes.get(path, 'nothing')}, this run needs {needed.get(path, 'nothing')}"
        for path in {**needed, **shapes}
        if shapes.get(path) != needed.get(path)
    ]
    if differences:
        shown = "; ".join(differences[:_SHOWN])
        more = len(differences) - _SHOWN
        raise files.BadFile(
            f"{folder}: the checkpoint has {shown}{f'; and {more} more' * (more > 0)}; it was made "
            "with another configuration or version: give another `workdir`"
        )


def _hashes(step: pathlib.Path) -> dict[str, str]:
    """{file: sha256} of a checkpoint's folder."""
    found = sorted(path for path in step.rglob("*") if path.is_file() and path.name != remote.LAST)
    return {str(path.relative_to(step)): files.sha256(path) for path in found}


def _verify(step: pathlib.Path) -> None:
    """Raise ValueError if a file is not what was written."""
    path = step / remote.LAST
    if not path.exists():
        raise ValueError(f"it has no hashes, {remote.LAST}")
    written = plain_json.parse_object(files.read_text(path), remote.LAST)
    found = _hashes(step)
    if not written:
        raise ValueError(f"{remote.LAST} is empty")
    for name in sorted({*written, *found}):
        if written.get(name) != found.get(name):
            raise ValueError(
                f"{name} {'has changed' if name in found and name in written else 'is missing'}"
            )


def _by_path(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
