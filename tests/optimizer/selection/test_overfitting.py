"""Overfitting statistics against the papers, other libraries, slow references and their purpose."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from functools import cache, partial
from math import inf, isnan, nan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import optimal_block_length as optimal_block_length_of_arch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optimizer.selection import bootstrap, pbo, sharpe, splits
from optimizer.selection.bootstrap import optimal_block_length, stationary_bootstrap
from optimizer.selection.pbo import (
    block_moments,
    probability_of_backtest_overfitting,
    probability_of_backtest_overfitting_from_moments,
)
from optimizer.selection.sharpe import (
    deflated_sharpe_ratio,
    effective_number_of_trials,
    expected_maximum_sharpe,
    minimum_backtest_length,
    probabilistic_sharpe_ratio,
)
from optimizer.types import FloatArray
from tests.reference import overfitting as reference

DAILY = Path(__file__).parents[3] / "studies" / "data" / "us_daily.parquet"
YEAR = 250


@cache
def closes() -> pd.DataFrame:
    bars = pd.read_parquet(DAILY)
    return bars.pivot(index="timestamp", columns="symbol", values="close")


@cache
def momentum_returns(*symbols: str) -> FloatArray:
    """Daily returns of 40 momentum rules a symbol, (3000, 40 * n_symbols).

    Each is long on the day after a close above that of 5, 10, .. 200 days before.
    """
    close = closes()
    columns = []
    for symbol in symbols:
        gain = close[symbol].pct_change()
        for lookback in range(5, 205, 5):
            long = close[symbol] > close[symbol].shift(lookback)
            columns.append((long.astype(float).shift(1) * gain).iloc[201:])
    returns = np.column_stack(columns)
    returns.flags.writeable = False
    return returns


def noise(n_bars: int, n_sets: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(0.0, 0.01, (n_bars, n_sets))


def test_worked_examples() -> None:
    results = [doctest.testmod(module) for module in (bootstrap, pbo, sharpe, splits)]
    assert sum(result.attempted for result in results) >= 8
    assert sum(result.failed for result in results) == 0


# Sharpe ratios


def test_deflated_sharpe_ratio_of_the_paper() -> None:
    # Bailey, López de Prado 2014, "A numerical example".
    sharpe, variance = 2.5 / sqrt(YEAR), 0.5 / YEAR
    assert expected_maximum_sharpe(variance, 100) == pytest.approx(0.1132, abs=5e-5)
    skewed = [deflated_sharpe_ratio(sharpe, 1250, -3.0, 10.0, variance, n) for n in (100, 46, 47)]
    assert skewed[:2] == pytest.approx([0.9004, 0.9505], abs=5e-5)
    assert skewed[2] < 0.95
    # Were the returns normal, 88 trials would pass at 95%.
    normal = [deflated_sharpe_ratio(sharpe, 1250, 0.0, 3.0, variance, n) for n in (88, 89)]
    assert normal[0] == pytest.approx(0.9505, abs=5e-5)
    assert normal[0] >= 0.95 > normal[1]


def test_minimum_backtest_length_of_the_paper() -> None:
    # Bailey et al. 2014: five years allow no more than 45 trials; E[max of 10] is 1.57.
    assert minimum_backtest_length(45, 1.0) == pytest.approx(5.0, abs=0.01)
    assert minimum_backtest_length(46, 1.0) > 5.0
    assert expected_maximum_sharpe(1.0, 10) == pytest.approx(1.57, abs=0.006)
    assert minimum_backtest_length(45, 2.0) == pytest.approx(5.0 / 4.0, abs=0.005)
    assert minimum_backtest_length(1, 1.0) == 0.0


@settings(deadline=None)
@given(
    sharpe=st.floats(-0.5, 0.5),
    benchmark=st.floats(-0.3, 0.3),
    n_obs=st.integers(2, 5000),
    skew=st.floats(-3.0, 3.0),
    excess=st.floats(0.1, 20.0),
)
def test_probabilistic_sharpe_ratio_equals_the_formula(
    sharpe: float, benchmark: float, n_obs: int, skew: float, excess: float
) -> None:
    kurtosis = 1.0 + skew**2 + excess
    probability = probabilistic_sharpe_ratio(sharpe, n_obs, skew, kurtosis, benchmark)
    expected = reference.probabilistic_sharpe(sharpe, n_obs, skew, kurtosis, benchmark)
    assert probability == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_one_call_for_many_sets_equals_one_each() -> None:
    sharpe = np.array([0.1, -0.05, nan, 0.02])
    skew, kurtosis = np.array([0.5, -2.0, nan, 0.0]), np.array([4.0, 9.0, nan, 3.0])
    probability = probabilistic_sharpe_ratio(sharpe, 500, skew, kurtosis, 0.01)
    deflated = deflated_sharpe_ratio(sharpe, 500, skew, kurtosis, 0.001, 50)
    for i in (0, 1, 3):
        one = (float(sharpe[i]), float(skew[i]), float(kurtosis[i]))
        expected = probabilistic_sharpe_ratio(one[0], 500, *one[1:], 0.01)
        assert isinstance(expected, float)
        assert probability[i] == expected
        assert deflated[i] == deflated_sharpe_ratio(one[0], 500, *one[1:], 0.001, 50)
    assert isnan(probability[2])
    assert isnan(deflated[2])


@pytest.mark.parametrize(("r", "skewed"), [(0.0, True), (0.4, True), (-0.3, False)])
def test_the_error_of_a_sharpe_ratio_allows_for_autocorrelation(r: float, skewed: bool) -> None:
    """Against the spread of the ratios of very many series, whose moments are known."""
    random = np.random.default_rng(31)
    n, n_series, mean = 1000, 3000, 0.4
    shocks = random.exponential(1.0, (n + 100, n_series)) - 1.0 if skewed else None
    if shocks is None:
        shocks = random.standard_normal((n + 100, n_series))
    values = np.zeros((n + 100, n_series))
    for bar in range(1, n + 100):
        values[bar] = r * values[bar - 1] + shocks[bar]
    values = values[100:] * sqrt(1.0 - r * r) + mean
    ratios = values.mean(axis=0) / values.std(axis=0, ddof=1)
    # Of independent shocks with skewness 2 and kurtosis 9, or 0 and 3.
    third = (2.0 if skewed else 0.0) * (1.0 - r**2) ** 1.5 / (1.0 - r**3)
    fourth = 3.0 + (6.0 if skewed else 0.0) * (1.0 - r**2) ** 2 / (1.0 - r**4)
    # One standard error below the benchmark.
    below = mean - ratios.std(ddof=1)
    found = probabilistic_sharpe_ratio(below, n, third, fourth, mean, r)
    assert found == pytest.approx(reference.NORMAL.cdf(-1.0), abs=0.012)
    naive = probabilistic_sharpe_ratio(below, n, third, fourth, mean)
    assert abs(naive - found) < 1e-12 if r == 0.0 else abs(naive - found) > 0.03


def test_influences_are_the_change_of_the_ratio_that_each_return_makes() -> None:
    values = noise(400, 1, 32)[:, 0] + 0.002
    found = sharpe.sharpe_influence(values)
    for place in (0, 17, 399):
        weights = np.ones(400)
        weights[place] += 1e-4
        mean = np.average(values, weights=weights)
        ratio = mean / np.sqrt(np.average((values - mean) ** 2, weights=weights))
        plain = values.mean() / values.std()
        change = (ratio - plain) / (1e-4 / 400)
        assert found[place] == pytest.approx(change, rel=0.01, abs=0.01)
    assert abs(found.mean()) < 0.01
    assert not sharpe.sharpe_influence(np.full(5, 0.01)).any()
    assert sharpe.autocorrelation(np.full(5, 0.01)) == 0.0
    assert sharpe.autocorrelation(values) == pytest.approx(
        np.corrcoef(values[1:], values[:-1])[0, 1], abs=0.01
    )


@settings(deadline=None)
@given(
    sampled=st.floats(2.0, 512.0),
    part=st.floats(0.5, 1.0),
    ns=st.lists(st.floats(512.0, 1e9), min_size=2, max_size=2),
)
def test_the_number_of_independent_trials_saturates(
    sampled: float, part: float, ns: list[float]
) -> None:
    few, many = sorted(ns)
    share = sharpe.independent_share(sampled, sampled * part)
    found = [sharpe.saturating_number(n, sampled, 512.0, share) for n in (512.0, few, many)]
    assert found[0] == pytest.approx(sampled)
    assert found[0] * (1.0 - 1e-12) <= found[1] <= found[2] * (1.0 + 1e-12)
    # The curve runs through half the sample too, and never rises faster than in proportion.
    half = sharpe.saturating_number(256.0, sampled, 512.0, share)
    assert half == pytest.approx(min(sampled * part, 256.0))
    assert found[2] <= sampled * many / 512.0 * (1.0 + 1e-9)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_one_trial_counts_as_one_whatever_its_returns(seed: int, n_copies: int) -> None:
    """Rounding may leave a hair less, which is not a number of trials."""
    values = np.repeat(noise(40, 1, seed), n_copies, axis=1)
    found = effective_number_of_trials(returns=values)
    assert found == pytest.approx(1.0) and found >= 1.0
    assert deflated_sharpe_ratio(0.1, 40, 0.0, 3.0, 0.01, found) > 0.0


@pytest.mark.parametrize("n_trials", [5, 10, 100, 1000])
def test_expected_maximum_is_near_the_integral(n_trials: int) -> None:
    exact = reference.exact_expected_maximum(n_trials)
    assert expected_maximum_sharpe(4.0, n_trials) == pytest.approx(2.0 * exact, rel=0.03)


@settings(deadline=None)
@given(n=st.floats(2.5, 1e7), variance=st.floats(1e-6, 10.0))
def test_expected_maximum_equals_the_formula(n: float, variance: float) -> None:
    expected = reference.expected_maximum(variance, n)
    assert expected_maximum_sharpe(variance, n) == pytest.approx(expected, rel=1e-7)


def test_expected_maximum_of_few_and_of_very_many_trials() -> None:
    few = [expected_maximum_sharpe(1.0, n) for n in (1.0, 1.1, 1.5, 2.0, 3.0)]
    assert few[0] == 0.0
    assert few == sorted(few)
    # sqrt(2 ln N) bounds it (Bailey et al. 2014), and 1 - 1/N must not round.
    assert 8.0 < expected_maximum_sharpe(1.0, 1e18) < sqrt(2 * np.log(1e18))


@settings(deadline=None)
@given(sharpe=st.floats(-0.1, 0.2), trials=st.lists(st.floats(2.0, 1e8), min_size=2, max_size=2))
def test_deflated_sharpe_ratio_falls_with_trials(sharpe: float, trials: list[float]) -> None:
    few, many = sorted(trials)
    assume(many > 1.1 * few)
    values = [deflated_sharpe_ratio(sharpe, 500, -0.5, 5.0, 0.001, n) for n in (1, few, many)]
    assert values[0] >= values[1] >= values[2]
    assert values[1] > values[2] or values[1] < 1e-12
    undeflated = probabilistic_sharpe_ratio(sharpe, 500, -0.5, 5.0)
    assert values[0] == undeflated


def test_the_least_kurtosis_there_is_does_not_offend_the_error_of_a_sharpe_ratio() -> None:
    _, _, skew, kurtosis = reference.moments([3.0, -1.0, -1.0, -1.0] * 25)
    assert kurtosis == pytest.approx(1.0 + skew**2)
    assert 0.0 <= probabilistic_sharpe_ratio(0.1, 100, skew, kurtosis) <= 1.0


# Probability of backtest overfitting


@pytest.mark.parametrize("n_blocks", [4, 6, 8])
@pytest.mark.parametrize("symbols", [("EEM", "XOM"), ("GLD", "AAPL", "TLT")])
def test_pbo_equals_brute_force_on_real_returns(symbols: tuple[str, ...], n_blocks: int) -> None:
    returns = momentum_returns(*symbols)[5:]  # 2995 bars: some are dropped
    found = probability_of_backtest_overfitting(returns, n_blocks)
    expected = reference.Overfitting(returns, n_blocks)
    assert found.winners.tolist() == expected.winners
    assert found.probability == expected.probability
    assert found.probability_of_loss == expected.loss
    np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.in_sample, expected.inside, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.out_of_sample, expected.outside, rtol=1e-12, atol=1e-13)
    assert found.degradation_slope == pytest.approx(expected.slope, rel=1e-9)
    assert found.degradation_intercept == pytest.approx(expected.intercept, rel=1e-9)


@pytest.mark.parametrize(
    ("symbols", "n_blocks", "pbo", "loss", "slope", "mean_logit"),
    [
        (("EEM", "XOM", "WMT", "TLT"), 8, 61 / 70, 29 / 70, -0.9357019390, -0.9253703731),
        (("EEM", "XOM", "WMT", "TLT"), 10, 205 / 252, 84 / 252, -1.4392035147, -0.9587392960),
        (("SPY", "GLD", "AAPL", "GE"), 8, 0.0, 0.0, -0.8352444792, 3.8441165637),
        (("SPY", "GLD", "AAPL", "GE"), 10, 12 / 252, 1 / 252, -0.5164171371, 3.6782077510),
    ],
)
def test_pbo_of_pypbo_on_real_returns(
    symbols: tuple[str, ...],
    n_blocks: int,
    pbo: float,
    loss: float,
    slope: float,
    mean_logit: float,
) -> None:
    # Computed with esvhd/pypbo at commit ddbc631, metric mean / std(ddof=1), threshold 0.
    found = probability_of_backtest_overfitting(momentum_returns(*symbols), n_blocks)
    assert found.probability == pytest.approx(pbo, abs=1e-12)
    assert found.probability_of_loss == pytest.approx(loss, abs=1e-12)
    assert found.degradation_slope == pytest.approx(slope, abs=1e-9)
    assert found.logits.mean() == pytest.approx(mean_logit, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_sets=st.integers(2, 9),
    n_blocks=st.sampled_from([2, 4, 6]),
    n_bars=st.integers(24, 90),
)
def test_pbo_from_block_moments_equals_the_direct_one(
    seed: int, n_sets: int, n_blocks: int, n_bars: int
) -> None:
    random = np.random.default_rng(seed)
    returns = 0.01 * random.standard_t(4, (n_bars, n_sets))
    returns[:, 0] *= random.random(n_bars) < 0.2  # trades rarely, maybe never
    counts, sums, squares = block_moments(returns, n_blocks)
    per_set = np.repeat(counts[:, np.newaxis], n_sets, axis=1)
    found = probability_of_backtest_overfitting_from_moments(per_set, sums, squares)
    expected = reference.Overfitting(returns, n_blocks)
    assert found.winners.tolist() == expected.winners
    np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.in_sample, expected.inside, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.out_of_sample, expected.outside, rtol=1e-12, atol=1e-12)
    assert found.probability == expected.probability


def test_pbo_of_noise_is_near_a_half() -> None:
    values = [
        probability_of_backtest_overfitting(noise(400, 50, seed), 8).probability
        for seed in range(40)
    ]
    # 40 studies of noise: the mean has a standard error of about 0.03.
    assert np.mean(values) == pytest.approx(0.5, abs=0.1)


def test_pbo_of_one_dominant_set_is_0() -> None:
    returns = noise(640, 200, 3)
    returns[:, 137] += 0.02
    found = probability_of_backtest_overfitting(returns, 16)
    assert found.probability == 0.0
    assert (found.winners == 137).all()
    assert found.probability_of_loss == 0.0
    assert len(found.logits) == 12870
    # First of 200 everywhere: rank 200 of 201.
    np.testing.assert_allclose(found.logits, np.log(200.0), rtol=1e-12)


def test_pbo_of_sets_that_swap_fortunes_is_1() -> None:
    # Each set wins in one half of the blocks and loses in the other.
    returns = noise(400, 2, 4) * 0.01
    returns[:200] += [0.01, -0.01]
    returns[200:] += [-0.01, 0.01]
    found = probability_of_backtest_overfitting(returns, 2)
    assert found.probability == 1.0
    assert found.probability_of_loss == 1.0
    assert found.winners.tolist() == [0, 1]


def test_equal_sets_share_their_rank_and_the_first_is_chosen() -> None:
    series = noise(80, 1, 5)
    found = probability_of_backtest_overfitting(np.repeat(series, 70, axis=1), 4)
    assert (found.winners == 0).all()
    np.testing.assert_allclose(found.logits, 0.0, atol=1e-12)
    assert found.probability == 1.0


def test_sets_that_never_trade_count_as_0() -> None:
    returns = np.column_stack([np.full(40, 0.0), noise(40, 1, 6)[:, 0] - 1.0])
    found = probability_of_backtest_overfitting(returns, 4)
    assert (found.winners == 0).all()
    assert (found.in_sample == 0.0).all()
    assert (found.out_of_sample == 0.0).all()
    assert isnan(found.degradation_slope)
    assert found.probability == 0.0
    assert found.probability_of_loss == 0.0


def test_rows_that_do_not_divide_are_dropped_from_the_start() -> None:
    returns = noise(66, 5, 7)
    counts, sums, squares = block_moments(returns, 8)
    assert counts.tolist() == [8] * 8
    np.testing.assert_allclose(sums[0], returns[2:10].sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(squares[-1], (returns[-8:] ** 2).sum(axis=0), rtol=1e-12)


def test_blocks_of_unequal_length() -> None:
    returns = noise(60, 3, 8)
    parts = np.split(returns, [10, 25, 45])
    sums = np.array([part.sum(axis=0) for part in parts])
    squares = np.array([(part**2).sum(axis=0) for part in parts])
    found = probability_of_backtest_overfitting_from_moments([10, 15, 20, 15], sums, squares)
    first = np.concatenate(parts[:2])
    ratios = first.mean(axis=0) / first.std(axis=0, ddof=1)
    assert found.winners[0] == ratios.argmax()
    assert found.in_sample[0] == pytest.approx(ratios.max(), rel=1e-12)


@pytest.mark.parametrize("ranked", [True, False])
def test_sums_of_other_blocks_never_reach_a_kernel(ranked: bool) -> None:
    counts, few, enough = np.full(8, 5.0), np.ones((0, 3)), np.ones((8, 3))
    masks = splits.symmetric_splits(8)
    for chunks in ([(few, few)], [(enough, few)], [(enough, enough), (few, enough)]):
        with pytest.raises(ValueError, match="must be 8, as in counts"):
            splits.choose_and_rank(partial(iter, chunks), counts, masks, masks, ranked=ranked)


def test_any_number_of_threads_chooses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, sums, squares = block_moments(noise(200, 70, 9), 10)
    train = splits.symmetric_splits(10)
    chunks = [(sums[:, :50], squares[:, :50]), (sums[:, 50:], squares[:, 50:])]
    parts = [tuple(map(np.ascontiguousarray, chunk)) for chunk in chunks]
    found = []
    for n_threads in (1, 3):
        monkeypatch.setattr(splits, "cpu_count", lambda n=n_threads: n)
        monkeypatch.setattr(splits, "FEWEST_OF_A_THREAD", 10)
        found.append(
            splits.choose_and_rank(lambda: parts, np.full(10, 20.0), train, ~train & 1023)  # type: ignore[arg-type, return-value]
        )
    for name in ("winners", "in_sample", "out_of_sample", "ranks"):
        one, three = (getattr(each, name) for each in found)
        np.testing.assert_array_equal(one, three)
    assert len(set(found[0].winners.tolist())) > 5


# Effective number of trials


@pytest.mark.parametrize(("n", "rho"), [(2, 0.0), (10, 0.3), (50, 0.9), (7, -0.1)])
def test_effective_number_of_equally_correlated_trials(n: int, rho: float) -> None:
    # The eigenvalues are 1 + (n - 1) rho once and 1 - rho for the others.
    correlation = np.full((n, n), rho) + (1.0 - rho) * np.eye(n)
    expected = (sqrt(1.0 + (n - 1) * rho) + (n - 1) * sqrt(1.0 - rho)) ** 2 / n
    assert effective_number_of_trials(correlation=correlation) == pytest.approx(expected)


@pytest.mark.parametrize(("n_obs", "n_sets"), [(300, 20), (20, 300), (50, 50)])
def test_effective_number_of_returns_is_that_of_their_correlations(n_obs: int, n_sets: int) -> None:
    values = noise(n_obs, n_sets, 16) + noise(n_obs, 1, 17)
    found = effective_number_of_trials(returns=values)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(values.T))
    eigenvalues = np.where(eigenvalues > 1e-9, eigenvalues, 0.0)
    assert found == pytest.approx(np.sqrt(eigenvalues).sum() ** 2 / n_sets, rel=1e-6)
    assert 1.0 <= found <= min(n_sets, n_obs - 1)


def test_copies_are_one_trial_and_sets_that_never_trade_none() -> None:
    values = noise(100, 4, 18)
    plain = effective_number_of_trials(returns=values)
    assert 3.8 < plain <= 4.0
    idle = np.column_stack([values, np.zeros((100, 3))])
    assert effective_number_of_trials(returns=idle) == pytest.approx(plain)
    copies = np.repeat(values[:, :1], 30, axis=1) * np.linspace(0.5, 2.0, 30)
    assert effective_number_of_trials(returns=copies) == pytest.approx(1.0, abs=1e-6)
    assert effective_number_of_trials(returns=np.zeros((10, 3))) == 1.0


def test_effective_number_gives_the_maximum_of_correlated_sharpe_ratios() -> None:
    """Its purpose: the hurdle from it is near the true expected maximum, that from N above it."""
    random = np.random.default_rng(19)
    n = 200
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    correlation = 0.95**distance  # neighbours in a grid of lookbacks
    sharpes = np.linalg.cholesky(correlation) @ random.standard_normal((n, 4000))
    true = sharpes.max(axis=0).mean()
    variance = float(sharpes.var(axis=0, ddof=1).mean())
    effective = effective_number_of_trials(correlation=correlation)
    assert expected_maximum_sharpe(variance, effective) == pytest.approx(true, rel=0.05)
    assert expected_maximum_sharpe(variance, n) > 1.1 * true


# Stationary bootstrap


def test_bootstrap_equals_the_reference_on_the_same_resamples() -> None:
    values = noise(80, 1, 20)[:, 0] + 0.001
    resamples = [values[rows] for rows in reference.resample_rows(80, 6.0, 400, seed=21)]
    sharpes = [reference.sharpe_of(series) for series in resamples]
    drawdowns = [reference.max_drawdown(series.tolist()) for series in resamples]
    found = stationary_bootstrap(values, 6.0, 400, 21, confidence=0.9)
    assert found.sharpe == pytest.approx(reference.sharpe_of(values), rel=1e-12)
    assert found.drawdown == pytest.approx(reference.max_drawdown(values.tolist()), rel=1e-12)
    assert found.sharpe_interval == pytest.approx(np.percentile(sharpes, [5, 95]), rel=1e-9)
    assert found.drawdown_interval == pytest.approx(np.percentile(drawdowns, [5, 95]), rel=1e-9)


def test_bootstrap_depends_on_its_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noise(50, 1, 22)[:, 0]
    first = stationary_bootstrap(values, 5, 100, 1)
    assert stationary_bootstrap(values, 5, 100, 1) == first
    assert stationary_bootstrap(values, 5, 100, 2) != first
    monkeypatch.setattr(bootstrap, "_VALUES_PER_BATCH", 350)  # seven resamples a batch
    assert stationary_bootstrap(values, 5, 100, 1) == first


def test_bootstrap_interval_of_independent_returns_has_the_known_width() -> None:
    values = noise(1000, 1, 23)[:, 0]
    found = stationary_bootstrap(values, 1, 2000, 1)
    low, high = found.sharpe_interval
    assert low < found.sharpe < high
    # The standard error of a small Sharpe ratio is 1 / sqrt(n) per period.
    assert high - low == pytest.approx(2 * 1.96 / sqrt(1000), rel=0.1)
    wider = stationary_bootstrap(values, 1, 2000, 1, confidence=0.99).sharpe_interval
    assert wider[0] < low < high < wider[1]


def test_blocks_keep_the_dependence_of_returns() -> None:
    shocks = noise(2010, 1, 24)[:, 0]
    values = np.convolve(shocks, np.ones(10), "valid")  # each shock lasts ten bars
    widths = [np.diff(stationary_bootstrap(values, n, 300, 1).sharpe_interval) for n in (1, 60)]
    assert widths[1] > 2 * widths[0]


def test_bootstrap_of_a_series_that_loses_everything() -> None:
    found = stationary_bootstrap([0.1, -1.0, 0.2, 0.1], 2, 50, 1)
    assert found.drawdown == 1.0
    assert found.drawdown_interval[1] == 1.0
    still = stationary_bootstrap(np.zeros(10), 2, 50, 1)
    assert still.sharpe_interval == (0.0, 0.0)
    assert still.drawdown_interval == (0.0, 0.0)


def simulated(kind: str, n_bars: int, seed: int) -> FloatArray:
    """Returns with a Sharpe ratio of 0.05 a bar: autocorrelated, or with clusters and fat tails."""
    random = np.random.default_rng(seed)
    values = np.zeros(n_bars + 100)
    if kind == "garch":
        level = 1.0
        for bar, shock in enumerate(random.standard_t(6, n_bars + 100) / sqrt(1.5)):
            values[bar] = sqrt(level) * shock
            level = 0.02 + 0.08 * values[bar] ** 2 + 0.9 * level
    else:
        for bar, shock in enumerate(random.standard_normal(n_bars + 100)):
            values[bar] = 0.3 * values[bar - 1] + sqrt(1.0 - 0.09) * shock
    return 0.01 * (values[100:] + 0.05)


@pytest.mark.parametrize("kind", ["ar", "garch", "clusters", "real", "still"])
def test_the_length_of_blocks_is_that_of_the_paper_and_near_that_of_arch(kind: str) -> None:
    values = simulated(kind, 1500, 33) if kind in ("ar", "garch") else np.full(100, 0.01)
    if kind == "clusters":
        values = np.abs(simulated("garch", 1500, 34))
    if kind == "real":
        values = np.abs(closes()["SPY"].pct_change().dropna().to_numpy())
    found = optimal_block_length(values)
    if kind == "still":
        assert found == 1.0
        return
    expected = float(optimal_block_length_of_arch(values)["stationary"].iloc[0])
    assert found == pytest.approx(reference.block_length(values.tolist()), rel=1e-9)
    # It takes the first lag of those that are small for the last one that is not.
    assert found == pytest.approx(max(expected, 1.0), rel=0.2, abs=1.0)
    assert found > (2.0 if kind != "garch" else 0.0)


@pytest.mark.parametrize("kind", ["ar", "garch"])
def test_95_percent_intervals_hold_the_true_ratio_nearly_so_often(kind: str) -> None:
    """``benchmarks/coverage.py`` measures it on more series."""
    n_series, held = 120, 0
    for seed in range(n_series):
        values = simulated(kind, 750, seed)
        length = optimal_block_length(sharpe.sharpe_influence(values))
        low, high = stationary_bootstrap(values, length, 200, seed).sharpe_interval
        held += low <= 0.05 <= high
    assert 0.88 <= held / n_series <= 0.99


# Bad arguments

GOOD = noise(40, 3, 25)
HOLE = GOOD.copy()
HOLE[7, 2] = nan
BLOCKS = block_moments(GOOD, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: probabilistic_sharpe_ratio(0.1, 1, 0.0, 3.0), "n_obs=1"),
        (lambda: probabilistic_sharpe_ratio(0.1, 10, 2.0, 3.0), "kurtosis=3"),
        (lambda: probabilistic_sharpe_ratio(0.1, 10, 0.0, 0.0), "kurtosis=0"),
        (
            lambda: probabilistic_sharpe_ratio(
                np.array([0.1, 0.2]), np.array([10.0, 1.0]), np.zeros(2), np.full(2, 3.0)
            ),
            "n_obs=1",
        ),
        (lambda: expected_maximum_sharpe(-0.5, 10), "variance_of_sharpes=-0.5"),
        (lambda: expected_maximum_sharpe(0.5, 0.5), "n_trials=0.5"),
        (lambda: expected_maximum_sharpe(0.5, inf), "n_trials=inf"),
        (lambda: deflated_sharpe_ratio(0.1, 10, 0.0, 3.0, 0.1, 0), "n_trials=0"),
        (lambda: minimum_backtest_length(10, 0.0), "target_sharpe=0"),
        (lambda: minimum_backtest_length(10, nan), "target_sharpe=nan"),
        (lambda: stationary_bootstrap([0.1], 2, 10, 1), r"shape \(1,\)"),
        (lambda: stationary_bootstrap([0.1, inf], 2, 10, 1), "inf at bar 1"),
        (lambda: probability_of_backtest_overfitting(GOOD, 5), "n_blocks=5"),
        (lambda: probability_of_backtest_overfitting(GOOD, 0), "n_blocks=0"),
        (lambda: probability_of_backtest_overfitting(GOOD, 26), "n_blocks=26"),
        (lambda: probability_of_backtest_overfitting(GOOD, 41), "n_blocks=41"),
        (lambda: probability_of_backtest_overfitting(GOOD[:, :1], 4), "n_sets=1"),
        (lambda: probability_of_backtest_overfitting(GOOD[:3], 2), "2 bars in every half"),
        (lambda: probability_of_backtest_overfitting(HOLE, 4), "nan at bar 7, set 2"),
        (lambda: probability_of_backtest_overfitting(GOOD[:, 0], 4), r"shape \(40,\)"),
        (
            lambda: probability_of_backtest_overfitting_from_moments(
                BLOCKS[0], BLOCKS[1], BLOCKS[2][:, :2]
            ),
            r"\(4, 3\) and \(4, 2\)",
        ),
        (
            lambda: probability_of_backtest_overfitting_from_moments([10, 10], *BLOCKS[1:]),
            r"got \(2,\)",
        ),
        (
            lambda: probability_of_backtest_overfitting_from_moments(
                np.array([[10, 10, 9]] * 4), *BLOCKS[1:]
            ),
            "9 in set 2",
        ),
        (
            lambda: probability_of_backtest_overfitting_from_moments(
                BLOCKS[0], BLOCKS[1] * nan, BLOCKS[2]
            ),
            "sums must be finite .* block 0, set 0",
        ),
        (lambda: effective_number_of_trials(), "either returns or correlation"),
        (lambda: effective_number_of_trials(returns=GOOD, correlation=np.eye(2)), "either"),
        (lambda: effective_number_of_trials(correlation=np.ones((2, 3))), r"shape \(2, 3\)"),
        (lambda: effective_number_of_trials(correlation=2 * np.eye(2)), "diagonal of 1"),
        (lambda: effective_number_of_trials(correlation=np.array([[1.0, 0.5], [0, 1]])), "symm"),
        (lambda: stationary_bootstrap([0.1, -1.5, 0.1], 2, 10, 1), "returns=-1.5"),
        (lambda: stationary_bootstrap([0.1, 0.2], inf, 10, 1), "block_length=inf"),
        (lambda: stationary_bootstrap([0.1, 0.2], 2, 10, 1, confidence=1.0), "confidence=1"),
    ],
)
def test_bad_arguments_are_named_with_their_value(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
