"""Folders on a command line."""

from __future__ import annotations

import argparse
import pathlib


def folder(text: str) -> pathlib.Path:
    """A path of this machine. Raises argparse.ArgumentTypeError for a URL, which pathlib would take for one."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is a URL; expected a folder that every machine sees under the same path, e.g. a mounted one"
        )
    return pathlib.Path(text).expanduser()
