"""Raw images by name: `builtin:NAME`, `npz:FILE`, `imagefolder:DIR`, `tfds:NAME[:SPLIT]`.

FILE and DIR may be URLs of a store (`imagefolder:s3://bucket/folder`): these are copied into the
cache first. Options may stand behind them: `imagefolder:DIR?exif=off`, see
`nas.data.sources.options`.

To add a source: a module here with a function from the text behind the colon to a `RawDataset`, and
a row in `COLLECTIONS`. Users add theirs with `COLLECTIONS.register`. A source can be distilled, and
searched on directly.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable

from nas.data.collection import RawDataset
from nas.data.sources import options
from nas.data.sources.arrays import open_npz
from nas.data.sources.builtin import BUILTIN, open_builtin
from nas.data.sources.image_folder import open_folder
from nas.data.sources.tfds import open_tfds
from nas.host import remote
from search_spaces.families import Family

__all__ = ["BUILTIN", "COLLECTIONS", "absolute", "open_collection", "split_name"]

COLLECTIONS: Family[Callable[[str], RawDataset]] = Family(
    "data source",
    {
        "builtin": open_builtin,
        "npz": open_npz,
        "imagefolder": open_folder,
        "tfds": open_tfds,
    },
)
_FILES = ("npz", "imagefolder")


def open_collection(source: str) -> RawDataset:
    """Open the raw images of a source.

    Args:
      source: "scheme:rest".

    Returns:
      The raw data set, with the splits that the source has.

    Raises:
      ValueError: The scheme or name is unknown (the message lists the known ones), or the files do
        not fit.
    """
    scheme, rest = split_name(source, COLLECTIONS)
    return COLLECTIONS[scheme](rest)


def absolute(source: str) -> str:
    """Rename a source so that it is found from any working directory.

    Args:
      source: "scheme:rest".

    Returns:
      The same source, with an absolute path where it has a path.

    Raises:
      ValueError: The scheme is unknown.
    """
    if remote.is_url(source):
        return source
    scheme, rest = split_name(source, COLLECTIONS)
    return f"{scheme}:{pathlib.Path(rest).expanduser().absolute()}" if scheme in _FILES else source


def split_name(source: str, known: Iterable[str]) -> tuple[str, str]:
    """Split the name of a source at its colon; data in a store are copied into the cache.

    Args:
      source: "scheme:rest".
      known: Allowed schemes.

    Returns:
      The scheme, and the rest; for data in a store the rest is the path of the copy.

    Raises:
      ValueError: The scheme is unknown.
    """
    scheme, colon, rest = source.partition(":")
    if not colon or scheme not in known:
        raise ValueError(
            f"data source {source!r}: expected {' or '.join(f'{name}:...' for name in known)}"
        )
    if scheme in (*_FILES, "distilled") and remote.is_url(rest):
        path, settings = options.cut(rest)
        return scheme, f"{remote.download_cached(path)}{settings}"
    return scheme, rest
