"""The door of raw images: what is broken is left out or refused, what is doubtful is said.

Every reader of a source passes it before the first batch: searches, trainings, distillations and
the look.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Sequence

import numpy as np

from nas.data import codec
from nas.data.collection import Images, RawDataset, Subset, WithHeaders
from nas.data.survey import Survey, sample, survey
from nas.host.terminal import listed, one_line

_LOG = logging.getLogger("nas.data")
_SIXTEEN_SAMPLE = 32
_SIXTEEN_LEAST = 1 << 13
"""A sample of 16-bit images without any value as high has at most 13 bits. Source: ours."""
_MOST_ADVISED = 20  # percent of broken images


def readable(raw: RawDataset) -> RawDataset:
    """A raw data set without its broken images, which are counted in a note.

    Args:
      raw: Raw data set from a source.

    Returns:
      The raw data set; its fingerprint covers which images were left out.

    Raises:
      ValueError: More are broken than may be, or numbers are of a doubtful range.
    """
    surveys = check(raw)
    broken = {split: found.unreadable for split, found in surveys.items() if found.unreadable}
    notes = raw.notes + doubts(raw, surveys)
    if not broken:
        return dataclasses.replace(raw, notes=notes)
    splits = dict(raw.splits)
    digest = hashlib.sha256(raw.fingerprint.encode())
    for split, reasons in broken.items():
        digest.update(f"{split} without {sorted(reasons)}\n".encode())
        keep = np.delete(np.arange(len(splits[split])), list(reasons))
        if not len(keep):
            raise ValueError(f"{raw.name}: split {split} has no image that can be read")
        splits[split] = Subset(splits[split], keep)
    return dataclasses.replace(raw, splits=splits, fingerprint=digest.hexdigest(), notes=notes)


def notes(raw: RawDataset) -> tuple[str, ...]:
    """Pass the door, and say all that should be known about a source.

    Args:
      raw: Raw data set from a source.

    Raises:
      ValueError: As `check`.
    """
    return raw.notes + doubts(raw, check(raw))


def check(raw: RawDataset) -> dict[str, Survey]:
    """Survey all splits, and refuse a source with too many broken images.

    Args:
      raw: Raw data set from a source.

    Returns:
      The survey of each split that has one.

    Raises:
      ValueError: More are broken than may be, or numbers are of a doubtful range.
    """
    surveys = {
        split: found
        for split, images in raw.splits.items()
        if (found := survey(images)) is not None
    }
    reasons = [reason for found in surveys.values() for reason in found.unreadable.values()]
    refuse_many(raw, len(reasons), sum(map(len, surveys.values())), reasons)
    for split, found in surveys.items():
        _check_sixteen_bits(raw, split, found)
    return surveys


def refuse_many(raw: RawDataset, broken: int, count: int, reasons: Sequence[str]) -> None:
    """Refuse a source with too many broken images; a single one is always left out.

    Args:
      raw: Raw data set, with the share that may be broken.
      broken: Number of broken images.
      count: Number of images.
      reasons: Reasons of some of them.

    Raises:
      ValueError: There are too many.
    """
    most = max(int(raw.most_unreadable * count), 1)
    if broken > most:
        share = -(-100 * broken // count)
        # Where many are broken, something else is wrong.
        more = f", or allow more: SOURCE?unreadable={share}%" if share <= _MOST_ADVISED else ""
        raise ValueError(
            f"{raw.name}: {broken} of {count} images cannot be read, expected at most {most} "
            f"({raw.most_unreadable:.0%} of all); first: {reasons[0]}; repair or remove them{more}"
        )


def doubts(raw: RawDataset, surveys: dict[str, Survey]) -> tuple[str, ...]:
    """Sentences on what should be known before the images of a source are used.

    Args:
      raw: Raw data set from a source.
      surveys: Survey of its splits.
    """
    notes = []
    if raw.left_out:
        parts = [f"{item} (e.g. {listed(item.examples[:1])})" for item in raw.left_out]
        notes.append(f"{raw.name}: left out: {'; '.join(parts)}")
    reasons = [reason for found in surveys.values() for reason in found.unreadable.values()]
    if reasons:
        total = sum(map(len, surveys.values()))
        notes.append(
            f"{raw.name}: {len(reasons)} of {total} images cannot be read and are left out; first: "
            f"{reasons[0]}"
        )
    modes: dict[str, int] = {}
    for found in surveys.values():
        for kind, count in found.counts().items():
            mode = kind.rpartition(" ")[2]
            for what, applies in (
                ("images of 16 bits a value, of which the upper 8 are used", "16" in mode),
                ("images with transparency, which is dropped", "A" in mode or "+alpha" in mode),
                ("CMYK images, converted to RGB without a colour profile", mode == "CMYK"),
                ("images of several frames, of which the first is used", "several frames" in kind),
            ):
                if applies and not kind.startswith("array"):
                    modes[what] = modes.get(what, 0) + count
    notes += [f"{raw.name}: {what}: {count}" for what, count in modes.items()]
    return tuple(notes) + tuple(leaks(raw, surveys))


def leaks(raw: RawDataset, surveys: dict[str, Survey]) -> list[str]:
    """Sentences on images that lie in two splits, or in two classes.

    Args:
      raw: Raw data set from a source.
      surveys: Survey of its splits.
    """
    if not surveys:
        return []
    names = tuple(surveys)
    ends = np.cumsum([len(found) for found in surveys.values()])
    digests = np.concatenate([found.digest for found in surveys.values()])
    _, group, sizes = np.unique(digests, return_inverse=True, return_counts=True)
    candidates: dict[int, list[tuple[str, int]]] = {}
    for row in np.flatnonzero(sizes[group] > 1).tolist():
        split = int(np.searchsorted(ends, row, side="right"))
        position = row - (int(ends[split - 1]) if split else 0)
        candidates.setdefault(int(group[row]), []).append((names[split], position))
    shared: dict[str, list[str]] = {}
    for places in candidates.values():
        for same in _equal(raw, [(s, p) for s, p in places if p not in surveys[s].unreadable]):
            first = raw.splits[same[0][0]].location(same[0][1])
            last = raw.splits[same[-1][0]].location(same[-1][1])
            splits = list(dict.fromkeys(split for split, _ in same))
            labels = {int(raw.splits[split].labels[position]) for split, position in same}
            example = f"{first} and {last}"
            if len(splits) > 1:
                shared.setdefault(f"in {' and '.join(splits)}: a leak", []).append(example)
            if len(labels) > 1:
                shared.setdefault("in several classes", []).append(example)
            if len(same) > len(splits):
                shared.setdefault("several times in a split", []).append(example)
    return [
        f"{raw.name}: {len(examples)} image{'s lie' if len(examples) > 1 else ' lies'} {where}; "
        f"e.g. {examples[0]}"
        for where, examples in shared.items()
    ]


def _equal(raw: RawDataset, places: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Groups of images that are equal in all bytes, of those that are at both ends."""
    groups: dict[bytes, list[tuple[str, int]]] = {}
    for split, position in places:
        images = _with_headers(raw.splits[split])
        try:
            key = hashlib.sha256(images.content(position)).digest()
        except OSError:
            continue
        groups.setdefault(key, []).append((split, position))
    return [group for group in groups.values() if len(group) > 1]


