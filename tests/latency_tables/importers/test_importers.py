"""Importers by name; each has a file of its own here."""

from __future__ import annotations

from collections.abc import Callable

from latency_tables.importers import IMPORTERS, read
from search_spaces import OpCall, Shape

Refused = Callable[[Callable[[], object], str], None]


def test_an_unknown_importer_and_operations(refused: Refused) -> None:
    refused(
        lambda: read("nn-meter", "x"),
        f"no importer called 'nn-meter'; known: {', '.join(IMPORTERS)}; "
        "did you mean 'nn_meter_blocks'?",
    )
    refused(
        lambda: read("ai_hub", "x"),
        "ai_hub: a profile has no shapes; name the network that was profiled",
    )
    refused(
        lambda: read("ofa", "x", [OpCall("conv2d", Shape(8, 8, 16), 24)]),
        "ofa: the source says what was measured; leave the network out",
    )
