"""Folders and names on a command line."""

from __future__ import annotations

import argparse
import pathlib

STAGES = "coarse, fine, hybrid or one-stage"
"""Names of the stages for help texts.

A test holds them equal to the table, which is not imported for --help.
"""


def folder(text: str) -> pathlib.Path:
    """Parse a path of this machine.

    Args:
      text: As given.

    Raises:
      argparse.ArgumentTypeError: It is a URL, which pathlib would take for a path.
    """
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is a URL; expected a folder that every machine sees under the same path, "
            "e.g. a mounted one"
        )
    return pathlib.Path(text).expanduser()


def only_local(options: argparse.Namespace, option: str, text: str, what: str) -> None:
    """Refuse a URL with `--ray ADDRESS`, where workers of other machines have to write there too.

    Args:
      options: Parsed options.
      option: The option with the folder.
      text: The folder as given.
      what: What needs it, for the message.

    Raises:
      ValueError: It is one.
    """
    if "://" in text and options.ray not in (None, "local"):
        raise ValueError(
            f"{option} {text}: with --ray {options.ray} {what} needs a folder that every machine "
            "sees"
        )
