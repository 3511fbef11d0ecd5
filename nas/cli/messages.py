"""Messages of long work in the library, shown by commands."""

from __future__ import annotations

import logging
import sys

_LOGGERS = ("latency_tables", "nas.data")


class _StandardError(logging.Handler):
    """Prints where standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def show() -> None:
    """Print on standard error what the library logs about long work, such as a fit."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
            logger.addHandler(_StandardError())
            logger.setLevel(logging.INFO)
