"""Metrics as TensorBoard shows them; the one module that knows its library (extra `tensorboard`)."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping


class TensorBoard:
    """A log of scalars as event files, beside `MetricLog`, which stays the record.

    Args:
      folder: of the event files; made if absent. Look at it with `tensorboard --logdir FOLDER`.
      first_step: where the run starts or resumes: TensorBoard forgets what it has of this step and later ones.

    Raises:
      ValueError: the extra is not installed.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        # the library names files by the second: a run resumed at once would write over the one before
        suffix = f".from-{first_step}"
        self._writer = _library().SummaryWriter(str(folder), purge_step=first_step, filename_suffix=suffix)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Hand all events to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def check() -> None:
    """Raise ValueError if the extra is not installed."""
    _library()


def _library():
    try:
        import tensorboardX
    except ImportError:
        raise ValueError('--tensorboard needs the extra tensorboard: pip install "mnv4-nas[tensorboard]"') from None
    return tensorboardX
