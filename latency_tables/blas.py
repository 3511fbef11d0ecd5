"""The number of threads of numpy's linear algebra."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import pathlib
import threading
from collections.abc import Callable, Iterator

import numpy as np

_LOCK = threading.RLock()  # two users at once would restore each other's number of threads
_PREFIXES, _SUFFIXES = ("scipy_openblas", "openblas"), ("64_", "")


@contextlib.contextmanager
def single_thread() -> Iterator[bool]:
    """Run the body with one thread of linear algebra, and restore the number of threads after it.

    Threads that wait for each other make many small factorisations slow, most of all beside other
    work. The environment variables of BLAS libraries take effect before numpy is imported only, so
    the number is set in the OpenBLAS library that numpy's wheels contain. The number belongs to the
    process: other threads of the process have it, too, while the body runs.

    Yields:
      Whether the number could be set; False with another BLAS library, whose threads stay.
    """
    functions = _thread_functions()
    if functions is None:
        yield False
        return
    get_threads, set_threads = functions
    with _LOCK:
        before = get_threads()
        set_threads(1)
        try:
            yield True
        finally:
            set_threads(before)


def _thread_functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Functions that read and set the number of threads, or None where there is no OpenBLAS."""
    package = pathlib.Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs")  # Linux and Windows; macOS
    for path in (path for folder in folders for path in sorted(folder.glob("*openblas*"))):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for prefix, suffix in itertools.product(_PREFIXES, _SUFFIXES):
            get_threads = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
            set_threads = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
            if get_threads is not None and set_threads is not None:
                return get_threads, set_threads
    return None
