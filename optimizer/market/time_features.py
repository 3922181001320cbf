"""Features of time: what the calendar says of a bar's start and end, without any price."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from optimizer.bars.times import HOUR
from optimizer.market.clock import MarketClock, Moments
from optimizer.types import FloatArray, IntArray

_MINUTE = HOUR // 60

TimeFeature = Callable[[MarketClock, Moments, IntArray], npt.NDArray[np.generic]]
"""Of the clock, of where bars stand, and of the session of the bar that the symbol has before each (-1
before its first), to values of shape (n_bars,)."""


def _first(of: Callable[[MarketClock], IntArray]) -> TimeFeature:
    """Whether the symbol has no earlier bar in the same period."""

    def first(clock: MarketClock, now: Moments, before: IntArray) -> IntArray:
        periods = of(clock)
        return np.where((before < 0) | (periods[now.sessions] != periods[before]), 1, 0)

    return first


def _last(of: Callable[[MarketClock], IntArray]) -> TimeFeature:
    """Whether the end of the bar reaches that of the period."""
    return lambda clock, now, before: clock.reaches(now, of(clock)[now.sessions])


def _minutes(clock: MarketClock, spans: IntArray) -> FloatArray:
    """Minutes within a session; 0 for bars as long as one."""
    return np.zeros(len(spans)) if clock.long else spans / _MINUTE


def _each(clock: MarketClock) -> IntArray:
    return np.arange(len(clock.dates))


TIME_FEATURES: dict[str, TimeFeature] = {
    "hour": lambda clock, now, before: now.of_day // HOUR,
    "minute_of_day": lambda clock, now, before: now.of_day // _MINUTE,
    "weekday": lambda clock, now, before: (clock.dates[now.sessions] + 3) % 7,
    "month": lambda clock, now, before: clock.months[now.sessions] % 12 + 1,
    "minutes_since_open": lambda clock, now, before: _minutes(
        clock, now.times - clock.opens[now.sessions]
    ),
    "minutes_to_close": lambda clock, now, before: _minutes(
        clock, clock.closes[now.sessions] - now.times - clock.size
    ),
    "first_bar_of_day": _first(_each),
    "first_bar_of_week": _first(lambda clock: clock.weeks),
    "first_bar_of_month": _first(lambda clock: clock.months),
    "last_bar_of_day": _last(_each),
    "last_bar_of_week": _last(lambda clock: clock.week_ends),
    "last_bar_of_month": _last(lambda clock: clock.month_ends),
}
"""Every feature of time by its name; none takes a parameter."""


def time_values(name: str, clock: MarketClock, now: Moments, before: IntArray) -> FloatArray:
    """A feature of time.

    Args:
        name: one of ``TIME_FEATURES``.
        clock: the days and sessions of the market.
        now: where the bars stand.
        before: the session of the bar that the symbol has before each, shape (n_bars,); -1 before its
            first. Against one bar now, those of all symbols.

    Returns:
        Shape (n_bars,), or (1,) where all symbols have the same.
    """
    return np.asarray(TIME_FEATURES[name](clock, now, before), dtype=np.float64)
