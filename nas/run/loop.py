"""The one loop of everything that trains: resumable, interruptible, logged, data-parallel."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import jax
import numpy as np

from nas.data.prefetch import Prefetcher
from nas.host import backend
from nas.host.interrupt import DeferredInterrupt
from nas.host.progress import Progress
from nas.run.checkpoint import Checkpoints
from nas.run.folder import LoopFolder
from nas.run.log import Log, MetricLog, MultiLog
from nas.run.replicas import Replicas
from nas.run.tensorboard import TensorBoard

_LOG_EVERY = 10  # steps between two looks at the metrics: looking waits for the device
_AHEAD = 2  # steps that may wait for the device
_FINITE = ("loss", "gradient_norm")  # metrics that must stay finite, where a program has them
_RATE_WINDOW = 20  # looks over which images per second are averaged

State = TypeVar("State", bound="SteppedState")
Batch = TypeVar("Batch", contravariant=True)


class SteppedState(Protocol):
    """A state that counts its steps."""

    @property
    def step(self) -> jax.Array:
        """Steps done, [] int32."""
        ...


class Program(Protocol[State, Batch]):
    """A program of the loop: a state, and pure functions that advance it."""

    @property
    def steps(self) -> int:
        """Length of the run."""
        ...

    @property
    def images_per_step(self) -> int:
        """Training images of one step, over all replicas."""
        ...

    @property
    def replicas(self) -> Replicas:
        """The shares of a step, and their devices."""
        ...

    def init(self, seed: int) -> State:
        """The state before the first step.

        Args:
          seed: Random seed.
        """
        ...

    def step(
        self, state: State, batch: Batch, root_key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """Advance a state, which is donated.

        Args:
          state: The state.
          batch: Batch of this step.
          root_key: Random key of the run; a step derives its own by `fold_in(root_key,
            state.step)`.

        Returns:
          The new state, and scalars to log.
        """
        ...

    def summary(self, means: Mapping[str, float]) -> str:
        """One line for people about the latest steps.

        Args:
          means: Mean of each metric.
        """
        ...


class Callback(Protocol):
    """An observer of the state.

    Attributes:
      every: Steps between two calls; a multiple of 10 costs no extra wait for the device.
    """

    every: int

    def start(self, first_step: int) -> bool | None:
        """Prepare for a run that starts, or resumes, at a step.

        Args:
          first_step: Steps done before.

        Returns:
          True if the run has been stopped by this callback before.
        """
        ...

    def __call__(self, step: int, state: Any) -> bool | None:
        """Look at the state.

        Args:
          step: Steps done.
          state: The state after them.

        Returns:
          True to stop the run here; of several processes all must return the same.
        """
        ...

    def flush(self) -> None:
        """Hand everything to the operating system: a checkpoint follows."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class NotFinite(RuntimeError):
    """The loss or its gradient is not finite; the newest checkpoint is from before that step."""


