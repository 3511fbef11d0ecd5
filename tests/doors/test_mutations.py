"""Damaged files: the user error of the door, or an acceptance that other means agree with."""

from __future__ import annotations

import functools
import pathlib
import random
import time

import pytest

from .loaders import Loader, loaders
from .mutations import mutated

_LONGEST_S = 30  # of one file on a busy machine; a bomb takes minutes


@functools.cache
def _all() -> dict[str, Loader]:
    return loaders()


def _try(loader: Loader, content: bytes, path: pathlib.Path) -> bool:
    """Whether the content is accepted, and rightly; an error must be one line with the place."""
    path.write_bytes(content)
    begun = time.monotonic()
    try:
        found = loader.read(path)
    except ValueError as error:
        assert "\n" not in str(error).strip("\n") or "`settings`" in str(error), error
        assert str(error)
        return False
    finally:
        assert time.monotonic() - begun < _LONGEST_S
    after = path.read_bytes()
    assert after == content or content.startswith(after)  # only a torn end may be cut off
    assert loader.agrees(content, found), found
    return True


NAMES = (
    "architecture",
    "configuration",
    "change of a setting",
    "recipe",
    "record of a stage",
    "record of a training",
    "result of a training",
    "matrix",
    "device",
    "teacher",
    "request",
    "manifest of distilled data",
    "shard",
    "manifest of a table",
    "operator model",
    "rows",
    "measurements",
    "measured networks",
    "journal",
    "metrics",
    "candidates",
    "trainings",
    "summary of a training",
    "confusion",
    "nn-Meter's operators",
    "nn-Meter's blocks",
    "Once-for-all's table",
)


def test_every_loader_is_named() -> None:
    assert set(NAMES) == set(_all())


@pytest.mark.parametrize("name", NAMES)
def test_the_valid_file_is_accepted(name: str, tmp_path: pathlib.Path) -> None:
    loader = _all()[name]
    assert _try(loader, loader.content, tmp_path / loader.file)


def _campaign(name: str, count: int, seed: int, folder: pathlib.Path) -> None:
    loader = _all()[name]
    rng = random.Random(f"{name} {seed}")
    accepted = 0
    for number in range(count):
        content = mutated(loader.content, rng)
        try:
            accepted += _try(loader, content, folder / loader.file)
        except BaseException as error:
            (folder / "culprit").write_bytes(content)
            error.add_note(f"{name}, mutation {number}: {content[:2000]!r}")
            raise
    assert accepted < count  # the damage does harm


@pytest.mark.parametrize("name", NAMES)
def test_mutations(name: str, tmp_path: pathlib.Path) -> None:
    _campaign(name, 25, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_mutations(name: str, tmp_path: pathlib.Path) -> None:
    """27 loaders, 400 each: 10,800 mutations."""
    _campaign(name, 400, 1, tmp_path)
