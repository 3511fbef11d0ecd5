"""Data by name: `builtin:NAME`, `npz:FILE`, `imagefolder:DIR`, `tfds:NAME[:SPLIT]`, `distilled:DIR`.

FILE and DIR may be URLs of a store (`distilled:s3://bucket/folder`): these are copied into the cache first.

To add a source: a module here with a function from the text behind the colon to a `Collection`, and a row in
`COLLECTIONS`. Then it can be distilled, and searched on as it is.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable

from nas.data.collection import Collection, with_all_parts
from nas.data.dataset import Dataset, Readable
from nas.data.sources.arrays import holds_files, load_npz, open_npz
from nas.data.sources.builtin import BUILTIN, load_builtin, open_builtin
from nas.data.sources.image_folder import open_folder
from nas.data.sources.tfds import open_tfds
from nas.run import remote

__all__ = ["BUILTIN", "COLLECTIONS", "load", "open_collection"]

HELD_OUT = 0.1
"""Share of the training images that stands in for a part that a source lacks. Source: ours."""

COLLECTIONS: dict[str, Callable[[str], Collection]] = {
    "builtin": open_builtin,
    "npz": open_npz,
    "imagefolder": open_folder,
    "tfds": open_tfds,
}
_IN_MEMORY: dict[str, Callable[[str], Dataset[Readable]]] = {"builtin": load_builtin, "npz": load_npz}
_DISTILLED = "distilled"
_FILES = ("npz", "imagefolder")
_MIXED = re.compile(r"\+\s*(?=[a-z]+:)")  # paths may have a plus too


def load(source: str, size: int | None = None) -> Dataset[Readable]:
    """A data set to train on, by its text: "scheme:rest", or several distilled ones with weights.

    `distilled:A=1 + distilled:B=1 + distilled:C=2` mixes their training parts in that ratio; the paper's mixture of D1,
    D2 and D3 is 1:1:2 (table 7: 84.9 % for a student that D2 alone brings to 84.1 %).

    Args:
      source: the text.
      size: pixels of a side; needed for sources whose images have sizes of their own.

    Raises:
      ValueError: unknown scheme or name (with the known ones), or data that do not fit.
    """
    if len(texts := _MIXED.split(source)) > 1:
        from nas.data import stored

        parts = [part.strip().rpartition("=") for part in texts]
        if any(
            not text.startswith(f"{_DISTILLED}:") or not weight.isdecimal() or not int(weight)
            for text, _, weight in parts
        ):
            raise ValueError(f"data source {source!r}: a mixture reads `distilled:A=1 + distilled:B=2`, weights from 1")
        return stored.mixed([load(text, size) for text, _, _ in parts], [int(weight) for *_, weight in parts])
    scheme, rest = _parts(source, (*COLLECTIONS, _DISTILLED))
    if scheme == _DISTILLED:
        from nas.data import stored

        return stored.load_distilled(rest)
    if scheme in _IN_MEMORY and not (scheme == "npz" and holds_files(rest)):
        return _IN_MEMORY[scheme](rest)
    if size is None:
        raise ValueError(f"data source {source!r}: holds images of any size; say to which size they are to be brought")
    from nas.data import stored

    return stored.from_photos(with_all_parts(open_collection(source), HELD_OUT), size)


def open_collection(source: str) -> Collection:
    """The raw images of a source, by its text.

    Raises:
      ValueError: unknown scheme or name (with the known ones), or files that do not fit.
    """
    scheme, rest = _parts(source, COLLECTIONS)
    return COLLECTIONS[scheme](rest)


def absolute(source: str) -> str:
    """The same source, named so that it is found from any folder."""
    if remote.is_url(source):
        return source
    scheme, rest = _parts(source, COLLECTIONS)
    return f"{scheme}:{pathlib.Path(rest).expanduser().absolute()}" if scheme in _FILES else source


def _parts(source: str, known: Iterable[str]) -> tuple[str, str]:
    scheme, colon, rest = source.partition(":")
    if not colon or scheme not in known:
        raise ValueError(f"data source {source!r}: expected {' or '.join(f'{name}:...' for name in known)}")
    if scheme in (*_FILES, _DISTILLED) and remote.is_url(rest):
        return scheme, str(remote.fetched(rest))
    return scheme, rest
