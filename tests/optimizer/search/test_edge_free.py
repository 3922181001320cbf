"""Copies of bars without an edge, against a slow version and by what they must keep and lose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.search.edge_free import EdgeFree
from optimizer.selection.bootstrap import stationary_rows
from optimizer.selection.p_values import alpha_and_beta
from optimizer.sweep.buy_and_hold import UNIVERSE
from optimizer.types import Bars
from tests.support.studies import random_bars, trading_days
from tests.support.universe import random_presence, with_present

PRICES = ("open", "high", "low", "close")
Values = npt.NDArray[np.float64]


def copies_of(bars: Bars, benchmark: str = UNIVERSE, risk_free: float = 0.0) -> EdgeFree:
    return EdgeFree(bars, benchmark, np.full(bars.n_bars, risk_free))


def copy_of(bars: Bars, mean_block: float, seed: int) -> Bars:
    return copies_of(bars).copy(mean_block, np.random.default_rng(seed))


def returns_of(bars: Bars) -> Values:
    before = bars.close[:-1]
    paid = 0.0 if bars.payments is None else bars.payments[1:] / before
    return np.asarray(bars.close[1:] / before - 1.0 + paid, np.float64)


def bars_of(returns: Values) -> Bars:
    changes = 1.0 + np.vstack([np.zeros((1, returns.shape[1])), returns])
    close = np.asarray(100.0 * np.cumprod(changes, axis=0), np.float64)
    days = trading_days("2010-01-04", len(close)).astype("datetime64[ns]")
    names = tuple("ABCDEFGH"[: close.shape[1]])
    return Bars(names, days, close, close, close, close, np.full_like(close, 1e6), 252.0)


def slow_copy(bars: Bars, mean_block: float, seed: int) -> Bars:
    """Bar by bar, with lists: draw blocks, take off alpha, bring the market to its mean, multiply on."""
    random = np.random.default_rng(seed)
    n, n_symbols = bars.n_bars - 1, bars.n_symbols
    starts = random.integers(n, size=n).tolist()
    source = [starts[0]]
    for begin, draw in zip(starts[1:], random.random(n).tolist()[1:], strict=True):
        source.append(begin if draw < 1.0 / mean_block else (source[-1] + 1) % n)
    there = [[bars.present is None or bool(bars.present[t + 1, s]) for s in range(n_symbols)]
             for t in range(n)]  # fmt: skip
    returns = [[float(value) if has else 0.0 for value, has in zip(row, own, strict=True)]
               for row, own in zip(returns_of(bars), there, strict=True)]  # fmt: skip
    market = [sum(row) / n_symbols for row in returns]
    factors, betas = [1.0] * n_symbols, [0.0] * n_symbols
    for s in range(n_symbols):
        own = [t for t in range(n) if there[t][s]]
        if len(own) >= 20:
            x, y = ([series[t] for t in own] for series in (market, [row[s] for row in returns]))
            betas[s], alpha = np.polyfit(x, y, 1)
            factors[s] = (1.0 + sum(y) / len(y) - alpha) / (1.0 + sum(y) / len(y))
    drawn = [[(1.0 + returns[t][s]) * factors[s] if there[t][s] else 1.0 for s in range(n_symbols)]
             for t in source]  # fmt: skip
    missing = sum(market) / n - sum(sum(row) / n_symbols - 1.0 for row in drawn) / n
    by_beta = sum(
        value * betas[s] / n_symbols for t, row in zip(source, drawn, strict=True)
        for s, value in enumerate(row) if there[t][s]
    ) / n  # fmt: skip
    shift = missing / by_beta if by_beta > 0.0 else 0.0
    values = {name: getattr(bars, name).copy() for name in (*PRICES, "volume")}
    payments = None if bars.payments is None else bars.payments.copy()
    present = None if bars.present is None else bars.present.copy()
    for s in range(n_symbols):
        for t, place in enumerate(source, 1):
            before, now = float(bars.close[place, s]), float(values["close"][t - 1, s])
            own_factor = factors[s] * (1.0 + betas[s] * shift) if there[place][s] else 1.0
            own_factor = min(max(own_factor, 0.5), 2.0)
            for name in PRICES:
                values[name][t, s] = now * own_factor * getattr(bars, name)[place + 1, s] / before
            values["volume"][t, s] = bars.volume[place + 1, s]
            if payments is not None and bars.payments is not None:
                payments[t, s] = now * own_factor * bars.payments[place + 1, s] / before
            if present is not None and bars.present is not None:
                present[t, s] = bars.present[place + 1, s]
    return replace(bars, **values, payments=payments, present=present)


@given(st.integers(0, 2**32), st.floats(1.0, 50.0), st.integers(5, 60))
def test_a_copy_is_that_of_a_plain_loop(seed: int, mean_block: float, n_bars: int) -> None:
    bars = random_bars(n_bars)
    rng = np.random.default_rng(seed)
    payments = np.where(rng.random(bars.close.shape) < 0.2, rng.normal(size=bars.close.shape), 0.0)
    bars = replace(bars, payments=payments)
    if n_bars > 30:
        bars = with_present(bars, random_presence(n_bars, 3, seed % 5))
    fast, slow = copy_of(bars, mean_block, seed), slow_copy(bars, mean_block, seed)
    for name in (*PRICES, "volume", "payments"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-9)
    assert (fast.present is None) == (slow.present is None)
    if fast.present is not None and slow.present is not None:
        assert (fast.present == slow.present).all()


@given(st.integers(0, 2**32), st.floats(1.0, 100.0))
def test_a_copy_has_valid_bars(seed: int, mean_block: float) -> None:
    bars = with_present(random_bars(150), random_presence(150, 3, seed % 7))
    found = copy_of(bars, mean_block, seed)
    assert (found.low > 0.0).all()
    assert (found.high >= np.maximum(found.open, found.close)).all()
    assert (found.low <= np.minimum(found.open, found.close)).all()
    assert (found.timestamps == bars.timestamps).all()
    if found.present is not None:
        missing = found.present[1:] == 0
        for name in PRICES:
            assert (getattr(found, name)[1:][missing] == found.close[:-1][missing]).all()
        assert (found.volume[1:][missing] == 0.0).all()


def test_rows_are_drawn_anywhere_in_blocks_of_their_mean_length() -> None:
    random = np.random.default_rng(6)
    rows = stationary_rows(100_000, 8.0, random)
    # A block that begins goes on by chance 1 time in n.
    assert (np.diff(rows) % 100_000 != 1).mean() == pytest.approx(1.0 / 8.0, rel=0.03)
    assert len(np.unique(rows)) < 0.75 * len(rows), "with replacement"
    drawn = np.stack([stationary_rows(12, 4.0, random) for _ in range(24_000)])
    counts = np.stack([(drawn == row).sum(axis=0) for row in range(12)])
    # 2,000 each, with a standard deviation of 43; of 144 none is 5 of them off.
    assert np.abs(counts - 2000).max() < 215


def drifting(seed: int, n_bars: int = 3000) -> Values:
    """A market with a drift, and three symbols of it: a good one, a bad one, one like cash."""
    rng = np.random.default_rng(seed)
    market = rng.normal(6e-4, 0.008, n_bars)
    own = rng.normal(0.0, 0.006, (n_bars, 3))
    good, bad = market + own[:, 0] + 1e-3, 1.4 * market + own[:, 1] - 8e-4
    return np.stack([good, bad, 1e-4 + own[:, 2] / 60.0], axis=1)


@pytest.mark.parametrize("benchmark", [UNIVERSE, "B"])
def test_no_symbol_has_alpha_on_average_and_holding_earns_what_it_did(benchmark: str) -> None:
    returns, risk_free = drifting(3), 1e-4
    draws = copies_of(bars_of(returns), benchmark, risk_free)

    def market(values: Values) -> Values:
        held = values[:, 1] if benchmark == "B" else values.mean(axis=1)
        return np.asarray(held - risk_free)

    before = [alpha_and_beta(column - risk_free, market(returns)) for column in returns.T]
    assert max(abs(alpha) for alpha, _ in before) > 4e-4
    found = []
    for seed in range(60):
        copied = returns_of(draws.copy(20.0, np.random.default_rng(seed)))
        found.append([alpha_and_beta(c - risk_free, market(copied)) for c in copied.T])
        assert market(copied).mean() == pytest.approx(market(returns).mean(), abs=1e-9)
    alphas, betas = np.moveaxis(np.array(found), 2, 0)
    error = alphas.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(alphas.mean(axis=0)) < 4.0 * error + 1e-9).all()
    assert error[0] > 1e-6, "each copy has an alpha by luck"
    np.testing.assert_allclose(betas.mean(axis=0), [beta for _, beta in before], atol=0.02)


def test_what_symbols_do_at_the_same_time_they_still_do() -> None:
    bars = random_bars(4000)
    found = copy_of(bars, 10.0, 3)
    assert (found.close[1:] != bars.close[1:]).mean() > 0.9
    correlations = [np.corrcoef(returns_of(one).T) for one in (bars, found)]
    np.testing.assert_allclose(correlations[1], correlations[0], atol=0.05)
    for name in PRICES:
        assert (getattr(found, name)[0] == getattr(bars, name)[0]).all()


def autocorrelation(values: Values, lag: int) -> float:
    around = values - values.mean()
    return float((around[lag:] @ around[:-lag]) / (around @ around))


def test_clusters_stay_within_blocks_and_long_trends_do_not() -> None:
    rng = np.random.default_rng(8)
    n_bars = 20_000
    calm = np.repeat(rng.choice([0.5, 2.0], n_bars // 100), 100)
    trend = np.repeat(rng.choice([-0.6, 0.6], n_bars // 100), 100)
    before = 0.01 * calm * (rng.normal(size=n_bars) + trend)
    found = returns_of(copy_of(bars_of(before[:, np.newaxis]), 20.0, 1))[:, 0]
    kept = autocorrelation(found**2, 1) / autocorrelation(before**2, 1)
    assert kept == pytest.approx(1.0 - 1.0 / 20.0, abs=0.15)
    # What a lookback of 60 bars follows: the mean of as many bars, and of those after it.
    assert autocorrelation(before, 60) > 0.08
    assert abs(autocorrelation(found, 60)) < 0.03


def test_a_symbol_with_few_bars_keeps_its_returns() -> None:
    """So few say nothing on alpha."""
    present = np.ones((200, 3), np.uint8)
    present[:185, 2] = 0
    bars = with_present(random_bars(200), present)
    found = copy_of(bars, 5.0, 2)
    assert found.present is not None
    kept = np.unique(np.round(returns_of(found)[found.present[1:, 2] == 1, 2], 12))
    assert len(kept) > 3
    assert set(kept) <= set(np.round(returns_of(bars)[:, 2], 12))
