"""Evaluation of a network while it trains: `summary.csv`, the best weights, early stopping."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import jax

from nas.data.dataset import Readable
from nas.run.folder import TrainFolder
from nas.training import evaluation, weights
from nas.training.program import Training, TrainState
from nas.training.record import AVERAGED, best_of, read_summary
from nas.training.training import Trained, predictor
from search_spaces import files


class Validation:
    """Evaluates a training on held-out images; a callback of `nas.run.loop`.

    The best network, by accuracy, of the raw weights and of the averaged ones is kept in
    `TrainFolder.best`. Evaluations that a checkpoint does not contain are made again, so a resumed
    training ends with the same files.

    Processes that compute together share the images of an evaluation, and so come to the same
    decision; the first one writes.

    Args:
      training: Functions of the training.
      data: Held-out split.
      folder: Gets the rows and the best weights.
      images: Number of training images, for the epochs in the rows.
      message: Called with a line when training stops early.
    """

    def __init__(
        self,
        training: Training,
        data: Readable,
        folder: TrainFolder,
        images: int,
        message: Callable[[str], None] = lambda text: None,
    ):
        self._training = training
        self._data = data
        self._folder = folder
        self._images = images
        self._message = message
        self._rows: list[dict[str, float]] = []
        self._writes = jax.process_index() == 0
        self.every = training.config.evaluation_interval

    @property
    def rows(self) -> list[dict[str, float]]:
        """The evaluations so far, {column: value} each."""
        return self._rows

    def start(self, first_step: int) -> bool:
        """See `nas.run.loop.Callback`.

        Args:
          first_step: Steps done before.
        """
        self._rows = [row for row in read_summary(self._folder) if row["step"] <= first_step]
        if self._rows:
            self._write()
        return self._patience_is_over()

    def __call__(self, step: int, state: TrainState) -> bool:
        """See `nas.run.loop.Callback`.

        Args:
          step: Steps done.
          state: The state after them.
        """
        if self._rows and self._rows[-1]["step"] >= step:
            return False
        config = self._training.config
        row: dict[str, float] = {
            "step": step,
            "epoch": round(step * config.batch / self._images, 4),
        }
        before = max(map(best_of, self._rows), default=-1.0)
        raw = self._trained(state.params, state.stats)
        row |= self._measures(raw)
        winner = raw
        if config.average:
            averaged = self._trained(*self._training.average(state))
            measures = self._measures(averaged)
            row |= {AVERAGED + name: value for name, value in measures.items()}
            if measures["accuracy"] > row["accuracy"]:
                winner = averaged
        self._rows.append(row)
        if best_of(row) > before and self._writes:
            weights.save(winner, self._folder.best)
        self._write()
        if self._patience_is_over():
            self._message(
                f"no better accuracy in {config.patience} evaluations: stopped at step {step}"
            )
            return True
        return False

    def _measures(self, trained: Trained) -> dict[str, float]:
        batch = self._training.config.batch
        return evaluation.evaluate(trained.predict, self._data, batch).scalars

    def _trained(self, params: Any, stats: Any) -> Trained:
        t = self._training
        # On one device: those of a training may be several, and may wait for each other.
        params, stats = jax.device_put(jax.device_get((params, stats)), jax.local_devices()[0])
        predict = predictor(t, params, stats)
        return Trained(t.spec, t.config, t.mean, t.std, params, stats, predict)

    def _patience_is_over(self) -> bool:
        patience = self._training.config.patience
        if not patience or not self._rows:
            return False
        scores = [best_of(row) for row in self._rows]
        return len(scores) - 1 - scores.index(max(scores)) >= patience

    def _write(self) -> None:
        if not self._writes:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self._rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        files.write_atomically(self._folder.summary, text.getvalue())

    def flush(self) -> None:
        """See `nas.run.loop.Callback`; rows are written at once."""

    def close(self) -> None:
        """See `nas.run.loop.Callback`."""
