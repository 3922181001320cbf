"""Copies of bars in another order, against a slow version and by what they must keep and lose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.bars.permuted import block_order, permuted
from optimizer.types import Bars
from tests.support.studies import random_bars
from tests.support.universe import random_presence, with_present

PRICES = ("open", "high", "low", "close")


def copy_of(bars: Bars, mean_block: float, seed: int) -> Bars:
    return permuted(bars, mean_block, np.random.default_rng(seed))


def slow_copy(bars: Bars, mean_block: float, seed: int) -> Bars:
    """Bar by bar, with lists: cut where a draw says so, exchange, multiply on."""
    random = np.random.default_rng(seed)
    n = bars.n_bars - 1
    back = int(random.integers(n))
    ring = [1 + (place - back) % n for place in range(n)]
    blocks = [ring[:1]]
    for bar, draw in zip(ring[1:], random.random(n - 1).tolist(), strict=True):
        if draw < 1.0 / mean_block:
            blocks.append([bar])
        else:
            blocks[-1].append(bar)
    source = [0] + [t for place in random.permutation(len(blocks)) for t in blocks[place]]
    values = {name: getattr(bars, name).copy() for name in (*PRICES, "volume")}
    payments = None if bars.payments is None else bars.payments.copy()
    present = None if bars.present is None else bars.present.copy()
    for s in range(bars.n_symbols):
        for t in range(1, bars.n_bars):
            old = float(bars.close[source[t] - 1, s])
            new = float(values["close"][t - 1, s])
            for name in PRICES:
                values[name][t, s] = new * (float(getattr(bars, name)[source[t], s]) / old)
            values["volume"][t, s] = bars.volume[source[t], s]
            if payments is not None and bars.payments is not None:
                payments[t, s] = new * (float(bars.payments[source[t], s]) / old)
            if present is not None and bars.present is not None:
                present[t, s] = bars.present[source[t], s]
    return replace(bars, **values, payments=payments, present=present)


@given(st.integers(0, 2**32), st.floats(1.0, 50.0), st.integers(2, 60))
def test_a_copy_is_that_of_a_plain_loop(seed: int, mean_block: float, n_bars: int) -> None:
    bars = random_bars(n_bars)
    rng = np.random.default_rng(seed)
    payments = np.where(rng.random(bars.close.shape) < 0.2, rng.normal(size=bars.close.shape), 0.0)
    bars = replace(bars, payments=payments)
    if n_bars > 30:
        bars = with_present(bars, random_presence(n_bars, 3, seed % 5))
    fast, slow = copy_of(bars, mean_block, seed), slow_copy(bars, mean_block, seed)
    for name in (*PRICES, "volume", "payments"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-12)
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
    assert found.present is not None and bars.present is not None
    missing = found.present[1:] == 0
    for name in PRICES:
        assert (getattr(found, name)[1:][missing] == found.close[:-1][missing]).all()
    assert (found.volume[1:][missing] == 0.0).all()


def rows_of(bars: Bars) -> npt.NDArray[np.float64]:
    """Each bar as all symbols' changes since the close before, and volumes; in an order of its own."""
    before = bars.close[:-1]
    parts = [getattr(bars, name)[1:] / before for name in PRICES]
    rows = np.round(np.hstack([*parts, bars.volume[1:]]), 9)
    return np.asarray(rows[np.lexsort(rows.T)])


def test_a_copy_has_every_bar_once_with_all_symbols_together() -> None:
    bars = random_bars(500)
    found = copy_of(bars, 10.0, 3)
    assert (found.close != bars.close).mean() > 0.9
    np.testing.assert_allclose(rows_of(found), rows_of(bars), rtol=1e-8)
    changes = [np.diff(np.log(one.close), axis=0) for one in (bars, found)]
    correlations = [np.corrcoef(one.T) for one in changes]
    np.testing.assert_allclose(correlations[1], correlations[0], atol=1e-10)
    # Drift stays: prices end where they ended.
    np.testing.assert_allclose(found.close[-1], bars.close[-1], rtol=1e-10)
    assert (found.open[0] == bars.open[0]).all()


@given(st.integers(1, 300), st.floats(1.0, 1e6), st.integers(0, 2**32))
def test_an_order_has_each_bar_once(n_bars: int, mean_block: float, seed: int) -> None:
    order = block_order(n_bars, mean_block, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(n_bars))


def test_blocks_have_their_mean_length() -> None:
    random = np.random.default_rng(5)
    order = block_order(100_000, 8.0, random)
    assert (np.diff(order) != 1).mean() == pytest.approx(1.0 / 8.0, rel=0.03)


def test_a_bar_comes_to_each_place_as_often_as_to_any_other() -> None:
    random = np.random.default_rng(6)
    orders = np.stack([block_order(12, 4.0, random) for _ in range(24_000)])
    counts = np.stack([(orders == bar).sum(axis=0) for bar in range(12)])
    # 2,000 each, with a standard deviation of 43; of 144 none is 5 of them off.
    assert np.abs(counts - 2000).max() < 215


def autocorrelation(values: npt.NDArray[np.float64], lag: int) -> float:
    around = values - values.mean()
    return float((around[lag:] @ around[:-lag]) / (around @ around))


def test_clusters_stay_within_blocks_and_long_trends_do_not() -> None:
    rng = np.random.default_rng(8)
    n_bars = 20_000
    calm = np.repeat(rng.choice([0.5, 2.0], n_bars // 100), 100)
    trend = np.repeat(rng.choice([-0.6, 0.6], n_bars // 100), 100)
    changes = 0.01 * calm * (rng.normal(size=n_bars) + trend)
    close = 100.0 * np.exp(np.cumsum(changes))[:, np.newaxis]
    times = np.arange(n_bars).astype("datetime64[D]").astype("datetime64[ns]")
    bars = Bars(("A",), times, close, close, close, close, np.ones_like(close), 252.0)
    found = np.diff(np.log(copy_of(bars, 20.0, 1).close[:, 0]))
    before = np.diff(np.log(bars.close[:, 0]))
    kept = autocorrelation(found**2, 1) / autocorrelation(before**2, 1)
    assert kept == pytest.approx(1.0 - 1.0 / 20.0, abs=0.1)
    # What a lookback of 60 bars follows: the mean of as many bars, and of those after it.
    assert autocorrelation(before, 60) > 0.08
    assert abs(autocorrelation(found, 60)) < 0.03
    assert np.sort(found) == pytest.approx(np.sort(before), abs=1e-9)
