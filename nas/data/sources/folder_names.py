"""Names of folders and files: which are splits, which are not for us, which hold images."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection

SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""{name of a folder: its split}, where nothing has to be said."""

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".pjpeg",
        ".png",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
"""Suffixes of the files that are read, in any case."""

_WORDS = {
    **SPLIT_NAMES,
    "training": "train",
    "trn": "train",
    "valid": "validation",
    "validate": "validation",
    "validating": "validation",
    "dev": "validation",
    "testing": "test",
    "tst": "test",
}
_FILLERS = frozenset(
    [
        "set",
        "sets",
        "data",
        "dataset",
        "split",
        "image",
        "images",
        "img",
        "imgs",
        "photo",
        "photos",
        "picture",
        "pictures",
    ]
)
_SYSTEM_FOLDERS = {
    "__macosx": "folders of macOS (__MACOSX)",
    "@eadir": "folders of a NAS (@eaDir)",
    "@__thumb": "folders of a NAS (@__thumb)",
    "@recycle": "folders of a NAS (@Recycle)",
    "#recycle": "folders of a NAS (#recycle)",
    "#snapshot": "folders of a NAS (#snapshot)",
    "$recycle.bin": "folders of Windows ($RECYCLE.BIN)",
    "system volume information": "folders of Windows (System Volume Information)",
    "lost+found": "folders of the file system (lost+found)",
    "__pycache__": "folders of Python (__pycache__)",
}
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_DISTILLED, _RUN = frozenset({"request.yaml"}), frozenset({"config.yaml"})
_OF_DISTILLED = frozenset({".lock", "manifest.yaml"})
_OF_RUN = frozenset({"checkpoints", "architecture.yaml", "metrics.jsonl", "result.yaml"})


def same(name: str) -> str:
    """A name as it is compared: in Unicode's composed form (NFC).

    Args:
      name: Name of a folder; macOS stores decomposed ones.
    """
    return unicodedata.normalize("NFC", name)


def split_of(name: str) -> str | None:
    """The split that a folder's name means, also loosely: Train, TEST, training, valid, test_set.

    Args:
      name: Name of a folder.
    """
    words = re.findall(r"[^\W\d_]+", same(name).casefold())
    meant = [_WORDS[word] for word in map(_without_filler, words) if word in _WORDS]
    rest = [word for word in words if _without_filler(word) not in _WORDS]
    return meant[0] if len(meant) == 1 and set(rest) <= _FILLERS else None


def _without_filler(word: str) -> str:
    """trainset, testdata: the word in front."""
    for filler in _FILLERS:
        if word.endswith(filler) and word.removesuffix(filler) in _WORDS:
            return word.removesuffix(filler)
    return word


def resembles_split(name: str) -> bool:
    """Whether a name looks like a slip of a split's, e.g. trian, or as a longer one, e.g. my_test.

    Args:
      name: Name of a folder.
    """
    words = re.findall(r"[^\W\d_]+", same(name).casefold())
    return any(
        word in _WORDS or difflib.get_close_matches(word, _WORDS, n=1, cutoff=0.75)
        for word in words
    )


def left_out_folder(name: str) -> str | None:
    """The reason for which a folder is not looked into; None for others.

    Args:
      name: Name of the folder.
    """
    if reason := _SYSTEM_FOLDERS.get(name.casefold()):
        return reason
    return f"hidden folders ({name})" if name.startswith(".") else None


def left_out_file(name: str) -> str | None:
    """The reason for which a file is left out; None for one that should be an image.

    Args:
      name: Name of the file.
    """
    if name.startswith("._"):
        return "companion files of macOS (._*)"
    if name.startswith(".") or name.casefold() in _SYSTEM_FILES:
        return "hidden and system files"
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem:
        return "files without a suffix"
    if f".{suffix.casefold()}" not in SUFFIXES:
        return f".{suffix.casefold()} files"
    return None


def is_output(names: Collection[str]) -> bool:
    """Whether a folder was written by these programs: a distilled data set, or a run.

    Args:
      names: Names of what the folder holds.
    """
    held = set(names)
    return bool((held >= _DISTILLED and held & _OF_DISTILLED) or (held >= _RUN and held & _OF_RUN))
