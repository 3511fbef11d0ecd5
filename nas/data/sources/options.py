"""Options behind a source: `imagefolder:DIR?exif=off&unreadable=5%&splits=off`.

| option | default | meaning |
|---|---|---|
| exif=off | on | keep images as they are stored, instead of upright by their EXIF orientation |
| unreadable=SHARE | 1% | share of images that may be broken: they are left out; more are refused |
| splits=off | on | take every folder for a class, also one called train or Test |
"""

from __future__ import annotations

import dataclasses
import pathlib

from nas.data.collection import UNREADABLE
from search_spaces.naming import did_you_mean

_KNOWN = ("exif", "unreadable", "splits")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a source.

    Attributes:
      upright: Turn images upright by their EXIF orientation.
      unreadable: Largest share of images that may be broken, 0..1.
      splits: Whether folders may be splits.
    """

    upright: bool = True
    unreadable: float = UNREADABLE
    splits: bool = True


def cut(rest: str) -> tuple[str, str]:
    """Cut a source's text into its path and its options.

    Args:
      rest: Text behind the colon of a source.

    Returns:
      The path, and the options with their question mark; "" where there are none.
    """
    path, mark, options = rest.rpartition("?")
    # A folder may have a question mark in its name.
    if not mark or "=" not in options or pathlib.Path(rest).expanduser().exists():
        return rest, ""
    return path, mark + options


def parse(rest: str) -> tuple[str, Options]:
    """Read the options behind a path.

    Args:
      rest: Text behind the colon of a source.

    Returns:
      The path, and its options.

    Raises:
      ValueError: An option is unknown, given twice, or has no such value.
    """
    path, text = cut(rest)
    given: dict[str, str] = {}
    for item in filter(None, text.removeprefix("?").split("&")):
        name, _, value = item.partition("=")
        if name not in _KNOWN:
            raise ValueError(
                f"source {rest!r}: no option {name!r}; known: {', '.join(_KNOWN)}"
                f"{did_you_mean(name, _KNOWN)}"
            )
        if name in given:
            raise ValueError(f"source {rest!r}: has the option {name} twice; give it once")
        given[name] = value
    for name in ("exif", "splits"):
        if given.get(name, "on") not in ("on", "off"):
            raise ValueError(f"source {rest!r}: {name}: got {given[name]!r}, expected on or off")
    return path, Options(
        upright=given.get("exif", "on") == "on",
        unreadable=_share(rest, given["unreadable"]) if "unreadable" in given else UNREADABLE,
        splits=given.get("splits", "on") == "on",
    )


def _share(rest: str, text: str) -> float:
    number, scale = (text[:-1], 100) if text.endswith("%") else (text, 1)
    try:
        share = float(number) / scale
    except ValueError:
        share = -1.0
    # Written so that NaN fails.
    if not 0 <= share < 1:
        raise ValueError(
            f"source {rest!r}: unreadable: got {text!r}, expected a share below 100%, e.g. 5%"
        )
    return share
