"""Signals against the rules in plain Python, by hand, and what holds for every one of them."""

from __future__ import annotations

from math import inf, isfinite, nan, sqrt
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.codes import FLAT, HOLD, LONG, SHORT
from kernels.signals import (
    MAX_SCORE,
    average_cross_signal,
    breakout_signal,
    mean_reversion_signal,
    momentum_signal,
    rotation_signal,
    strength_of_score,
    usable_signal,
)
from tests.reference.simulation import ParameterSet, Strategy
from tests.reference.simulation import signal as reference_signal

Signal = tuple[float, float, float]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def signal(
    strategy: Strategy,
    close: float,
    x0: float,
    x1: float,
    volatility: float,
    thresholds: tuple[float, ...],
    lookback: int,
    sharpe: float = 0.05,
) -> Signal:
    """The kernel of a strategy; takes what the reference takes."""
    inverse = 1.0 / volatility if volatility > 0.0 else 0.0
    first, inverse_root = thresholds[0], 1.0 / sqrt(lookback)
    if strategy == "momentum":
        return momentum_signal(x0, volatility, inverse, first, inverse_root, sharpe)
    if strategy == "mean_reversion":
        return mean_reversion_signal(x0, volatility, first, thresholds[1], sharpe)
    if strategy == "rotation":
        return rotation_signal(x0, x1, volatility, sharpe)
    inverse_close = 1.0 / close
    if strategy == "average_cross":
        return average_cross_signal(
            x0, x1, inverse_close, volatility, inverse, first, inverse_root, sharpe
        )
    return breakout_signal(
        x0, x1, close, inverse_close, volatility, inverse, first, inverse_root, sharpe
    )


FEATURES: dict[Strategy, tuple[st.SearchStrategy[float], st.SearchStrategy[float]]] = {
    "momentum": (st.floats(-0.99, 10.0), st.just(0.0)),
    "mean_reversion": (st.floats(0.0, 100.0), st.just(0.0)),
    "average_cross": (st.floats(50.0, 200.0), st.floats(50.0, 200.0)),
    "breakout": (st.floats(50.0, 200.0), st.floats(0.0, 50.0)),
    "rotation": (st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])),
}
THRESHOLDS: dict[Strategy, st.SearchStrategy[tuple[float, ...]]] = {
    "momentum": st.tuples(st.floats(0.0, 2.0)),
    "mean_reversion": st.tuples(st.floats(0.0, 50.0), st.floats(50.0, 100.0)),
    "average_cross": st.tuples(st.floats(0.0, 0.5)),
    "breakout": st.tuples(st.floats(0.0, 5.0)),
    "rotation": st.tuples(st.just(0.0)),
}
volatilities = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))
# Without those so small that their product with a volatility is subnormal and loses digits.
sharpes = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))


@every_strategy
@settings(deadline=None)
@given(data=st.data())
def test_equals_the_reference(strategy: Strategy, data: st.DataObject) -> None:
    x0, x1 = (data.draw(feature) for feature in FEATURES[strategy])
    thresholds = data.draw(THRESHOLDS[strategy])
    close, volatility = data.draw(st.floats(50.0, 200.0)), data.draw(volatilities)
    lookback, sharpe = data.draw(st.integers(1, 500)), data.draw(sharpes)
    actual = signal(strategy, close, x0, x1, volatility, thresholds, lookback, sharpe)
    chosen = ParameterSet(strategy, thresholds, lookback, score_sharpe=sharpe)
    assert actual == reference_signal(chosen, close, x0, x1, volatility)
    direction, strength, confidence = actual
    assert direction in (LONG, HOLD, FLAT if strategy == "rotation" else SHORT)
    assert 0.0 <= strength <= sharpe * MAX_SCORE * volatility * (1.0 + 1e-15)
    # The score is in the strength, and counts once.
    assert confidence == 1.0


@every_strategy
def test_undefined_features_give_no_new_direction(strategy: Strategy) -> None:
    nan = float("nan")
    assert signal(strategy, 100.0, nan, nan, 0.01, (30.0, 70.0), 20)[0] == HOLD


# By hand: score 1.25 / (0.1 * sqrt(25)) = 2.5; strength 0.05 * 0.1 * 2.5 = 0.0125; confidence 1.


