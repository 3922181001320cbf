"""p-values of the holdout and of all sets, and what a number of years can show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.selection import p_values
from optimizer.selection.looks import look_over
from optimizer.selection.p_values import (
    combined,
    corrected_for_looks,
    critical_value,
    critical_value_of,
    detectable_ratio,
    family_wise,
    holdout_alpha,
    holdout_critical_value,
)
from optimizer.selection.power import power_of
from optimizer.selection.select import n_resamples
from optimizer.store.ledger import note_look
from optimizer.study_file.space import build_space
from optimizer.sweep.rules import study_rules
from optimizer.types import FloatArray
from tests.support.studies import random_bars, small_study


def correlated_in_time(random: np.random.Generator, n: int, phi: float) -> FloatArray:
    noise = random.normal(0.0, 0.01, n)
    for t in range(1, n):
        noise[t] += phi * noise[t - 1]
    return noise


def test_the_holdout_s_alpha_is_the_intercept_of_least_squares() -> None:
    random = np.random.default_rng(1)
    market = random.normal(4e-4, 0.01, 400)
    own = 2e-4 + 0.7 * market + random.normal(0.0, 0.005, 400)
    found = holdout_alpha(own, market, 252.0)
    assert found is not None
    fit = stats.linregress(market, own)
    assert found.alpha == pytest.approx(252.0 * fit.intercept)
    # Returns without autocorrelation: the usual statistic, but for the noise of 21 waves.
    assert found.statistic == pytest.approx(fit.intercept / fit.intercept_stderr, rel=0.5)
    assert found.degrees == int(0.4 * 400 ** (2 / 3)) == 21
    assert found.p == pytest.approx(stats.t.sf(found.statistic, 21))


@pytest.mark.parametrize(("phi", "least"), [(0.0, 0.03), (0.4, 0.03)])
def test_without_alpha_one_in_twenty_holdouts_is_below_one_in_twenty(
    phi: float, least: float
) -> None:
    random = np.random.default_rng(2)
    low = 0
    for _ in range(1000):
        market = random.normal(4e-4, 0.01, 300)
        found = holdout_alpha(correlated_in_time(random, 300, phi) + market, market, 252.0)
        low += found is not None and found.p <= 0.05
    assert least <= low / 1000 <= 0.07


def test_the_power_of_a_holdout_is_what_is_said() -> None:
    """A ratio that is said to be shown in 4 of 5 cases."""
    random = np.random.default_rng(3)
    n = 403
    ratio = detectable_ratio(holdout_critical_value(n), n / 252)
    assert ratio == pytest.approx(2.0, abs=0.05)
    found = []
    for _ in range(1000):
        own = random.normal(0.01 * ratio / np.sqrt(252), 0.01, n)
        alpha = holdout_alpha(own, np.zeros(n), 252.0)
        found.append(alpha is not None and alpha.p <= 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_what_has_no_alpha_has_no_p_value() -> None:
    market = np.random.default_rng(4).normal(0.0, 0.01, 100)
    assert holdout_alpha(market[:19], np.zeros(19), 252.0) is None
    assert holdout_alpha(np.zeros(100), market, 252.0) is None
    assert holdout_alpha(0.5 * market, market, 252.0) is None
    assert holdout_alpha(market + 1.0, np.zeros(100), 252.0) is not None


def test_family_wise_p_values_count_the_draws() -> None:
    draws = [1.0, 2.0, 3.0, 4.0]
    assert family_wise(2.5, draws) == 3 / 5
    assert family_wise(3.0, draws) == 3 / 5
    assert family_wise(9.0, draws) == 1 / 5
    assert family_wise(None, draws) is None
    assert family_wise(1.0, []) is None


def test_critical_values() -> None:
    assert critical_value(np.arange(101)) == 95.0
    for n in (1, 50, 1_000_000):
        assert stats.norm.cdf(critical_value_of(n)) ** n == pytest.approx(0.95)


def test_combined_p_values_are_fisher_s() -> None:
    assert combined([0.03]) == pytest.approx(0.03)
    given = [0.04, 0.3]
    assert combined(given) == pytest.approx(stats.combine_pvalues(given, "fisher").pvalue)


@given(p=st.floats(1e-12, 1.0), n=st.integers(1, 50))
def test_more_looks_never_make_a_holdout_better(p: float, n: int) -> None:
    found = corrected_for_looks(p, n)
    assert found == pytest.approx(stats.beta.cdf(p, 1, n), rel=1e-9)  # of the least of n p-values
    assert p <= found <= min(1.0, n * p * (1 + 1e-12))
    assert found <= corrected_for_looks(p, n + 1) * (1 + 1e-12)


@pytest.mark.parametrize("n_looks", [1, 2, 7])
def test_a_critical_value_holds_for_all_looks_together(n_looks: int) -> None:
    critical = holdout_critical_value(400, n_looks)
    assert stats.t.cdf(critical, int(0.4 * 400 ** (2 / 3))) ** n_looks == pytest.approx(0.95)


def test_the_power_of_a_study_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,560 bars from bar 40 on, 252 a year: 7.5 years in-sample and 2.5 of holdout."""
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "ledger.db"))
    bars, study = random_bars(2560), small_study(tmp_path / "bars.parquet")
    rules = study_rules(study, build_space(study), bars)
    found = power_of(study, bars, rules, 40, 1000)
    assert (found.years, found.holdout_years) == (7.5, 2.5)
    independent = stats.norm.ppf(0.95 ** (1 / 1000)) + stats.norm.ppf(0.8)
    assert found.search == pytest.approx(independent / np.sqrt(7.5))
    alone = stats.t.ppf(0.95, int(0.4 * 630 ** (2 / 3))) + stats.norm.ppf(0.8)
    assert found.holdout == pytest.approx(alone / np.sqrt(2.5))
    assert found.decides
    for number in range(2):  # two users of other studies have opened it
        look = replace(look_over(study, bars, bars.n_bars - 630), study_hash=f"{number}" * 64)
        note_look(look)
    after = power_of(study, bars, rules, 40, 1000)
    assert (after.search, after.n_looks) == (found.search, 3)
    critical = stats.t.ppf(0.95 ** (1 / 3), int(0.4 * 630 ** (2 / 3)))
    assert after.holdout == pytest.approx((critical + stats.norm.ppf(0.8)) / np.sqrt(2.5))
    assert not power_of(study, random_bars(540), rules, 40, 1000).decides
    few = power_of(study, random_bars(100), rules, 40, 1000)
    assert few.search is None and few.holdout is None and not few.decides


@pytest.mark.parametrize("n", [50, 51, 4000])
def test_the_covariance_of_long_series_is_the_same_but_for_rounding(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = np.random.default_rng(n).standard_normal((n, 2)).cumsum(axis=0)
    parts -= parts.mean(axis=0)
    wanted, degrees = p_values.long_run_covariance(parts)
    monkeypatch.setattr(p_values, "MOST_COSINES", 0)
    found, also = p_values.long_run_covariance(parts)
    assert also == degrees
    np.testing.assert_allclose(found, wanted, rtol=1e-11)
    assert (found != wanted).any()  # by another way


def test_a_long_series_is_resampled_fewer_times() -> None:
    assert [n_resamples(n) for n in (2, 1_000_000, 2_000_000, 5_000_000, 10**8)] == [
        *(1000, 1000, 500, 200, 200)
    ]
