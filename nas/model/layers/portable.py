"""A mode in which every convolution is XLA's own operation, for files that other tools read.

Elsewhere convolutions differ by platform, 1x1 ones are matrix products, and depthwise ones on CPU
are a call of the C++ library, which no other tool knows.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_ACTIVE: contextvars.ContextVar[bool] = contextvars.ContextVar("portable", default=False)


def active() -> bool:
    """Whether the mode is on, while a function is traced."""
    return _ACTIVE.get()


@contextlib.contextmanager
def convolutions() -> Iterator[None]:
    """Context in which traced convolutions are XLA's own operation."""
    token = _ACTIVE.set(True)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