def _with_headers(images: Images) -> WithHeaders:
    assert isinstance(images, WithHeaders)
    return images


def say(notes: Sequence[str]) -> None:
    """Log sentences, each once in a process.

    Args:
      notes: The sentences.
    """
    for note in notes:
        if note not in _said:
            mark_said([note])
            _LOG.warning("note: %s", one_line(note))


def mark_said(notes: Sequence[str]) -> None:
    """Do not log sentences that a person sees elsewhere.

    Args:
      notes: The sentences.
    """
    _said.update(notes)


_said: set[str] = set()


def _check_sixteen_bits(raw: RawDataset, split: str, found: Survey) -> None:
    """Refuse images of fewer bits in 16: their upper 8 would be almost black."""
    deep = [number for number, kind in enumerate(found.kinds) if "16" in kind.rpartition(" ")[2]]
    bad = np.array(list(found.unreadable), np.int64)
    positions = np.setdiff1d(np.flatnonzero(np.isin(found.kind, deep)), bad)
    images = raw.splits[split]
    if not len(positions) or not isinstance(images, WithHeaders):
        return
    highest = 0
    for position in positions[sample(len(positions), _SIXTEEN_SAMPLE, 0)].tolist():
        values = codec.values(images.content(position), images.location(position))
        # Pillow reads colours of 16 bits as their upper 8.
        highest = max(highest, int(values.max()) << (8 if values.dtype == np.uint8 else 0))
    if 0 < highest < _SIXTEEN_LEAST:
        bits = highest.bit_length()
        raise ValueError(
            f"{raw.name}: {len(positions)} images of {split} have 16 bits a value, but no value of "
            f"a sample is above {highest} ({bits} bits), e.g. "
            f"{images.location(int(positions[0]))}; scale them to the full range, e.g. multiply "
            f"by {1 << (16 - bits)}, or save them with 8 bits"
        )
