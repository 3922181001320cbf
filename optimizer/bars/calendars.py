"""The calendar of an exchange: its sessions, and trading days that are missing."""

from __future__ import annotations

import warnings
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.import_report import Days
from optimizer.bars.times import DAY, LONG_BAR, to_nanoseconds
from optimizer.errors import DataError
from optimizer.extras import optional_module
from optimizer.text import one_line, quoted
from optimizer.types import IntArray, TimeArray


def trading_days(
    times: TimeArray, zone: zoneinfo.ZoneInfo, size: int, calendar: Any | None
) -> TimeArray:
    """The day of each bar: its date if all bars begin at midnight UTC, else by the exchange's clock.

    Args:
        times: shape (n_bars,), UTC.
        zone: the time zone of the exchange, if there is no calendar.
        size: the duration of a bar, nanoseconds.
        calendar: the calendar of the exchange; None if none was given.

    Returns:
        Days, shape (n_bars,).
    """
    midnight = (times.view(np.int64) % DAY == 0).all()
    if midnight and size >= LONG_BAR:
        return times.astype("datetime64[D]")
    clock = pd.DatetimeIndex(times, tz="UTC").tz_convert(zone if calendar is None else calendar.tz)
    return clock.tz_localize(None).to_numpy().astype("datetime64[D]")


def day_gaps(days: TimeArray, size: int, calendar: Any | None) -> tuple[Days, Days]:
    """Days without bars that should have some, and days with bars that should have none.

    Args:
        days: the day of each bar, shape (n_bars,).
        size: the duration of a bar, nanoseconds; bars longer than a day have no missing days.
        calendar: its sessions should have bars; None takes the weekdays that usually have some.

    Returns:
        The days without bars that should have some, then those with bars that should have none.
    """
    if not 0 < size <= DAY + DAY // 2:
        return (), ()
    there = np.unique(days)
    if calendar is not None:
        sessions = _sessions(calendar, there[0], there[-1])
        return tuple(np.setdiff1d(sessions, there)), tuple(np.setdiff1d(there, sessions))
    every = np.arange(there[0], there[-1] + np.timedelta64(1, "D"))
    # 1970-01-01 was a Thursday; Monday is 0. A weekday is usual if half of its days have bars.
    weekday = (every.astype(np.int64) + 3) % 7
    has = np.isin(every, there)
    usual = np.array([has[weekday == day].mean() >= 0.5 for day in range(7) if day in weekday])
    known = np.isin(weekday, np.unique(weekday)[usual])
    return tuple(every[known & ~has]), ()


def bars_missing(days: TimeArray, steps: IntArray, size: int) -> int:
    """The number of bars missing within days, where consecutive bars are more than one bar apart.

    Args:
        days: the day of each bar, shape (n_bars,).
        steps: the steps between consecutive bars, nanoseconds, shape (n_bars - 1,).
        size: the duration of a bar, nanoseconds.
    """
    if not 0 < size < LONG_BAR:
        return 0
    inside = steps[days[1:] == days[:-1]]
    return int((inside // size - 1).clip(min=0).sum())


def longest_gap(
    times: TimeArray, steps: IntArray, size: int
) -> tuple[int, np.datetime64, np.datetime64] | None:
    """The longest gap between two bars: nanoseconds, and the times of the bars before and after.

    Args:
        times: the times of the bars, shape (n_bars,).
        steps: the steps between them, nanoseconds, shape (n_bars - 1,).
        size: the duration of a bar, nanoseconds.

    Returns:
        None if no step is longer than a bar.
    """
    if not len(steps) or int(steps.max()) <= size:
        return None
    at = int(np.argmax(steps))
    return int(steps[at]), times[at], times[at + 1]


def open_calendar(code: str) -> Any:
    """An exchange's calendar by its code, such as XNYS.

    Args:
        code: the code of the exchange, as exchange-calendars names it.

    Raises:
        DataError: no calendar has the code, or exchange-calendars is not installed.
    """
    library = optional_module("exchange_calendars", "calendars")
    try:
        with _their_warnings():
            return library.get_calendar(code)
    except (library.errors.CalendarError, ValueError) as error:
        raise DataError(
            f"--calendar {code}: {one_line(error)}; codes are those of exchange-calendars, such as"
            " XNYS or 24/7"
        ) from None


def _sessions(calendar: Any, first: np.datetime64, last: np.datetime64) -> TimeArray:
    whole = _spanning(calendar.name, first - 7, last + 7, f"--calendar {calendar.name}")
    days: TimeArray = whole.sessions.to_numpy().astype("datetime64[D]")
    return days[(days >= first) & (days <= last)]


def exchange_sessions(
    code: str, first: np.datetime64, last: np.datetime64
) -> tuple[str, IntArray, IntArray, IntArray]:
    """The sessions of an exchange, half days and changes of the clock included.

    Args:
        code: the code of the exchange, as exchange-calendars names it.
        first, last: dates, both included.

    Returns:
        Its time zone; then of each session the date, days since 1970, and the open and the close,
        nanoseconds since 1970, UTC.

    Raises:
        DataError: no calendar has the code, it does not span the dates, or exchange-calendars is not
            installed.
    """
    whole = _spanning(code, first, last, f"[data] exchange = {quoted(code)}")
    days, opens, closes = (
        one.tz_localize(None).as_unit("ns").to_numpy()
        for one in (whole.sessions, pd.DatetimeIndex(whole.opens), pd.DatetimeIndex(whole.closes))
    )
    return (
        str(whole.tz),
        days.astype("datetime64[D]").astype(np.int64),
        to_nanoseconds(opens),
        to_nanoseconds(closes),
    )


def _spanning(code: str, first: np.datetime64, last: np.datetime64, place: str) -> Any:
    """An exchange's calendar over some dates; as loaded it spans 20 years."""
    library = optional_module("exchange_calendars", "calendars")
    try:
        with _their_warnings():
            return library.get_calendar(code, start=str(first), end=str(last))
    except (library.errors.CalendarError, ValueError) as error:
        raise DataError(
            f"{place}: {one_line(error)}; codes are those of exchange-calendars, such as XNYS or 24/7"
        ) from None


def _their_warnings() -> warnings.catch_warnings[Any]:
    """Silence the warnings of pandas about the code of the calendar library."""
    return warnings.catch_warnings(action="ignore", category=DeprecationWarning)