@pytest.mark.parametrize(
    ("momentum", "threshold", "expected"),
    [
        (1.25, 1.0, (1, 0.0125, 1.0)),
        (-1.25, 1.0, (-1, 0.0125, 1.0)),
        (1.25, 1.25, (2, 0.0125, 1.0)),  # at the threshold is not beyond it
        (-1.25, 1.25, (2, 0.0125, 1.0)),
        (0.25, 0.0, (1, 0.0025, 1.0)),  # score 0.5
        (4.0, 0.0, (1, 0.015, 1.0)),  # score 8, capped at 3
        (0.0, 0.0, (2, 0.0, 1.0)),
    ],
)
def test_momentum_by_hand(momentum: float, threshold: float, expected: Signal) -> None:
    actual = signal("momentum", 100.0, momentum, 0.0, 0.1, (threshold,), 25)
    assert actual == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("rsi", "expected"),
    [
        (20.0, (1, 0.006, 1.0)),  # score 30 / 25 = 1.2; strength 0.05 * 0.1 * 1.2
        (80.0, (-1, 0.006, 1.0)),
        (30.0, (2, 0.004, 1.0)),
        (70.0, (2, 0.004, 1.0)),
        (50.0, (2, 0.0, 1.0)),
        (0.0, (1, 0.01, 1.0)),
    ],
)
def test_mean_reversion_by_hand(rsi: float, expected: Signal) -> None:
    actual = signal("mean_reversion", 100.0, rsi, 0.0, 0.1, (30.0, 70.0), 14)
    assert actual == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("fast", "band", "expected"),
    [
        (110.0, 0.05, (1, 0.001, 1.0)),  # score 10 / 100 / (0.1 * 5) = 0.2
        (90.0, 0.05, (-1, 0.001, 1.0)),
        (104.0, 0.05, (2, 0.0004, 1.0)),
        (96.0, 0.05, (2, 0.0004, 1.0)),
        (101.0, 0.0, (1, 0.0001, 1.0)),
    ],
)
def test_average_cross_by_hand(fast: float, band: float, expected: Signal) -> None:
    actual = signal("average_cross", 100.0, fast, 100.0, 0.1, (band,), 25)
    assert actual == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("average", "width", "expected"),
    [
        (90.0, 2.0, (1, 0.001, 1.0)),  # the channel ends at 90 + 2 * 4 = 98, the close is 100
        (110.0, 2.0, (-1, 0.001, 1.0)),
        (90.0, 2.5, (2, 0.001, 1.0)),  # at the edge
        (90.0, 3.0, (2, 0.001, 1.0)),
    ],
)
def test_breakout_by_hand(average: float, width: float, expected: Signal) -> None:
    actual = signal("breakout", 100.0, average, 4.0, 0.1, (width,), 25)
    assert actual == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("top", "first", "expected"),
    [
        (1.0, 1.0, (1, 0.005, 1.0)),  # score 1; strength 0.05 * 0.1
        (0.0, 1.0, (0, 0.005, 1.0)),
        (1.0, 0.0, (2, 0.005, 1.0)),
        (0.0, 0.0, (2, 0.005, 1.0)),
        (1.0, 87.5, (1, 0.005, 1.0)),
    ],
)
def test_rotation_by_hand(top: float, first: float, expected: Signal) -> None:
    actual = signal("rotation", 100.0, top, first, 0.1, (0.0,), 25)
    assert actual == pytest.approx(expected, abs=1e-15)


@settings(deadline=None)
@given(
    momentum=st.floats(0.0, 10.0), threshold=st.floats(0.0, 2.0), volatility=st.floats(1e-4, 1.0)
)
def test_momentum_is_odd(momentum: float, threshold: float, volatility: float) -> None:
    up = signal("momentum", 1.0, momentum, 0.0, volatility, (threshold,), 9)
    down = signal("momentum", 1.0, -momentum, 0.0, volatility, (threshold,), 9)
    assert up[1:] == down[1:]
    assert (up[0], down[0]) in ((LONG, SHORT), (HOLD, HOLD))


@settings(deadline=None)
@given(volatility=st.floats(1e-6, 1.0), score=st.floats(0.0, 50.0), more=st.floats(0.0, 50.0))
def test_strength_grows_with_the_score(volatility: float, score: float, more: float) -> None:
    low = strength_of_score(score, volatility, 0.05)
    high = strength_of_score(score + more, volatility, 0.05)
    assert low <= high
    assert isfinite(high)
    assert low == pytest.approx(0.05 * volatility * min(score, 3.0), rel=1e-12)


@every_strategy
@settings(deadline=None)
@given(data=st.data())
def test_a_price_scale_changes_no_direction(strategy: Strategy, data: st.DataObject) -> None:
    # A power of two changes no bits, so that even a tie stays one.
    x0, x1 = (data.draw(feature) for feature in FEATURES[strategy])
    thresholds = data.draw(THRESHOLDS[strategy])
    close, scale = (
        data.draw(st.floats(50.0, 200.0)),
        data.draw(st.sampled_from([0.25, 8.0, 1024.0])),
    )
    prices = strategy in ("average_cross", "breakout")
    factor = scale if prices else 1.0
    one = signal(strategy, close, x0, x1, 0.02, thresholds, 30)
    other = signal(strategy, close * scale, x0 * factor, x1 * factor, 0.02, thresholds, 30)
    assert one == other


GOOD = [(1.0, 0.01, 1.0), (-1.0, 0.0, 0.0), (0.0, 3.0, 0.5), (2.0, 0.01, 1.0)]
BAD = [
    *((direction, 0.01, 1.0) for direction in (0.5, 3.0, -2.0, nan, inf)),
    *((1.0, strength, 1.0) for strength in (-0.01, nan, inf, -inf)),
    *((1.0, 0.01, confidence) for confidence in (-0.1, 1.1, nan, inf)),
]


def test_a_users_signal_is_taken_or_holds() -> None:
    for given_ in GOOD:
        assert usable_signal(*given_) == given_
    for given_ in BAD:
        assert usable_signal(*given_) == (HOLD, 0.0, 0.0)
