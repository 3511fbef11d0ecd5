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
from typing import NoReturn

from nas.host.terminal import printable

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

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@contextlib.contextmanager
def one_line_for_users(program: str) -> Iterator[None]:
    """Turn a ValueError, which all checks at the door raise, into one line and exit code 2.

    Workers that are lost again and again are one line too, and exit code 1. Only for loading and
    checking: see `one_line_for_files` for the middle of a run.

    Args:
      program: Name of the command.
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
        _end(program, message, 1)
    except OSError as error:  # also `CannotWrite`, which is a ValueError too
        _end(program, _of_the_system(error), 2)
    except ValueError as error:
        _end(program, with_options(str(error)), 2)


@contextlib.contextmanager
def one_line_for_files(program: str) -> Iterator[None]:
    """Turn a full disk or a damaged file in the middle of a run into one line.

    The exit code is 1 for what the operating system refuses, after which a run is resumed. It
    is 2 for a file that has to be restored. Other errors are ours, and keep their traceback.

    Args:
      program: Name of the command.
    """
    from search_spaces.files import BadFile

    try:
        yield
    except OSError as error:
        _end(program, f"{_of_the_system(error)}; rerun the same command to resume", 1)
    except BadFile as error:
        _end(program, with_options(str(error)), 2)


def _of_the_system(error: OSError) -> str:
    """What the operating system refuses, and where."""
    if error.errno is None:
        return with_options(str(error))
    where = f"{error.filename2 or error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}"


def _end(program: str, message: str, code: int) -> NoReturn:
    print(f"{program}: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(code) from None


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
