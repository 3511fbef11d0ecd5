"""Folders on a command line."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.run import remote


def folder(text: str) -> pathlib.Path:
    """A path of this machine. Raises argparse.ArgumentTypeError for a URL, which pathlib would take for one."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is a URL; expected a folder that every machine sees under the same path, e.g. a mounted one"
        )
    return pathlib.Path(text).expanduser()


def place(text: str) -> remote.Folder:
    """The folder that a path or URL means."""
    from nas.run import remote

    return remote.Folder(text)


def only_local(options: argparse.Namespace, option: str, text: str, what: str) -> None:
    """Raises ValueError for a URL with `--ray ADDRESS`, where workers of other machines have to write there too."""
    if "://" in text and options.ray not in (None, "local"):
        raise ValueError(f"{option} {text}: with --ray {options.ray} {what} needs a folder that every machine sees")
