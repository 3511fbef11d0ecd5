"""The loop of a search: one screen of verbs."""

from __future__ import annotations

import collections
import contextlib
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np

from nas.data.prefetch import Ahead
from nas.run import backend
from nas.run.checkpoint import Checkpoints
from nas.run.interrupt import Interrupt
from nas.run.log import Line, Log, MetricLog, Several
from nas.run.tensorboard import TensorBoard
from nas.search.steps import Batch, Search, SearchState

CHECKPOINTS, METRICS, POLICY = "checkpoints", "metrics.jsonl", "policy.jsonl"
_POLICY_ROWS = 100  # about so many rows in the log of the policy, or fewer
_LOG_EVERY = 10  # steps between two looks at the metrics: looking waits for the device
_AHEAD = 2  # steps that may wait for the device


class NotFinite(RuntimeError):
    """The loss or its gradient is not a number; the newest checkpoint is from before it happened."""


def run(
    search: Search,
    read: Callable[[int], Batch],
    folder: pathlib.Path,
    line: Line,
    *,
    seed: int,
    checkpoint_every: int,
    tensorboard: bool = False,
    saved: Callable[[], None] = lambda: None,
) -> tuple[SearchState, float]:
    """Run a search to its end, or on from its newest checkpoint.

    Args:
      search: what to do.
      read: the batch of a step.
      folder: of the stage; gets `checkpoints/`, `metrics.jsonl`, and `policy.jsonl`: the probabilities of all options
        [policies][decisions][options], a hundred times or less often.
      line: shows progress.
      seed: of all randomness.
      checkpoint_every: steps between checkpoints.
      tensorboard: write the metrics as event files in `tensorboard/` too.
      saved: called after each checkpoint.

    Returns:
      The last state, and the seconds that all steps took.

    Raises:
      NotFinite: with the step in which the loss or its gradient stopped being a number.
      KeyboardInterrupt: after saving.
    """
    steps, state = search.settings.steps, search.init(seed)
    images_a_step = search.settings.replicas * read(0).images.shape[1]
    writes = jax.process_index() == 0  # of several processes, all hold the same state and metrics
    root = search.root(seed)

    def on_device(step: int) -> Batch:
        return search.share_out(read(step))

    with (
        Checkpoints(folder / CHECKPOINTS, line.say) as checkpoints,
        Interrupt() as interrupt,
        Ahead(on_device, steps) as batch_of,
    ):
        elapsed = 0.0
        if checkpoints.latest is not None:
            state, elapsed = checkpoints.load(state)
            state = search.place(state)
        first = int(state.step)
        log = _log(folder, first, tensorboard) if writes else Several()
        policy_log = MetricLog(folder / POLICY, first) if writes else Several()
        # only when the metrics are waited for anyway
        policy_every = _LOG_EVERY * max(steps // (_LOG_EVERY * _POLICY_ROWS), 1)
        pending: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()
        begun = time.monotonic()
        recent: collections.deque[tuple[int, float]] = collections.deque(maxlen=20)
        number = first
        try:
            while number < steps:
                if interrupt.requested:
                    raise KeyboardInterrupt
                with backend.compiling() if number == first else contextlib.nullcontext():
                    state, metrics = search.step(state, batch_of(number), root)
                pending.append((number, metrics))
                if len(pending) > _AHEAD:  # each step that waits holds memory for all that it will compute
                    jax.block_until_ready(pending[-1 - _AHEAD][1])
                number += 1
                # ORDER: look at the losses before saving, so that a bad state is never saved
                if number % _LOG_EVERY == 0 or number % checkpoint_every == 0 or number == steps:
                    shown = _write(pending, log)
                    recent.append((number, time.monotonic()))
                    line.show(number, _text(shown, search, images_a_step, recent))
                if number % policy_every == 0 or number == steps:
                    policy_log.write(number - 1, {"probabilities": _probabilities(search, state)})
                if number % checkpoint_every == 0 or number == steps:
                    log.flush()
                    policy_log.flush()
                    checkpoints.save(number, state, elapsed + time.monotonic() - begun)
                    saved()
        except KeyboardInterrupt:  # between two steps: the state is whole
            _write(pending, log)
            log.flush()
            policy_log.flush()
            if not state.step.is_deleted():  # a second Ctrl-C cuts a step off, which has taken the state apart
                checkpoints.save(int(state.step), state, elapsed + time.monotonic() - begun)
            raise
        finally:
            log.close()
            policy_log.close()
        return state, elapsed + time.monotonic() - begun


def _probabilities(search: Search, state: SearchState) -> list[list[list[float]]]:
    """[policies][decisions][options], as the host computes them: no program is compiled for it."""
    logits = np.where(search.controller.mask, np.asarray(state.policy.logits, np.float64), -np.inf)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    shares = odds / odds.sum(-1, keepdims=True)
    counts = search.controller.counts
    return [[[round(float(p), 4) for p in row[:n]] for row, n in zip(one, counts, strict=True)] for one in shares]


def _log(folder: pathlib.Path, first: int, tensorboard: bool) -> Log:
    log = MetricLog(folder / METRICS, first)
    return Several(log, TensorBoard(folder / "tensorboard", first)) if tensorboard else log


def _write(pending: collections.deque[tuple[int, dict[str, jax.Array]]], log: Log) -> dict[str, float]:
    """Write the pending metrics; returns their means. Raises NotFinite."""
    rows = [(step, {name: float(value) for name, value in metrics.items()}) for step, metrics in pending]
    pending.clear()
    for step, row in rows:
        log.write(step, row)
        # a finite loss may have a gradient that is not: then the weights are spoilt, though no loss shows it yet
        bad = [name for name in ("loss", "gradient_norm") if not np.isfinite(row[name])]
        if bad:
            log.flush()
            raise NotFinite(f"the {bad[0].replace('_', ' ')} is {row[bad[0]]} at step {step}")
    return {name: float(np.mean([row[name] for _, row in rows])) for name in rows[0][1]} if rows else {}


def _text(
    shown: dict[str, float], search: Search, images_a_step: int, recent: collections.deque[tuple[int, float]]
) -> str:
    (first, then), (last, now) = recent[0], recent[-1]
    rate = f"{images_a_step * (last - first) / (now - then):.0f} img/s  " if last > first else ""
    costs = "  ".join(
        f"{device.name} {shown[f'cost/{device.name}']:.3g}/{target:.3g} {device.unit}"
        for device, target in zip(search.costs.devices, search.targets, strict=True)
    )
    return (
        f"{rate}reward {shown['reward']:.3f}  accuracy {shown['quality']:.3f}  {costs}  entropy {shown['entropy']:.2f}"
    )
