"""What commands print: texts without control characters, and messages of long work."""

from __future__ import annotations

import logging
import sys

from nas.host.terminal import printable

_LOGGERS = ("latency_tables", "nas")


class _StandardError(logging.Handler):
    """Prints where standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(printable(self.format(record)), file=sys.stderr)


def say(text: str = "", *, flush: bool = False) -> None:
    """Print a text on standard output, without control characters.

    Args:
      text: The text.
      flush: Whether it is there at once.
    """
    print(printable(text), flush=flush)


def show() -> None:
    """Print on standard error what the library logs about long work, such as a fit."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
            logger.addHandler(_StandardError())
            logger.setLevel(logging.INFO)
