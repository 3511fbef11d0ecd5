"""How a command ends: a user's mistake is one line and exit code 2, never a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from nas.run.cluster import Lost


@contextlib.contextmanager
def one_line_for_users(program: str) -> Iterator[None]:
    """Turn a ValueError of the code inside (what all checks at the door raise) into one line and exit code 2.

    What is lost on a cluster again and again is one line too, and exit code 1.

    Only for loading and checking: an error in the middle of a run is ours, and keeps its traceback.
    """
    try:
        yield
    except BrokenPipeError:  # whoever reads (`| head`) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Lost as error:
        print(f"{program}: error: {error}; the same command goes on with what is kept", file=sys.stderr)
        raise SystemExit(1) from None
    except ValueError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
