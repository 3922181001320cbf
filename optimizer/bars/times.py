"""Times and durations: units, text, the common bar size, bars per year."""

from __future__ import annotations

import numpy as np

from optimizer.errors import DataError
from optimizer.types import IntArray, TimeArray

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
LONG_BAR = 20 * HOUR
"""Bars of this size or longer follow the calendar: months, holidays, changes of the clock."""


def infer_bars_per_year(timestamps: TimeArray) -> float:
    """Bars in one year of a calendar, which annualizes returns.

    The bar size is the most common step. Yearly, quarterly, monthly and weekly bars give 1, 4, 12
    and 52. Otherwise a year has 365 days if the market is open at weekends, else 252, and the bars
    per day are the median over the days with bars: 5-minute bars around the clock give 288 x 365,
    those of a session of 6.5 hours 78 x 252. A market is open at weekends if a day of each weekday
    (UTC) has on average at least a quarter of the bars of the busiest weekday. For bars of several
    days the result is the days of a year divided by the days of a bar.

    Args:
        timestamps: shape (n_bars,), strictly increasing, UTC.

    Raises:
        DataError: fewer than 2 timestamps.
    """
    if len(timestamps) < 2:
        raise DataError("the number of bars in a year cannot be told from fewer than 2 bars")
    size = most_common(np.diff(to_nanoseconds(timestamps)))
    for days, per_year in ((300, 1), (80, 4), (20, 12), (5, 52)):
        if size >= days * DAY:
            return float(per_year)
    dates = timestamps.astype("datetime64[D]")
    # 1970-01-01 was a Thursday; Monday is 0. Bars per weekday, over how often each weekday comes.
    weekday = (dates.astype(np.int64) + 3) % 7
    span = (np.arange(dates[0].astype(np.int64), dates[-1].astype(np.int64) + 1) + 3) % 7
    times = np.bincount(span, minlength=7)
    bars_on = np.bincount(weekday, minlength=7)[times > 0] / times[times > 0]
    at_weekends = bool((times[5:] > 0).any() and bars_on.min() >= bars_on.max() / 4)
    days_per_year = 365.0 if at_weekends else 252.0
    if size >= 2 * DAY:
        return days_per_year * DAY / size
    _, bars_per_day = np.unique(dates, return_counts=True)
    return float(np.median(bars_per_day)) * days_per_year


def time_text(time: np.datetime64) -> str:
    """A time as text, without zeros at the end.

    Args:
        time: UTC.
    """
    text = str(time.astype("datetime64[ns]")).replace("T", " ")
    for zeros in (".000000000", ":00", " 00:00"):
        text = text.removesuffix(zeros)
    return text


def to_nanoseconds(times: TimeArray) -> IntArray:
    """Times as integers: nanoseconds since 1970, UTC.

    Args:
        times: shape (n,), UTC.
    """
    return times.astype("datetime64[ns]").view(np.int64)


def duration_text(nanoseconds: int) -> str:
    """A duration as text, in its largest unit.

    Args:
        nanoseconds: 1 or more.
    """
    names = {DAY: "day", HOUR: "hour", 60 * SECOND: "minute", SECOND: "second", 1: "nanosecond"}
    size = next(size for size in names if nanoseconds >= size)
    count = nanoseconds / size
    return f"{count:g} {names[size]}{'' if count == 1 else 's'}"


def most_common(steps: IntArray) -> int:
    """The most common step; the smallest if several are equally common.

    Args:
        steps: shape (n,), at least one.
    """
    sizes, counts = np.unique(steps, return_counts=True)
    return int(sizes[np.argmax(counts)])
