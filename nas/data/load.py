"""Data sets by name: sources of `nas.data.sources`, `distilled:DIR`, and mixtures of the latter."""

from __future__ import annotations

import re
from collections.abc import Callable

from nas.data import door, mixture, photos
from nas.data.collection import with_all_splits
from nas.data.dataset import Dataset, Readable
from nas.data.distilled import split
from nas.data.sources import COLLECTIONS, open_collection, split_name
from nas.data.sources.arrays import holds_files, load_npz
from nas.data.sources.builtin import load_builtin
from nas.host import shared
from search_spaces.families import Family

HELD_OUT = 0.1
"""Share of the training images that is held out for a split that a source lacks. Source: ours."""
_DISTILLED = "distilled"
_CUSTOM = "custom:"
_IN_MEMORY: dict[str, Callable[[str], Dataset[Readable]]] = {
    "builtin": load_builtin,
    "npz": load_npz,
}
# A plus separates two sources only where a scheme follows, because paths may have one too.
_SEPARATOR = re.compile(r"\+\s*(?=[a-z]+:)")

DATASETS: Family[Dataset[Readable]] = Family("data set", {})
"""Data sets of users, by their source text; worker processes get them too."""


def load_dataset(source: str | Dataset[Readable], size: int | None = None) -> Dataset[Readable]:
    """Load a data set to train on.

    `distilled:A=1 + distilled:B=1 + distilled:C=2` mixes the training splits in that ratio; the
    paper's mixture of D1, D2 and D3 is 1:1:2 (table 7: 84.9 % for a student that reaches 84.1 %
    with D2 alone).

    Args:
      source: "scheme:rest"; several distilled sets with weights; a text that `register_dataset`
        returned; or a data set, which is returned unchanged.
      size: Side of the square images in pixels; needed for sources whose images differ in size.

    Returns:
      The data set.

    Raises:
      ValueError: The scheme or name is unknown (the message lists the known ones), or the data do
        not fit.
    """
    if isinstance(source, Dataset):
        return source
    data = _load(source, size)
    door.say(data.notes)
    return data


def _load(source: str, size: int | None) -> Dataset[Readable]:
    if source.startswith(_CUSTOM):
        return _custom(source)
    if len(terms := _SEPARATOR.split(source)) > 1:
        return _load_mixture(source, terms, size)
    scheme, rest = split_name(source, (*COLLECTIONS, _DISTILLED))
    if scheme == _DISTILLED:
        return split.load_distilled(rest)
    if scheme in _IN_MEMORY and not (scheme == "npz" and holds_files(rest)):
        return _IN_MEMORY[scheme](rest)
    if size is None:
        raise ValueError(
            f"data source {source!r}: holds images of any size; give `size`, the side in pixels "
            "to which they are resized"
        )
    raw = door.readable(open_collection(source))
    return photos.from_photos(with_all_splits(raw, HELD_OUT), size)


def register_dataset(dataset: Dataset[Readable]) -> str:
    """Give a data set a source text that `load_dataset` resolves in this process.

    Args:
      dataset: Data set of the user's own.

    Returns:
      "custom:NAME@FINGERPRINT", with the first eight digits of the fingerprint.

    Raises:
      ValueError: Different data of this name, whose fingerprint begins in the same way, are
        registered.
    """
    source = f"{_CUSTOM}{dataset.name}@{dataset.fingerprint[:8]}"
    if source not in DATASETS:
        DATASETS.register(source, dataset)
    known = DATASETS[source]
    if known.fingerprint != dataset.fingerprint:
        raise ValueError(
            f"data source {source!r}: is registered with the fingerprint {known.fingerprint}, got "
            f"{dataset.fingerprint}; give the data sets different names"
        )
    return source


def _custom(source: str) -> Dataset[Readable]:
    if source not in DATASETS:
        raise ValueError(f"data source {source!r} was given as an object; pass it again")
    return DATASETS[source]


def _load_mixture(source: str, terms: list[str], size: int | None) -> Dataset[Readable]:
    pairs = []
    for term in terms:
        text, _, weight = term.strip().rpartition("=")
        if not text.startswith(f"{_DISTILLED}:") or not weight.isdecimal() or not int(weight):
            raise ValueError(
                f"data source {source!r}: {term.strip()!r} is no term of a mixture; write "
                "`distilled:A=1 + distilled:B=2`, with positive integers as weights"
            )
        pairs.append((text, int(weight)))
    return mixture.mixed(
        [load_dataset(text, size) for text, _ in pairs], [weight for _, weight in pairs]
    )


shared.share("nas.data.load", "DATASETS")
