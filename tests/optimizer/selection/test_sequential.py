"""The sequential test: its evidence against an independent density, and its false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct

from optimizer.selection.sequential import SHORTFALLS, fits_sharpe, log_evidence
from optimizer.types import FloatArray

PER_YEAR = 252.0


def of_t(returns: FloatArray, expected: float) -> float:
    """The evidence after all returns, by the noncentral t densities of their t statistic."""
    n = len(returns)
    t = math.sqrt(n) * returns.mean() / returns.std(ddof=1)

    def density(ratio: float) -> float:
        return float(nct.pdf(t, n - 1, math.sqrt(n / PER_YEAR) * ratio))

    return sum(density(expected - one) for one in SHORTFALLS) / len(SHORTFALLS) / density(expected)


@pytest.mark.parametrize("expected", [-0.5, 0.0, 1.5, 4.0])
@pytest.mark.parametrize("n", [2, 3, 19, 20, 21, 250])
def test_the_evidence_is_a_ratio_of_noncentral_t_densities(n: int, expected: float) -> None:
    returns = 0.02 * (np.random.default_rng(n).standard_normal(250) + 0.03)
    found = log_evidence(returns, expected, PER_YEAR)
    assert found[n - 1] == pytest.approx(math.log(of_t(returns[:n], expected)), abs=1e-6)
    # It knows no scale, and what comes later changes nothing.
    again = log_evidence(1e-6 * returns[:n], expected, PER_YEAR)
    assert again == pytest.approx(found[:n], abs=1e-9)


def test_returns_that_do_not_vary_are_no_evidence() -> None:
    found = fits_sharpe(np.zeros(10), 1.0, PER_YEAR)
    assert found.evidence.tolist() == [1.0] * 10
    assert (found.alarm, found.p, found.largest) == (None, 1.0, math.inf)
    assert fits_sharpe(np.zeros(0), 1.0, PER_YEAR).p == 1.0


def test_false_alarms_are_as_rare_as_stated_however_often_one_looks() -> None:
    """Read after each of 250 returns: at a rate of 0.2 at most 1 in 5 of 200 series ever alarms."""
    rng = np.random.default_rng(4)
    for ratio, heavy in ((1.0, False), (1.0, True), (3.0, False)):
        alarms = 0
        for _ in range(200):
            noise = rng.standard_t(4, 250) / math.sqrt(2.0) if heavy else rng.standard_normal(250)
            returns = 0.01 * (noise + ratio / math.sqrt(PER_YEAR))
            alarms += log_evidence(returns, ratio, PER_YEAR).max() >= math.log(5.0)
        # Up to 3 standard errors of 200 draws above the rate.
        assert alarms / 200 <= 0.2 + 3.0 * math.sqrt(0.2 * 0.8 / 200)


def test_an_edge_that_is_gone_is_noticed() -> None:
    returns = 0.01 * np.random.default_rng(2).standard_normal(1000)
    found = fits_sharpe(returns, 3.0, PER_YEAR)
    assert found.alarm is not None and found.p <= 0.05
    assert found.evidence[found.alarm - 1] >= 20.0 > found.evidence[: found.alarm - 1].max()
    assert found.years_to_alarm == pytest.approx(math.log(80.0) / 4.0)  # of the shortfall of 2 or 4
    # The largest ratio that is not contradicted is where the alarm begins.
    assert fits_sharpe(returns, found.largest - 0.02, PER_YEAR).alarm is None
    assert fits_sharpe(returns, found.largest + 0.02, PER_YEAR).alarm is not None
