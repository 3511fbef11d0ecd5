"""Shared by the tests of latency tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Refused = Callable[[Callable[[], object], str], None]


@pytest.fixture(scope="session")
def refused() -> Refused:
    """Check that a call raises a ValueError with exactly this message."""

    def check(call: Callable[[], object], message: str) -> None:
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == message

    return check


@pytest.fixture(scope="session")
def manifest() -> dict[str, Any]:
    """Fields of a manifest, without those that depend on the rows."""
    return {
        "name": "bench",
        "device": "Phone 1",
        "processor": "Core X",
        "runtime": "LiteRT 2",
        "threads": 1,
        "dtype": "int8",
        "how": "measured",
        "protocol": "mean of 1000",
        "date": "2026-11-24",
        "source": "a test",
        "licence": "Apache-2.0",
    }
