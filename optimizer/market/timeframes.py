"""Features on longer bars than the study has, each seen once the longer bar has closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kernels.resampling import N_FIELDS, N_STATE, resample, resample_step
from optimizer.bars.times import DAY, duration_text, read_duration
from optimizer.errors import StrategyError
from optimizer.market.clock import MarketClock, Moments
from optimizer.market.feature_keys import BAR_FIELDS
from optimizer.types import BoolArray, FloatArray, IntArray

_MOST_OF_SESSION = 1_000_000
"""More periods than a session can have, of a second or more each."""


@dataclass(frozen=True, eq=False)
class Periods:
    """To which longer bar each bar belongs. All have shape (n_bars,).

    Attributes:
        numbers: the number of the longer bar, ascending.
        inside: whether the bar is part of it: whether it begins within the session.
        reaches: whether the end of the bar reaches the end of the longer bar.
    """

    numbers: IntArray
    inside: BoolArray
    reaches: BoolArray


def timeframe_problem(timeframe: str, clock: MarketClock) -> str:
    """Why the bars cannot be put together to longer ones; empty if they can.

    Args:
        timeframe: such as ``1d``.
        clock: that of the bars.
    """
    size = read_duration(timeframe)
    if size > clock.size and not (size == DAY and clock.long):
        return ""
    return (
        f'timeframe "{timeframe}" is not longer than the bars of {duration_text(clock.size)}; give a'
        " longer one, leave it out, or use finer bars"
    )


def periods(timeframe: str, clock: MarketClock, now: Moments) -> Periods:
    """To which longer bar each bar belongs.

    A longer bar of a day is a session, one of a week the sessions from Monday on. Shorter ones begin with
    the session, one after another, and the last of them ends with it.

    Args:
        timeframe: such as ``4h``, ``1d`` or ``1w``.
        clock: that of the bars.
        now: where the bars stand.

    Returns:
        The number of the longer bar of each, and whether it begins or ends there.

    Raises:
        StrategyError: the bars are as long.
    """
    problem = timeframe_problem(timeframe, clock)
    if problem:
        raise StrategyError(problem)
    size, inside = read_duration(timeframe), clock.inside(now)
    if size > DAY:
        ends = clock.week_ends[now.sessions]
        return Periods(clock.weeks[now.sessions], inside, clock.reaches(now, ends))
    if size == DAY:
        return Periods(now.sessions, inside, clock.reaches(now, now.sessions))
    opens, closes = clock.opens[now.sessions], clock.closes[now.sessions]
    place = (now.times - opens) // size
    ends = np.minimum(opens + (place + 1) * size, closes)
    reaches = now.times + clock.size >= ends
    return Periods(now.sessions * _MOST_OF_SESSION + place, inside, reaches)


@dataclass(frozen=True, eq=False)
class LongerBars:
    """The longer bars of one symbol.

    Attributes:
        fields: open, high, low, close and volume by name, each (n_longer,).
        closed: how many of them have closed with each bar of the symbol, shape (n_bars,).
    """

    fields: dict[str, FloatArray]
    closed: IntArray

    def seen(self, values: FloatArray) -> FloatArray:
        """A feature of the longer bars at each bar of the symbol: that of the last one that has closed.

        Args:
            values: shape (n_longer,).

        Returns:
            Shape (n_bars,), NaN before the first has closed.
        """
        return np.concatenate(([np.nan], values))[self.closed]


def longer_bars(fields: Mapping[str, FloatArray], found: Periods) -> LongerBars:
    """Put the bars of a symbol together.

    Args:
        fields: open, high, low, close and volume by name, each (n_bars,).
        found: the longer bar to which each belongs.

    Returns:
        The longer bars that have closed.
    """
    bars = np.stack([fields[name] for name in BAR_FIELDS])
    longer = np.empty_like(bars)
    closed = np.zeros(bars.shape[1], dtype=np.int64)
    resample(
        bars,
        found.numbers.astype(np.int64),
        found.inside.astype(np.uint8),
        found.reaches.astype(np.uint8),
        np.zeros(N_STATE),
        np.empty((2, N_FIELDS)),
        longer,
        closed,
    )
    n = int(closed[-1]) if len(closed) else 0
    return LongerBars({name: longer[i, :n].copy() for i, name in enumerate(BAR_FIELDS)}, closed)


def longer_bars_of(
    timeframe: str,
    clock: MarketClock,
    now: Moments,
    symbol: int,
    fields: Mapping[str, FloatArray],
) -> LongerBars:
    """The longer bars of a symbol: those of a second file, or its own put together.

    Args:
        timeframe: such as ``1d``.
        clock: that of the bars, with the second file.
        now: where the symbol's bars stand.
        symbol: index.
        fields: open, high, low, close and volume by name, each (n_bars,).

    Raises:
        StrategyError: the bars are as long.
    """
    found = periods(timeframe, clock, now)
    if clock.slower is None or clock.slower.timeframe != timeframe:
        return longer_bars(fields, found)
    given, ends = clock.slower.of_symbol(symbol)
    return LongerBars(given, np.searchsorted(ends, clock.ends(now), side="right"))


class Resampler:
    """Puts the bars of one symbol together, one at a time, with the bits of ``longer_bars``."""

    def __init__(self) -> None:
        self._state = np.zeros(N_STATE)
        self._rows = np.empty((2, N_FIELDS))

    def add(self, bar: Mapping[str, float], found: Periods) -> list[dict[str, float]]:
        """Take the next bar of the symbol.

        Args:
            bar: open, high, low, close and volume by name.
            found: the longer bar to which this one belongs.

        Returns:
            The longer bars that close with it, up to two.
        """
        n = resample_step(
            self._state,
            int(found.numbers[0]),
            bool(found.inside[0]),
            bool(found.reaches[0]),
            bar["open"],
            bar["high"],
            bar["low"],
            bar["close"],
            bar["volume"],
            self._rows,
        )
        return [dict(zip(BAR_FIELDS, row, strict=True)) for row in self._rows[:n].tolist()]
