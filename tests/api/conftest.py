"""Searches from Python, and objects of one's own that leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from latency_tables import library
from nas.data.load import DATASETS
from nas.run.optimizers import OPTIMIZERS
from nas.searchers.host import SEARCHERS
from rewards import REWARDS
from search_spaces.stages import STAGES


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Members that a test adds to a family, and its devices, are removed at its end."""
    families = (DATASETS, OPTIMIZERS, REWARDS, SEARCHERS, STAGES)
    before = [set(family) for family in families]
    monkeypatch.setattr(library, "_REGISTERED", dict(library._REGISTERED))
    yield
    for family, names in zip(families, before, strict=True):
        for name in set(family) - names:
            family.remove(name)
