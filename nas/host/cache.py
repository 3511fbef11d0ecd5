"""Folder for data that can be recreated: compiled programs, built libraries, downloads."""

from __future__ import annotations

import os
import pathlib


def folder() -> pathlib.Path:
    """The cache: $MNV4_NAS_CACHE, else $XDG_CACHE_HOME/mnv4-nas, else ~/.cache/mnv4-nas.

    Returns:
      The path; the folder may not exist yet.
    """
    if explicit := os.environ.get("MNV4_NAS_CACHE"):
        return pathlib.Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "mnv4-nas"
