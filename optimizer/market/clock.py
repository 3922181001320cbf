"""The days and sessions of a market: to which one a bar belongs, and whether its end reaches theirs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from optimizer.bars.calendars import exchange_sessions
from optimizer.bars.sizes import bar_size
from optimizer.bars.times import DAY, LONG_BAR, SECOND, to_nanoseconds
from optimizer.bars.timestamps import without_zone
from optimizer.types import BoolArray, IntArray, MaskArray, TimeArray

if TYPE_CHECKING:
    from optimizer.market.slower import SlowerBars

_MARGIN = 40
"""Days before and after the bars: the last session of the month of the last bar has to be known."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Where bars stand in the days of a market. All have shape (n_bars,).

    Attributes:
        times: the start of each bar, nanoseconds since 1970, UTC.
        dates: its day, days since 1970.
        of_day: nanoseconds since midnight by the market's clock.
        sessions: number of the session to which it belongs: that in which it lies, else that of its day,
            else the next one.
    """

    times: IntArray
    dates: IntArray
    of_day: IntArray
    sessions: IntArray


@dataclass(frozen=True, eq=False)
class MarketClock:
    """The days and sessions of a market, which nothing but the calendar decides.

    Times are nanoseconds since 1970, UTC, dates are days since 1970.

    Attributes:
        size: duration of a bar, nanoseconds.
        first_date: the date of the first midnight.
        midnights: the start of each day by the market's clock, one after another.
        shifts: the times at which the market's clock changes against UTC.
        offsets: the nanoseconds by which it is ahead of UTC from each of them on.
        dates, opens, closes: the sessions, shape (n_sessions,). Without an exchange every day is one.
        slower: bars of a second file, which count for features on bars of their duration; None for none.
    """

    size: int
    first_date: int
    midnights: IntArray
    shifts: IntArray
    offsets: IntArray
    dates: IntArray
    opens: IntArray
    closes: IntArray
    slower: SlowerBars | None = None

    @property
    def long(self) -> bool:
        """Whether bars follow the calendar rather than the clock: those of a day or more."""
        return self.size >= LONG_BAR

    @cached_property
    def weeks(self) -> IntArray:
        """The number of the week of each session; it begins on Monday."""
        return (self.dates + 3) // 7  # 1970-01-01 was a Thursday

    @cached_property
    def months(self) -> IntArray:
        """The number of the month of each session, from January 1970 on."""
        return _dates(self.dates).astype("datetime64[M]").astype(np.int64)

    @cached_property
    def week_ends(self) -> IntArray:
        """The last session of the week of each session."""
        return np.searchsorted(self.weeks, self.weeks, side="right") - 1

    @cached_property
    def month_ends(self) -> IntArray:
        """The last session of the month of each session."""
        return np.searchsorted(self.months, self.months, side="right") - 1

    def at(self, timestamps: TimeArray) -> Moments:
        """Where bars stand.

        Args:
            timestamps: the start of each bar, UTC, shape (n_bars,), within the bars of the clock.
        """
        times = to_nanoseconds(timestamps)
        dates = np.searchsorted(self.midnights, times, side="right") - 1 + self.first_date
        local = times + self.offsets[np.searchsorted(self.shifts, times, side="right") - 1]
        of_day = local % DAY
        if self.long:
            # A bar of a day that begins at midnight UTC bears the date of its day, wherever that is.
            bare = times % DAY == 0
            dates, of_day = np.where(bare, times // DAY, dates), np.where(bare, 0, of_day)
        sessions = np.searchsorted(self.dates, dates, side="left")
        if not self.long:
            # A session may begin on the evening before.
            near = np.searchsorted(self.closes, times, side="right")
            sessions = np.where(self.opens[near] <= times, near, sessions)
        return Moments(times, dates, of_day, sessions)

    def inside(self, moments: Moments) -> BoolArray:
        """Whether each bar begins within its session, shape (n_bars,).

        Args:
            moments: where the bars stand.
        """
        if self.long:
            return np.ones(len(moments.times), dtype=np.bool_)
        times, sessions = moments.times, moments.sessions
        return np.asarray((self.opens[sessions] <= times) & (times < self.closes[sessions]))

    def touches(self, moments: Moments) -> BoolArray:
        """Whether some of each bar lies within its session, shape (n_bars,).

        Args:
            moments: where the bars stand.
        """
        if self.long:
            return np.ones(len(moments.times), dtype=np.bool_)
        times, sessions = moments.times, moments.sessions
        before = times < self.closes[sessions]
        return np.asarray(before & (self.opens[sessions] < times + self.size))

    def reaches(self, moments: Moments, sessions: IntArray) -> BoolArray:
        """Whether the end of each bar reaches the close of a session, and its start does not.

        Args:
            moments: where the bars stand.
            sessions: a session for each bar, shape (n_bars,).

        Returns:
            Shape (n_bars,).
        """
        if self.long:
            return np.asarray(self.dates[sessions] < moments.dates + self._days)
        times, closes = moments.times, self.closes[sessions]
        return np.asarray((times < closes) & (closes <= times + self.size))

    @property
    def _days(self) -> int:
        return max(1, round(self.size / DAY))

    def ends(self, moments: Moments) -> IntArray:
        """When each bar has closed: with the session in which it would end after the close.

        Args:
            moments: where the bars stand.

        Returns:
            Nanoseconds since 1970, UTC, shape (n_bars,).
        """
        if self.long:
            last = np.searchsorted(self.dates, moments.dates + self._days, side="left") - 1
            closes = self.closes[last]
            # A bar of a day without a session, such as a Saturday's, ends with the day.
            return np.where(closes > moments.times, closes, moments.times + self.size)
        ends = moments.times + self.size
        closes = self.closes[moments.sessions]
        return np.where(self.inside(moments), np.minimum(ends, closes), ends)


def market_clock(
    timestamps: TimeArray,
    timezone: str = "UTC",
    exchange: str | None = None,
    size: int | None = None,
) -> MarketClock:
    """The clock of some bars.

    Args:
        timestamps: the start of each bar, UTC, shape (n_bars,), ascending, at least one.
        timezone: whose days count, where no exchange is given.
        exchange: code of an exchange, such as ``XNYS``, whose sessions and time zone count.
        size: duration of a bar, nanoseconds; None takes that of the steps.

    Raises:
        DataError: there is no such exchange, its calendar does not span the bars, or exchange-calendars
            is not installed.
    """
    if size is None:
        size = bar_size(timestamps) if len(timestamps) > 1 else DAY
    first, last = (int(one) // DAY for one in to_nanoseconds(timestamps[[0, -1]]))
    return _clock(timezone, exchange, size, first - _MARGIN, last + _MARGIN)


def last_of_days(
    timestamps: TimeArray,
    timezone: str = "UTC",
    exchange: str | None = None,
    size: int | None = None,
) -> MaskArray:
    """Whether each bar is the last one of its day, or of its session where there is an exchange.

    Args:
        timestamps, timezone, exchange, size: those of ``market_clock``.

    Returns:
        (n_bars,), 1 or 0; the last bar ends a day in any case.

    Raises:
        DataError: as ``market_clock``.
    """
    last = np.ones(len(timestamps), dtype=np.uint8)
    if len(timestamps) > 1:
        sessions = market_clock(timestamps, timezone, exchange, size).at(timestamps).sessions
        last[:-1] = sessions[1:] != sessions[:-1]
    return last


@lru_cache(maxsize=32)
def _clock(timezone: str, exchange: str | None, size: int, first: int, last: int) -> MarketClock:
    dates = np.arange(first, last + 1)
    if exchange is None:
        days = opens = closes = None
    else:
        timezone, days, opens, closes = exchange_sessions(
            exchange, _dates(dates[:1])[0], _dates(dates[-1:])[0]
        )
    # One more, at which the last day ends.
    local = pd.DatetimeIndex(_dates(np.append(dates, last + 1)))
    midnights = to_nanoseconds(
        without_zone(
            local.tz_localize(
                timezone, ambiguous=np.ones(len(local), np.bool_), nonexistent="shift_forward"
            ).tz_convert("UTC")
        )
    )
    shifts, offsets = _shifts(midnights, timezone)
    if days is None or opens is None or closes is None:
        days, opens, closes = dates, midnights[:-1], midnights[1:]
    return MarketClock(size, first, midnights, shifts, offsets, days, opens, closes)


def _shifts(midnights: IntArray, timezone: str) -> tuple[IntArray, IntArray]:
    """From when on the clock is how much ahead of UTC."""
    odd = np.flatnonzero(np.diff(midnights) != DAY)
    minutes = [np.arange(midnights[day], midnights[day + 1], 60 * SECOND) for day in odd]
    times = np.concatenate([midnights[:1], *minutes])
    clock = pd.DatetimeIndex(times, tz="UTC").tz_convert(timezone).tz_localize(None)
    offsets = to_nanoseconds(clock.as_unit("ns").to_numpy()) - times
    new = np.concatenate(([True], offsets[1:] != offsets[:-1]))
    return times[new], offsets[new]


def _dates(days: IntArray) -> TimeArray:
    return days.astype("datetime64[D]")
