"""Features against plain references, TA-Lib and pandas; causality, cuts, drift, still prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import features
from tests.reference import features as reference
from tests.support.causality import assert_causal

FloatArray = npt.NDArray[np.float64]
LOOKBACKS = (2, 3, 14, 30)


@dataclass(frozen=True)
class Feature:
    """The three kernels of a feature, its reference and its inputs."""

    name: str
    first_bar: int
    """First defined bar minus the lookback."""
    inputs: tuple[int, ...] = (2,)
    """Positions in (high, low, close)."""

    @property
    def series(self) -> Callable[..., None]:
        """The form over arrays."""
        return cast(Callable[..., None], getattr(features, self.name))

    @property
    def step(self) -> Callable[..., float]:
        """The form over one bar."""
        return cast(Callable[..., float], getattr(features, f"{self.name}_step"))

    @property
    def reference(self) -> Callable[..., list[float]]:
        """The reference in plain Python."""
        return cast(Callable[..., list[float]], getattr(reference, self.name))

    def state(self, lookback: int) -> FloatArray:
        """A fresh state."""
        return np.zeros(getattr(features, f"{self.name}_state_size")(lookback))

    def take(self, bars: Sequence[FloatArray]) -> list[FloatArray]:
        """Its inputs, picked from high, low and close."""
        return [np.ascontiguousarray(bars[place]) for place in self.inputs]

    def compute(
        self, bars: Sequence[FloatArray], lookback: int, state: FloatArray | None = None
    ) -> FloatArray:
        """Its values over high, low and close, from the given state or a fresh one."""
        taken = self.take(bars)
        out = np.full(len(taken[0]), -1.0)
        self.series(*taken, lookback, self.state(lookback) if state is None else state, out)
        return out


ALL = [
    Feature("sma", -1),
    Feature("ema", -1),
    Feature("momentum", 0),
    Feature("rsi", 0),
    Feature("volatility", 0),
    Feature("atr", 0, (0, 1, 2)),
]
BY_NAME = {feature.name: feature for feature in ALL}
every_feature = pytest.mark.parametrize("feature", ALL, ids=lambda feature: feature.name)


def walk(n_bars: int, seed: int, scale: float = 0.01) -> tuple[FloatArray, FloatArray, FloatArray]:
    """High, low and close of a geometric random walk."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, scale, n_bars)))
    opening = close * np.exp(random.normal(0.0, scale, n_bars))
    high = np.maximum(opening, close) * (1.0 + random.uniform(0.0, scale, n_bars))
    low = np.minimum(opening, close) * (1.0 - random.uniform(0.0, scale, n_bars))
    return high, low, close


