"""Features against TA-Lib, pandas and statsmodels; long series; values at the edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from statsmodels.tsa.stattools import acf

from kernels.features.table import FEATURES
from tests.support.features import (
    REMEMBERS,
    Fields,
    FloatArray,
    by_reference,
    compute,
    part,
    walk,
)

LOOKBACKS = (2, 3, 14, 30)


def assert_near(actual: FloatArray, expected: Any, rtol: float = 1e-9) -> None:
    """Equal wherever ``expected`` is a number, and a number there."""
    there = ~np.isnan(np.asarray(expected))
    assert there.any()
    np.testing.assert_allclose(actual[there], np.asarray(expected)[there], rtol=rtol, atol=1e-11)


# --- TA-Lib -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LOOKBACKS)
def test_equals_talib_from_the_same_bar_on(n: int) -> None:
    bars = walk(400, seed=3)
    high, low, close, volume = (bars[one] for one in ("high", "low", "close", "volume"))
    expected: Mapping[str, FloatArray] = {
        "adx": talib.ADX(high, low, close, n),
        "atr": talib.ATR(high, low, close, n),
        "cci": talib.CCI(high, low, close, n),
        "donchian_high": talib.MAX(high, n),
        "donchian_low": talib.MIN(low, n),
        "ema": talib.EMA(close, n),
        "mfi": talib.MFI(high, low, close, volume, n),
        "minus_di": talib.MINUS_DI(high, low, close, n),
        "momentum": talib.ROCP(close, n),
        "plus_di": talib.PLUS_DI(high, low, close, n),
        "rsi": talib.RSI(close, n),
        "sma": talib.SMA(close, n),
    }
    for name, values in expected.items():
        actual = compute(name, bars, (n,))
        np.testing.assert_allclose(actual, values, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("fast", "slow", "smooth"), [(12, 26, 9), (3, 10, 16), (2, 3, 2)])
def test_macd_equals_talib(fast: int, slow: int, smooth: int) -> None:
    bars = walk(400, seed=3)
    outputs = talib.MACD(bars["close"], fast, slow, smooth)
    actual = [
        compute("macd", bars, (fast, slow)),
        compute("macd_signal", bars, (fast, slow, smooth)),
        compute("macd_histogram", bars, (fast, slow, smooth)),
    ]
    for ours, theirs in zip(actual, outputs, strict=True):
        assert_near(ours, theirs)
    # TA-Lib holds the difference back until its average is there.
    first = int(np.isnan(outputs[0]).sum())
    assert FEATURES["macd_signal"].warm_up(fast, slow, smooth) == first
    assert FEATURES["macd"].warm_up(fast, slow) == first - (smooth - 1)


def test_macd_turned_around() -> None:
    bars = walk(100, seed=3)
    turned = compute("macd", bars, (26, 12))
    np.testing.assert_array_equal(turned, -compute("macd", bars, (12, 26)))


@pytest.mark.parametrize("width", [0.5, 2.0])
@pytest.mark.parametrize("n", LOOKBACKS)
def test_bollinger_equals_talib(n: int, width: float) -> None:
    bars = walk(400, seed=3)
    upper, _, lower = talib.BBANDS(bars["close"], n, width, width)
    np.testing.assert_allclose(compute("bollinger_upper", bars, (n, width)), upper, rtol=1e-10)
    np.testing.assert_allclose(compute("bollinger_lower", bars, (n, width)), lower, rtol=1e-10)
    place = (bars["close"] - lower) / (upper - lower)
    np.testing.assert_allclose(compute("bollinger", bars, (n, width)), place, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("n", "slow_k", "slow_d"), [(5, 3, 3), (14, 1, 3), (14, 3, 1), (2, 2, 5)])
def test_stochastic_equals_talib(n: int, slow_k: int, slow_d: int) -> None:
    bars = walk(400, seed=3)
    sma: Any = 0  # its number of the simple average
    k, d = talib.STOCH(bars["high"], bars["low"], bars["close"], n, slow_k, sma, slow_d, sma)
    assert_near(compute("stochastic_k", bars, (n, slow_k)), k)
    np.testing.assert_allclose(
        compute("stochastic_d", bars, (n, slow_k, slow_d)), d, rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("n", LOOKBACKS)
def test_obv_is_the_change_of_talib_s_over_the_volume(n: int) -> None:
    bars = walk(400, seed=3)
    change = pd.Series(talib.OBV(bars["close"], bars["volume"])).diff(n)
    volume = pd.Series(bars["volume"]).rolling(n).sum()
    np.testing.assert_allclose(compute("obv", bars, (n,)), change / volume, rtol=1e-9, atol=1e-11)


def test_obv_does_not_depend_on_where_the_data_begin() -> None:
    bars = walk(400, seed=3)
    # 7 blocks of 20 are left out, so that windows are divided in the same way.
    later = compute("obv", part(bars, 140, None), (20,))
    np.testing.assert_array_equal(later[20:], compute("obv", bars, (20,))[160:])


@pytest.mark.parametrize(("n", "m", "width"), [(20, 10, 2.0), (3, 14, 1.5)])
def test_keltner_equals_talib(n: int, m: int, width: float) -> None:
    bars = walk(400, seed=3)
    middle = talib.EMA(bars["close"], n)
    reach = width * talib.ATR(bars["high"], bars["low"], bars["close"], m)
    for name, expected in (("keltner_upper", middle + reach), ("keltner_lower", middle - reach)):
        np.testing.assert_allclose(compute(name, bars, (n, m, width)), expected, rtol=1e-10)


# --- pandas and statsmodels -----------------------------------------------------------------------


@pytest.mark.parametrize("n", LOOKBACKS)
def test_equals_pandas(n: int) -> None:
    bars = walk(400, seed=4)
    open_, high, low, close, volume = (pd.Series(values) for values in bars.values())
    typical = (high + low + close) / 3
    reach, move, change = (
        pd.Series(np.log(one)) for one in (high / low, close / open_, close / close.shift(1))
    )
    variance = 0.5 * reach**2 - (2 * np.log(2) - 1) * move**2
    channel = high.rolling(n).max() - low.rolling(n).min()
    expected = {
        "donchian": (close - low.rolling(n).min()) / channel,
        "garman_klass": np.sqrt(variance.rolling(n).mean()),
        "parkinson": np.sqrt((reach**2).rolling(n).mean() / (4 * np.log(2))),
        "volatility": change.rolling(n).std(),
        "vwap": (typical * volume).rolling(n).sum() / volume.rolling(n).sum(),
        "zscore": (close - close.rolling(n).mean()) / close.rolling(n).std(),
    }
    for name, values in expected.items():
        actual = compute(name, bars, (n,))
        np.testing.assert_allclose(actual, values, rtol=1e-8, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("n", [3, 14, 60])
def test_autocorrelation_equals_statsmodels(n: int) -> None:
    bars = walk(200, seed=4)
    returns = np.diff(np.log(bars["close"]))
    expected = [acf(returns[t - n : t], nlags=1, fft=False)[1] for t in range(n, 200)]
    actual = compute("autocorrelation", bars, (n,))
    np.testing.assert_allclose(actual[n:], expected, rtol=1e-9, atol=1e-12)


def test_ranges_find_the_volatility_of_a_continuous_price() -> None:
    # 20,000 bars of 400 steps of 0.01 / 20 each: a deviation of 0.01 per bar. Highs and lows between
    # the steps are missed, which is why both come out low by a few percent.
    steps = np.random.default_rng(9).normal(0.0, 0.01 / 20, (20_000, 400))
    within = np.concatenate([np.zeros((20_000, 1)), steps.cumsum(axis=1)], axis=1)
    bars: Fields = {
        "open": np.full(20_000, 100.0),
        "high": 100.0 * np.exp(within.max(axis=1)),
        "low": 100.0 * np.exp(within.min(axis=1)),
        "close": 100.0 * np.exp(within[:, -1]),
    }
    for name in ("parkinson", "garman_klass"):
        assert 0.0092 < compute(name, bars, (20_000,))[-1] < 0.01


# --- Long series ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("sma", (250,)),
        ("ema", (20,)),
        ("macd", (12, 26)),
        ("momentum", (250,)),
        ("volatility", (20,)),
        ("volatility", (250,)),
        ("bollinger", (250, 2.0)),
        ("zscore", (20,)),
        ("donchian", (250,)),
        ("stochastic_k", (50, 7)),
        ("parkinson", (250,)),
        ("vwap", (250,)),
        ("obv", (250,)),
        ("mfi", (250,)),
    ],
)
def test_does_not_drift_over_a_million_bars(name: str, parameters: tuple[int | float, ...]) -> None:
    bars = walk(1_000_000, seed=6, scale=0.001)
    actual = compute(name, bars, parameters)
    warm_up = FEATURES[name].warm_up(*parameters)
    # Averages keep less than 1e-16 of values that are 20 lookbacks old.
    past = 20 * warm_up if name in REMEMBERS else warm_up
    for end in (500_003, 1_000_000 - warm_up // 2, 1_000_000):
        expected = by_reference(name, part(bars, end - past - 1, end), parameters)[-1]
        assert actual[end - 1] == pytest.approx(expected, rel=1e-12, abs=0)


# --- Values at the edges --------------------------------------------------------------------------


@pytest.mark.parametrize("lookback", [1, 3, 14])
def test_one_way_only(lookback: int) -> None:
    close = walk(50, seed=7)["close"].cumsum()
    rising: Fields = {
        **{"open": close, "high": close + 0.5, "low": close - 0.5, "close": close},
        "volume": np.full(50, 3.0),
    }
    falling = {name: np.ascontiguousarray(values[::-1]) for name, values in rising.items()}
    for name, up, down in (("rsi", 100.0, 0.0), ("mfi", 100.0, 0.0), ("obv", 1.0, -1.0)):
        assert (compute(name, rising, (lookback,))[lookback:] == up).all()
        assert (compute(name, falling, (lookback,))[lookback:] == down).all()
    for bars, with_it, against in (
        (rising, "plus_di", "minus_di"),
        (falling, "minus_di", "plus_di"),
    ):
        assert (compute(with_it, bars, (lookback,))[lookback:] > 50.0).all()
        assert (compute(against, bars, (lookback,))[lookback:] == 0.0).all()
        assert (compute("adx", bars, (lookback,))[2 * lookback - 1 :] == 100.0).all()


def test_equal_returns_have_no_volatility_and_no_autocorrelation() -> None:
    bars: Fields = {"close": np.cumprod(np.full(40, 2.0))}
    assert (compute("volatility", bars, (6,))[6:] == 0.0).all()
    # 1 percent a bar, up to the rounding of prices.
    growing: Fields = {"close": 100.0 * 1.01 ** np.arange(40.0)}
    assert (compute("autocorrelation", growing, (6,))[6:] == 0.0).all()


def test_bars_without_volume() -> None:
    bars = walk(60, seed=7)
    typical = pd.Series((bars["high"] + bars["low"] + bars["close"]) / 3)
    for unknown in (0.0, np.nan, np.inf):
        without = {**bars, "volume": np.full(60, unknown)}
        np.testing.assert_allclose(
            compute("vwap", without, (5,)), typical.rolling(5).mean(), rtol=1e-12
        )
        assert (compute("obv", without, (5,))[5:] == 0.0).all()
        assert (compute("mfi", without, (5,))[5:] == 50.0).all()


def test_a_close_beyond_its_bar_by_a_rounding_stays_within_the_channel() -> None:
    prices = np.full(10, 100.0)
    prices[-1] = 100.5
    bars: Fields = {"high": prices, "low": prices - 1.0, "close": prices * (1.0 + 1e-9)}
    assert (compute("donchian", bars, (3,))[2:] == 1.0).all()
    flat: Fields = {"high": prices, "low": prices, "close": prices * (1.0 + 1e-9), "open": prices}
    assert (compute("donchian", flat, (1,)) == 0.5).all()
    assert (compute("garman_klass", flat, (1,)) == 0.0).all()


def test_bands_without_width_meet_at_the_mean() -> None:
    bars = walk(60, seed=7)
    mean = compute("sma", bars, (5,))
    for name in ("bollinger_upper", "bollinger_lower"):
        np.testing.assert_allclose(compute(name, bars, (5, 0.0)), mean, rtol=1e-15)
    assert (compute("bollinger", bars, (5, 0.0))[4:] == 0.5).all()
