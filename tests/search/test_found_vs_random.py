"""The comparison of found networks with random ones: its figures in closed form."""

from __future__ import annotations

from experiments import found_vs_random


def _rows(
    group: str, network: str, scores: tuple[float, ...], first: int = 0
) -> list[dict[str, str]]:
    return [
        {"group": group, "architecture": network, "seed": str(seed), "test_accuracy": str(score)}
        for seed, score in enumerate(scores, start=first)
    ]


def test_standard_errors() -> None:
    """Two trainings of a network lie 0.02 apart: variance 0.0002, of their mean 0.0001."""
    rows = _rows("found", "a", (0.69, 0.71), first=1000) + _rows("random", "b", (0.57, 0.59))
    rows += _rows("random", "c", (0.59, 0.61)) + _rows("random", "d", (0.61, 0.63))
    lines = found_vs_random.summary(rows).splitlines()
    assert "over its seeds: 0.0100" in lines[4]
    # Random means 0.58, 0.60, 0.62: variance 0.0004 of one and 0.000133 of their mean, which is
    # more than the noise. 0.1 / sqrt(0.0001 + 0.000133) = 6.5.
    found = "found: mean 0.7000 of 1, +0.1000 against random, 6.5 standard errors; "
    assert lines[5] == found + "better in 3 of 3 pairs"
    assert lines[6] == "random: mean 0.6000 of 3"