def run(
    program: Program[State, Batch],
    read: Callable[[int], Batch],
    progress: Progress,
    *,
    seed: int,
    folder: LoopFolder | None = None,
    checkpoint_every: int = 100,
    callbacks: Sequence[Callback] = (),
    tensorboard: bool = False,
    saved: Callable[[], None] = lambda: None,
) -> tuple[State, float]:
    """Run a program to its end, from the start or from its newest checkpoint.

    A run that is killed at any moment and started again ends bit-identical to one that was never
    stopped.

    Args:
      program: What to run.
      read: Batch of a step, with a leading axis over this process's replicas.
      progress: Where progress goes; its total is the program's steps.
      seed: Random seed.
      folder: Gets checkpoints and metrics; None keeps nothing, so an interrupted run starts again.
      checkpoint_every: Steps between two checkpoints.
      callbacks: Called every few steps, in each of several processes that has them; one that may
        stop the run must be in all of them.
      tensorboard: Also write the metrics as TensorBoard event files.
      saved: Called after each checkpoint.

    Returns:
      The final state, or that at which a callback stopped the run; and the seconds that all steps
      took, those of earlier sessions included.

    Raises:
      NotFinite: With the step at which the loss or its gradient stopped being finite.
      KeyboardInterrupt: After a checkpoint was written.
    """
    steps = program.steps
    state = program.init(seed)
    root_key = program.replicas.root_key(seed)
    # Of several processes all hold the same state and metrics; the first one writes them.
    writes = jax.process_index() == 0 and folder is not None

    def on_device(step: int) -> Any:
        return program.replicas.shard(read(step))

    with (
        contextlib.ExitStack() as stack,
        DeferredInterrupt() as interrupt,
        Prefetcher(on_device, steps) as batch_of,
    ):
        checkpoints = None
        elapsed = 0.0
        if folder is not None:
            checkpoints = stack.enter_context(Checkpoints(folder.checkpoints, progress.message))
            if checkpoints.latest is not None:
                state, elapsed = checkpoints.load(state)
                state = program.replicas.replicate(state)
        first = int(state.step)
        log = _metric_log(folder, first, tensorboard) if writes and folder else MultiLog()
        stopped = any([callback.start(first) for callback in callbacks])
        pending: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()
        recent: collections.deque[tuple[int, float]] = collections.deque(maxlen=_RATE_WINDOW)
        begun = time.monotonic()
        number = observed = first

        def seconds() -> float:
            return elapsed + time.monotonic() - begun

        def flush() -> None:
            log.flush()
            for callback in callbacks:
                callback.flush()

        try:
            while number < steps and not stopped:
                if interrupt.requested:
                    raise KeyboardInterrupt
                with backend.compiling() if number == first else contextlib.nullcontext():
                    state, metrics = program.step(state, batch_of(number), root_key)
                pending.append((number, metrics))
                # Each step that waits for the device holds memory for all that it will compute.
                if len(pending) > _AHEAD:
                    jax.block_until_ready(pending[-1 - _AHEAD][1])
                number += 1
                last = number == steps
                # ORDER: look at the losses before saving, so that a bad state is never saved.
                if number % _LOG_EVERY == 0 or number % checkpoint_every == 0 or last:
                    means = _write(pending, log)
                    recent.append((number, time.monotonic()))
                    rate = _rate(recent, program.images_per_step)
                    progress.update(number, rate + program.summary(means))
                for callback in callbacks:
                    if number % callback.every == 0 or last:
                        stopped = bool(callback(number, state)) or stopped
                observed = number
                if checkpoints and (number % checkpoint_every == 0 or last or stopped):
                    flush()
                    checkpoints.save(number, state, seconds())
                    saved()
        except KeyboardInterrupt:
            # Between two steps the state is whole; a second Ctrl-C cuts a step off, whose state has
            # been donated, or callbacks, which a resumed run would not call again for this step.
            _write(pending, log)
            flush()
            if checkpoints and number == observed and not state.step.is_deleted():
                checkpoints.save(int(state.step), state, seconds())
            raise
        finally:
            log.close()
            for callback in callbacks:
                callback.close()
        return state, seconds()


def _metric_log(folder: LoopFolder, first: int, tensorboard: bool) -> Log:
    log = MetricLog(folder.metrics, first)
    return MultiLog(log, TensorBoard(folder.tensorboard, first)) if tensorboard else log


def _write(
    pending: collections.deque[tuple[int, dict[str, jax.Array]]], log: Log
) -> dict[str, float]:
    """Write the pending metrics; returns their means. Raises NotFinite."""
    rows = [
        (step, {name: float(value) for name, value in metrics.items()}) for step, metrics in pending
    ]
    pending.clear()
    for step, row in rows:
        log.write(step, row)
        # A finite loss may have a gradient that is not: the weights are spoilt before any loss
        # shows it.
        bad = [name for name in _FINITE if name in row and not np.isfinite(row[name])]
        if bad:
            log.flush()
            raise NotFinite(f"the {bad[0].replace('_', ' ')} is {row[bad[0]]} at step {step}")
    if not rows:
        return {}
    return {name: float(np.mean([row[name] for _, row in rows])) for name in rows[0][1]}


def _rate(recent: collections.deque[tuple[int, float]], images_per_step: int) -> str:
    (first, earlier), (last, now) = recent[0], recent[-1]
    if last == first:
        return ""
    return f"{images_per_step * (last - first) / (now - earlier):.0f} img/s  "
