"""Where what can be made again is kept."""

from __future__ import annotations

import os
import pathlib


def folder() -> pathlib.Path:
    """$MNV4_NAS_CACHE, else $XDG_CACHE_HOME/mnv4-nas, else ~/.cache/mnv4-nas."""
    if own := os.environ.get("MNV4_NAS_CACHE"):
        return pathlib.Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "mnv4-nas"
