"""How a command ends: a user's mistake is one line and exit code 2, never a traceback."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import re
import sys
from collections.abc import Iterator, Mapping

OPTIONS: Mapping[str, str] = {
    "allow_loss": "--allow-loss",
    "architectures": "--architectures",
    "batch": "--batch",
    "by": "--by",
    "clock": "--clock",
    "core": "--core",
    "data": "--data",
    "device": "--device",
    "dtype": "--dtype",
    "evaluations": "--evaluations",
    "finalists": "--finalists",
    "fit_classes": "--fit-classes",
    "format": "--format",
    "html": "--html",
    "held_out": "--held-out",
    "images": "--images",
    "init": "--init",
    "kind": "--kind",
    "learning_rate": "--learning-rate",
    "level": "--level",
    "on": "--on",
    "out": "--out",
    "padding": "--padding",
    "plan": "--plan",
    "quick": "--quick",
    "ray": "--ray",
    "recipe": "--recipe",
    "relevance": "--relevance",
    "rounds": "--seeds",
    "samples": "--samples",
    "seed": "--seed",
    "seeds": "--seeds",
    "separate": "--separate",
    "settings": "--set",
    "source": "--source",
    "space": "--space",
    "stage": "--stage",
    "table": "--table",
    "sheet": "--sheet",
    "size": "--size",
    "targets": "--device",
    "teacher": "--teacher",
    "threshold": "--threshold",
    "tensorboard": "--tensorboard",
    "whole": "--whole",
    "workdir": "--workdir",
    "worker_cpus": "--worker-cpus",
    "worker_gpus": "--worker-gpus",
    "worker_resource": "--worker-resource",
    "workers": "--workers",
}
"""{parameter, as messages of the library name it in backticks: option of the commands}."""

Errors = type[ValueError] | tuple[type[ValueError], ...]

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@contextlib.contextmanager
def one_line_for_users(program: str, errors: Errors = ValueError) -> Iterator[None]:
    """Turn a ValueError, which all checks at the door raise, into one line and exit code 2.

    Workers that are lost again and again are one line too, and exit code 1. Only for loading and
    checking: an error in the middle of a run is ours, and keeps its traceback.

    Args:
      program: Name of the command.
      errors: Errors that become one line; in the middle of a run `in_the_middle()`.
    """
    from nas.cli import messages
    from nas.host.cluster import WorkersLost

    messages.show()
    _end_at_once()
    try:
        yield
    except BrokenPipeError:  # the reader (`| head`) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except WorkersLost as error:
        message = f"{with_options(str(error))}; rerun the same command to resume"
        print(f"{program}: error: {message}", file=sys.stderr)
        raise SystemExit(1) from None
    except errors as error:
        message = " ".join(with_options(str(error)).split())
        print(f"{program}: error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


def in_the_middle() -> Errors:
    """Errors in the middle of a run that a user can cure; others are ours, and keep a traceback."""
    from nas.run.checkpoint import Unusable
    from search_spaces.files import NotWritten

    return NotWritten, Unusable


def with_options(message: str) -> str:
    """A message of the library with options in place of the parameters that it names.

    Args:
      message: The message, with parameters in backticks.
    """
    return re.sub(r"`(\w+)`", lambda match: OPTIONS.get(match[1], match[0]), message)


@functools.cache
def _end_at_once() -> None:
    """Leave to the operating system what is in memory when the command ends.

    Otherwise Python looks through all that JAX keeps for garbage, a second after a search.
    """
    atexit.register(gc.freeze)
