"""Metrics for TensorBoard; the only module that imports its library (extra `tensorboard`)."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any


class TensorBoard:
    """A log of scalars as event files, beside `MetricLog`, which stays the record.

    Args:
      folder: Folder of the event files; created if it does not exist. View it with
        `tensorboard --logdir FOLDER`.
      first_step: Step at which the run starts or resumes: TensorBoard drops what it has of this
        step and later ones.

    Raises:
      ValueError: The extra is not installed.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        # The library names files by the second: a run that is resumed at once would overwrite them.
        suffix = f".from-{first_step}"
        self._writer = _library().SummaryWriter(
            str(folder), purge_step=first_step, filename_suffix=suffix
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See `nas.run.log.Log`.

        Args:
          step: Number of the step.
          values: Its metrics.
        """
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """See `nas.run.log.Log`."""
        self._writer.flush()

    def close(self) -> None:
        """See `nas.run.log.Log`."""
        self._writer.close()


def check() -> None:
    """Check that the extra is installed.

    Raises:
      ValueError: It is not.
    """
    _library()


def _library() -> Any:
    try:
        import tensorboardX
    except ImportError:
        raise ValueError(
            '`tensorboard` needs the extra tensorboard: pip install "mnv4-nas[tensorboard]"'
        ) from None
    return tensorboardX
