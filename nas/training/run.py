"""A training from its record to its result, in this process or in several that compute together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils

from nas.data import load
from nas.data.dataset import Dataset, Readable
from nas.host import backend
from nas.host.progress import Progress
from nas.model.network import Arrays
from nas.run.folder import TrainFolder
from nas.run.versions import machine, versions
from nas.training import evaluation, training, validation, weights
from nas.training.record import AVERAGED, TrainMeasures, TrainRecord, best_of, confusion_text
from nas.training.training import Trained
from search_spaces import ArchSpec, files, yaml_io


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """A training that has been checked; it can be pickled.

    Attributes:
      spec: The network.
      record: What decides the result; `run` adds versions and machine.
      folder: Folder of the training.
      initial: Weights and statistics of norms to start from; None: random weights.
    """

    spec: ArchSpec
    record: TrainRecord
    folder: TrainFolder
    initial: tuple[Arrays, Arrays] | None


def run(
    request: Request, data: Dataset[Readable], progress: Progress, *, tensorboard: bool = False
) -> Trained:
    """Train, or resume, and evaluate the best network once on the test split.

    Processes that compute together all call this; the first one writes.

    Args:
      request: The training.
      data: Its data.
      progress: Where progress goes; its total is the number of steps.
      tensorboard: Also write the metrics as TensorBoard event files.

    Returns:
      The best network, by its accuracy on the validation split.

    Raises:
      KeyboardInterrupt: After a checkpoint was written.
      nas.run.loop.NotFinite: The loss is not finite.
    """
    record, folder = request.record, request.folder
    first = jax.process_index() == 0
    if first and not folder.record.exists():
        made = record.model_copy(update={"versions": versions(), "machine": machine()})
        files.write_atomically(folder.record, yaml_io.to_yaml(made, defaults=True))
    callbacks: list[validation.Validation] = []

    def validating(program: Any) -> list[validation.Validation]:
        count = len(data.train)
        callbacks.append(
            validation.Validation(program, data.validation, folder, count, progress.message)
        )
        return callbacks

    trained = training.train(
        request.spec,
        data.train,
        record.recipe,
        mean=data.mean,
        std=data.std,
        seed=record.seed,
        folder=folder,
        progress=progress,
        tensorboard=tensorboard,
        initial=request.initial,
        callbacks=validating,
    )
    if first:
        weights.save(trained, folder.last)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("trained")  # the first process has written the best
    best = weights.load(folder.best)
    on_test = evaluation.evaluate(best.predict, data.test, record.recipe.batch)
    if first:
        _write_result(folder, callbacks[0].rows, on_test, trained.seconds, data.class_names)
    return best


def run_worker(request: Request, processes: int, tensorboard: bool, progress: Progress) -> None:
    """Train in one of several processes that compute together.

    See `nas.host.cluster.run_distributed`.

    Args:
      request: The training.
      processes: Number of processes.
      tensorboard: Also write the metrics as TensorBoard event files.
      progress: Where progress goes.

    Raises:
      ValueError: This machine has other data.
    """
    record = request.record
    backend.prepare(max(record.recipe.replicas // processes, 1))
    data = load.load_dataset(record.data, request.spec.resolution)
    if data.fingerprint != record.dataset_hash:
        raise ValueError(
            f"`data` {record.data}: a machine of the cluster has other files there (fingerprint "
            f"{data.fingerprint[:12]}, here {record.dataset_hash[:12]}); copy the same ones to all"
        )
    run(request, data, progress, tensorboard=tensorboard)


def _write_result(
    folder: TrainFolder,
    rows: Sequence[dict[str, float]],
    on_test: evaluation.Evaluation,
    seconds: float,
    classes: Sequence[str],
) -> None:
    row = max(rows, key=best_of)  # the first of equal ones, whose weights are kept
    averaged = row.get(f"{AVERAGED}accuracy", -1.0) > row["accuracy"]
    prefix = AVERAGED if averaged else ""
    measures = TrainMeasures(
        steps=int(rows[-1]["step"]),
        best_step=int(row["step"]),
        averaged=averaged,
        validation={name: row[prefix + name] for name in on_test.scalars},
        test=on_test.scalars,
        test_images=on_test.images,
        seconds=round(seconds, 1),
    )
    files.write_atomically(folder.confusion, confusion_text(on_test.confusion, classes))
    files.write_atomically(folder.result, yaml_io.to_yaml(measures, defaults=True))