@st.composite
def bars_of(draw: st.DrawFn, least: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bars that stay constant, move between few levels, or jump by many orders of magnitude."""
    prices = draw(
        st.one_of(
            st.lists(st.integers(1, 4).map(float), min_size=least, max_size=50),
            st.lists(st.floats(1e-3, 1e6), min_size=least, max_size=50),
        )
    )
    close = np.array(prices, dtype=np.float64)
    spread = np.array(draw(st.lists(st.floats(0.0, 0.5), min_size=len(close), max_size=len(close))))
    return close * (1.0 + spread), close * (1.0 - spread), close


def least(feature: Feature) -> int:
    """Shortest lookback at which it is defined."""
    return 2 if feature.name == "volatility" else 1


@every_feature
@settings(max_examples=60, deadline=None)
@given(bars=bars_of(), lookback=st.integers(1, 12))
def test_equals_the_reference(feature: Feature, bars: Sequence[FloatArray], lookback: int) -> None:
    lookback = max(lookback, least(feature))
    expected = feature.reference(*(list(one) for one in feature.take(bars)), lookback)
    actual = feature.compute(bars, lookback)
    # RSI: the reference computes 100 - 100 / (1 + x), which loses digits near 0.
    near = 1e-11 if feature.name == "rsi" else 1e-14
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=near)


@every_feature
@settings(max_examples=40, deadline=None)
@given(bars=bars_of(), lookback=st.integers(1, 12), data=st.data())
def test_cut_anywhere_and_carry_the_state(
    feature: Feature, bars: Sequence[FloatArray], lookback: int, data: st.DataObject
) -> None:
    lookback = max(lookback, least(feature))
    n_bars = len(bars[2])
    whole_state = feature.state(lookback)
    whole = feature.compute(bars, lookback, whole_state)
    cuts = sorted(data.draw(st.lists(st.integers(0, n_bars), max_size=4)))
    state = feature.state(lookback)
    pieces = [
        feature.compute([one[start:stop] for one in bars], lookback, state)
        for start, stop in zip([0, *cuts], [*cuts, n_bars], strict=True)
    ]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    assert state.tobytes() == whole_state.tobytes()


@every_feature
@settings(max_examples=40, deadline=None)
@given(bars=bars_of(), lookback=st.integers(1, 12))
def test_one_bar_at_a_time_equals_the_array(
    feature: Feature, bars: Sequence[FloatArray], lookback: int
) -> None:
    lookback = max(lookback, least(feature))
    state = feature.state(lookback)
    one_by_one = np.array(
        [feature.step(state, *values, lookback) for values in zip(*feature.take(bars), strict=True)]
    )
    assert one_by_one.tobytes() == feature.compute(bars, lookback).tobytes()


@every_feature
@settings(max_examples=30, deadline=None)
@given(bars=bars_of(least=1), lookback=st.integers(1, 12), data=st.data())
def test_never_reads_ahead(
    feature: Feature, bars: Sequence[FloatArray], lookback: int, data: st.DataObject
) -> None:
    lookback = max(lookback, least(feature))
    cuts = data.draw(st.lists(st.integers(0, len(bars[2])), max_size=3))
    assert_causal(lambda *given: feature.compute(given, lookback), bars, cuts)


@every_feature
def test_a_feature_that_reads_one_bar_ahead_is_caught(feature: Feature) -> None:
    def one_ahead(*given: FloatArray) -> FloatArray:
        out = feature.compute(given, 5)
        return np.append(out[1:], out[-1:])

    bars, cuts = walk(60, seed=1), (20, 41)
    assert_causal(lambda *given: feature.compute(given, 5), bars, cuts)
    with pytest.raises(AssertionError, match="first 20 bars"):
        assert_causal(one_ahead, bars, cuts)


def test_a_feature_that_looks_ahead_only_while_bars_follow_is_caught() -> None:
    # Truncating the bars alone would miss this one, because it uses the present bar at the end.
    def peek(close: FloatArray) -> FloatArray:
        ahead = np.minimum(np.arange(len(close)) + 1, len(close) - 1)
        return close[ahead] / close - 1.0

    def scaled_by_all(close: FloatArray) -> FloatArray:
        return close / close.max() if len(close) else close

    close = walk(30, seed=2)[2]
    for broken in (peek, scaled_by_all):
        with pytest.raises(AssertionError, match="bars changes when"):
            assert_causal(broken, [close], [15])


@pytest.mark.parametrize("lookback", LOOKBACKS)
@pytest.mark.parametrize("name", ["sma", "ema", "momentum", "rsi", "atr"])
def test_equals_talib(name: str, lookback: int) -> None:
    high, low, close = walk(400, seed=3)
    expected = {
        "sma": lambda: talib.SMA(close, lookback),
        "ema": lambda: talib.EMA(close, lookback),
        "momentum": lambda: talib.ROCP(close, lookback),
        "rsi": lambda: talib.RSI(close, lookback),
        "atr": lambda: talib.ATR(high, low, close, lookback),
    }[name]()
    actual = BY_NAME[name].compute((high, low, close), lookback)
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("lookback", LOOKBACKS)
def test_volatility_equals_pandas(lookback: int) -> None:
    bars = walk(400, seed=4)
    expected = pd.Series(np.log(bars[2])).diff().rolling(lookback).std()
    actual = BY_NAME["volatility"].compute(bars, lookback)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("lookback", [2, 3, 20, 61])
def test_volatility_is_exact_at_a_large_price_offset(lookback: int) -> None:
    # Moves of 1 at a price of 1e9: the log of the quotient alone would be right to 1e-7.
    close = 1e9 + np.cumsum(np.random.default_rng(5).normal(0.0, 1.0, 300))
    actual = BY_NAME["volatility"].compute((close, close, close), lookback)
    expected = reference.volatility(list(close), lookback)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    # With two returns one pair may almost cancel; beyond that it is right to the last digits.
    if lookback > 2:
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("lookback", [20, 250])
@pytest.mark.parametrize("name", ["sma", "volatility", "ema", "momentum"])
def test_does_not_drift_over_a_million_bars(name: str, lookback: int) -> None:
    close = walk(1_000_000, seed=6, scale=0.001)[2]
    actual = BY_NAME[name].compute((close, close, close), lookback)
    # The average keeps less than 1e-16 of values that are 20 lookbacks old.
    past = 20 * lookback if name == "ema" else lookback
    for end in (500_003, 1_000_000 - lookback // 2, 1_000_000):
        fresh = BY_NAME[name].reference(list(close[end - past - 1 : end]), lookback)[-1]
        assert actual[end - 1] == pytest.approx(fresh, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", ["sma", "volatility", "momentum"])
@settings(max_examples=30, deadline=None)
@given(lookback=st.integers(2, 15), where=st.integers(0, 40), seed=st.integers(0, 1000))
def test_what_left_the_window_leaves_no_trace(
    name: str, lookback: int, where: int, seed: int
) -> None:
    feature = BY_NAME[name]
    close = walk(80, seed)[2]
    leap = close.copy()
    leap[where] = 1e15
    gone = where + lookback + 1
    plain = feature.compute((close,) * 3, lookback)[gone:]
    assert feature.compute((leap,) * 3, lookback)[gone:].tobytes() == plain.tobytes()


@pytest.mark.parametrize("price", [0.1, 1.0, 3.3e-7, 123456.789, 1e9 + 0.1])
@pytest.mark.parametrize("lookback", [1, 2, 7, 50])
def test_still_prices(price: float, lookback: int) -> None:
    bars = (np.full(200, price),) * 3
    expected = {"sma": price, "ema": price, "momentum": 0.0, "rsi": 50.0, "atr": 0.0}
    for name, value in expected.items():
        feature = BY_NAME[name]
        assert (feature.compute(bars, lookback)[lookback + feature.first_bar :] == value).all()
    if lookback > 1:
        assert (BY_NAME["volatility"].compute(bars, lookback)[lookback:] == 0.0).all()


@pytest.mark.parametrize("lookback", [1, 3, 14])
def test_rsi_without_losses_is_100_and_without_gains_0(lookback: int) -> None:
    rising = walk(50, seed=7)[2].cumsum()
    assert (BY_NAME["rsi"].compute((rising,) * 3, lookback)[lookback:] == 100.0).all()
    falling = np.ascontiguousarray(rising[::-1])
    assert (BY_NAME["rsi"].compute((falling,) * 3, lookback)[lookback:] == 0.0).all()


def test_volatility_of_equal_returns_is_0() -> None:
    doubling = np.cumprod(np.full(40, 2.0))
    assert (BY_NAME["volatility"].compute((doubling,) * 3, 6)[6:] == 0.0).all()


@every_feature
@pytest.mark.parametrize("lookback", [2, 3, 20])
def test_warm_up_is_nan_and_nothing_else_is(feature: Feature, lookback: int) -> None:
    first = lookback + feature.first_bar
    for n_bars in (0, 1, first, first + 1, 60):
        out = feature.compute([one[:n_bars] for one in walk(60, seed=8)], lookback)
        assert np.isnan(out[:first]).all()
        assert np.isfinite(out[first:]).all()


@settings(max_examples=200, deadline=None)
@given(previous=st.floats(1e-9, 1e9), close=st.floats(1e-9, 1e9))
def test_log_return_is_right_to_the_last_digits(previous: float, close: float) -> None:
    exact = float(reference.precise_returns([previous, close])[0])
    assert features.log_return(previous, close) == pytest.approx(exact, rel=1e-15, abs=0)
    near = previous * (1.0 + 3e-16)
    exact = float(reference.precise_returns([previous, near])[0])
    assert features.log_return(previous, near) == pytest.approx(exact, rel=1e-15, abs=0)
