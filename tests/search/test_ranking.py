"""Statistics of rankings, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from nas.engine import ranking

N = 24
MACS = np.linspace(1, 4, N)


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of a fifth of the draws: wide enough apart here."""
    monkeypatch.setattr(ranking, "_RESAMPLES", 200)


def diagnose(
    supernet: np.ndarray, noise: float = 0.0, macs: np.ndarray | None = None
) -> ranking.Diagnosis:
    """Two trainings whose mean accuracies are 0, 1, ..., N - 1."""
    rng = np.random.default_rng(0)
    trained = np.arange(N)[:, None] + noise * rng.normal(size=(N, 2))
    proxies = {"MACs": rng.permutation(MACS) if macs is None else macs}
    return ranking.diagnose(supernet, trained, MACS, proxies)


def test_a_perfect_supernet_is_trusted() -> None:
    found = diagnose(np.arange(N, dtype=float))
    supernet = found.estimates["supernet"]
    assert supernet.kendall.value == supernet.spearman.value == pytest.approx(1)
    assert found.ceiling and found.ceiling.kendall.value == pytest.approx(1)
    assert found.trusted
    assert found.verdict.startswith("trust it: the supernet's ranking reaches 100%")
    assert found.regret == {1: 0.0, 3: 0.0, 5: 0.0}
    assert found.gain.low > 0.5


def test_a_reversed_one_is_not() -> None:
    found = diagnose(-np.arange(N, dtype=float))
    assert found.estimates["supernet"].kendall.value == pytest.approx(-1)
    assert not found.trusted and found.verdict.startswith("do not rely on it")
    assert found.regret == {1: N - 1, 3: N - 3, 5: N - 5}


def test_one_that_only_counts_macs_gains_nothing() -> None:
    found = diagnose(MACS, noise=3.0, macs=MACS)
    assert str(found.gain) == "0.00 [0.00, 0.00]" and not found.trusted
    assert "inconclusive: the supernet is not shown to rank better than MACs" in found.verdict


@pytest.mark.parametrize(("sign", "text"), [(1, "overrates wide"), (-1, "overrates narrow")])
def test_a_bias_is_seen(sign: int, text: str) -> None:
    """The truth has nothing to do with size, and the supernet adds size to it."""
    truth = np.random.default_rng(1).permutation(N).astype(float)
    found = ranking.diagnose(
        truth + sign * 6 * MACS, np.stack([truth, truth], 1), MACS, {"MACs": MACS}
    )
    assert sign * found.bias.value > 0.5 and text in found.verdict


def test_noise_is_no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supernet that knows nothing, or little, has no bias: noise alone is not one."""
    monkeypatch.setattr(ranking, "_RESAMPLES", 100)
    for weight in (0.0, 0.5):
        biased = []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            truth = np.sort(rng.normal(size=N))
            trained = truth[:, None] + rng.normal(scale=0.7, size=(N, 2))
            found = ranking.diagnose(
                weight * truth + rng.normal(size=N), trained, truth + 9, {"MACs": MACS}
            )
            biased.append("overrates" in found.verdict)
        assert sum(biased) <= 1


def test_one_training_knows_no_ceiling() -> None:
    found = ranking.diagnose(
        np.arange(N, dtype=float), np.arange(N, dtype=float)[:, None], MACS, {"MACs": MACS}
    )
    assert found.ceiling is None and np.isnan(found.bias.value) and not found.trusted
    assert "no ceiling is known" in found.verdict


def test_trainings_that_disagree_say_so() -> None:
    up = np.arange(N, dtype=float)
    found = ranking.diagnose(up, np.stack([up, -up], 1), MACS, {"MACs": MACS})
    assert "do not agree at all" in found.verdict and not found.trusted


def test_near_pairs() -> None:
    """Of three networks only the first two differ by less than 10 % in cost."""
    cost = np.array([1.0, 1.09, 1.3])
    assert ranking.near_kendall(np.array([1.0, 2, 0]), np.array([1.0, 2, 5]), cost) == 1
    assert ranking.near_kendall(np.array([2.0, 1, 0]), np.array([1.0, 2, 5]), cost) == -1
    assert np.isnan(ranking.near_kendall(np.array([1.0, 1, 0]), np.array([1.0, 2, 5]), cost))
    three = ranking.diagnose(
        np.array([1.0, 2, 3]), np.array([[1.0, 2], [2, 1], [3, 3]]), cost, {"MACs": cost}
    )
    assert three.near_pairs == 1 and three.ceiling and three.ceiling.near.value == -1
