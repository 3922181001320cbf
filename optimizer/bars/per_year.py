"""Bars and days of a year, which annualize returns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizer.bars.sizes import bar_size
from optimizer.bars.times import DAY, LONG_BAR, long_gap, to_nanoseconds
from optimizer.errors import DataError
from optimizer.types import IntArray, TimeArray

YEAR = 365.25
"""Days."""
YEAR_OF_DAYS = 365.0
"""Days of a year in a market that never closes, by convention."""
TRADING_DAYS = 252.0
"""Days of a year in a stock market, by convention."""
LEAST_PER_YEAR, MOST_PER_YEAR = 0.01, 1e9
"""Bars per year outside are refused."""
_FEW_MISSING = 0.03
"""Bars as few as this share are missing by accident: halts, outages."""


def infer_bars_per_year(timestamps: TimeArray, bar: int | None = None) -> float:
    """The number of bars in one year, which annualizes returns: bars over their span, 365.25 days a year.

    Where the span cannot tell, or is within rounding of a convention, the convention is taken: 252
    trading days, 365 days around the clock, 12 months. The exact rule is in ``docs/numbers.md``.

    Args:
        timestamps: shape (n_bars,), strictly increasing, UTC.
        bar: duration of a bar, nanoseconds; None takes that of the steps, see ``bar_size``.

    Raises:
        DataError: fewer than 2 timestamps.
    """
    if len(timestamps) < 2:
        raise DataError("the number of bars in a year cannot be told from fewer than 2 bars")
    times = to_nanoseconds(timestamps)
    size = bar_size(timestamps) if bar is None else bar
    pieces = _between_gaps(times, size)
    if size >= 20 * DAY:
        return _months_per_year(pieces)
    if size >= 1.5 * DAY:
        return _long_bars_per_year(pieces, size)
    if _around_the_clock(pieces, size):
        return YEAR_OF_DAYS * DAY / size
    trading_days, bars, days = _trading_days(pieces)
    return trading_days * bars / days


def days_per_year(timestamps: TimeArray, bars_per_year: float) -> float:
    """The number of days with bars in one year, which annualizes daily returns of bars within the day.

    Args:
        timestamps: the timestamps of the bars, shape (n_bars,), strictly increasing, UTC, at least
            1.
        bars_per_year: the number of bars in a year as the bars are annualized; daily and longer
            bars give the same.
    """
    times = to_nanoseconds(timestamps)
    size = bar_size(timestamps) if len(times) > 1 else DAY
    if size < LONG_BAR and _around_the_clock(_between_gaps(times, size), size):
        return bars_per_year * size / DAY
    _, bars, days = _trading_days(_between_gaps(times, DAY))
    return bars_per_year * days / bars


def _between_gaps(times: IntArray, size: int) -> list[IntArray]:
    """The times between long gaps; all of them if nothing is left but single bars."""
    gaps = np.flatnonzero(np.diff(times) > long_gap(size)) + 1
    pieces = [piece for piece in np.split(times, gaps) if len(piece) > 1]
    return pieces or [times]


def _months_per_year(pieces: Sequence[IntArray]) -> float:
    """Bars per year of months, quarters and years, or of equal steps such as 4 weeks."""
    steps = np.concatenate([np.diff(piece) for piece in pieces])
    dates = [piece.view("datetime64[ns]").astype("datetime64[D]") for piece in pieces]
    months = [date.astype("datetime64[M]") for date in dates]
    passed = sum(int((month[-1] - month[0]).astype(np.int64)) for month in months)
    day_of_month = np.concatenate(dates) - np.concatenate(months).astype("datetime64[D]")
    drifts = (steps == steps[0]).all() and (day_of_month != day_of_month[0]).any()
    if drifts or not passed:
        return YEAR * DAY * len(steps) / int(steps.sum())
    return 12.0 * len(steps) / passed


def _long_bars_per_year(pieces: Sequence[IntArray], size: int) -> float:
    """Bars per year of weeks and other bars of several days."""
    steps = sum(len(piece) - 1 for piece in pieces)
    over_span = YEAR * DAY * steps / sum(int(piece[-1] - piece[0]) for piece in pieces)
    complete = YEAR * DAY / size
    # A week may begin on its first session: the two ends then shift the span a little.
    near = abs(over_span / complete - 1.0) <= max(_FEW_MISSING, 1.0 / steps)
    return complete if near else over_span


def _around_the_clock(pieces: Sequence[IntArray], size: int) -> bool:
    """Whether next to no bar is missing over a day or more, for daily bars also on a Saturday."""
    spans = [int(piece[-1] - piece[0]) + size for piece in pieces]
    complete = sum(map(len, pieces)) >= (1.0 - _FEW_MISSING) * sum(spans) / size
    return complete and max(spans) >= DAY and (size < LONG_BAR or _trades_on_saturdays(pieces))


def _trades_on_saturdays(pieces: Sequence[IntArray]) -> bool:
    # 1970-01-01 was a Thursday.
    return any(bool((piece // DAY % 7 == 2).any()) for piece in pieces)


def _trading_days(pieces: Sequence[IntArray]) -> tuple[float, int, int]:
    """Trading days in one year, and how many bars are on how many days.

    They are counted over whole weeks of days (UTC), so that it does not matter on which weekday the
    bars begin, between the first and the last day, which may be cut short.

    Returns:
        Trading days per year, bars, days. Without a whole week, the bars are those of the fullest day.
    """
    bars = days = weeks = 0
    fullest = 0
    for piece in pieces:
        dates = piece // DAY
        n_dates = int(dates[-1] - dates[0]) + 1
        n_weeks = max(n_dates - 2, 0) // 7
        begin, end = np.searchsorted(dates, [dates[0] + 1, dates[0] + 1 + 7 * n_weeks])
        bars += int(end - begin)
        days += len(np.unique(dates[begin:end]))
        weeks += n_weeks
        fullest = max(fullest, int(np.unique(dates, return_counts=True)[1].max()))
    if not days:
        at_weekends = _trades_on_saturdays(pieces)
        return YEAR_OF_DAYS if at_weekends else TRADING_DAYS, fullest, 1
    usual = TRADING_DAYS * weeks * 7 / YEAR
    if days <= 5 * weeks and abs(days - usual) <= max(3, 0.01 * usual):
        return TRADING_DAYS, bars, days
    if days >= (1.0 - _FEW_MISSING) * 7 * weeks:
        return YEAR_OF_DAYS, bars, days
    return days * YEAR / (7 * weeks), bars, days
