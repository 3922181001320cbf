"""Features of time, against the calendar: changes of the clock, half days, missing bars."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

import numpy as np
import pytest

from optimizer.bars.times import DAY, HOUR
from optimizer.errors import DataError
from optimizer.market.clock import market_clock
from optimizer.market.feature_keys import BAR_FIELDS
from optimizer.market.features import compute_features
from optimizer.market.time_features import TIME_FEATURES
from optimizer.types import Bars, FloatArray, TimeArray
from tests.support.universe import with_present

NEW_YORK = "America/New_York"
MINUTE = HOUR // 60


def bars_at(times: TimeArray, n_symbols: int = 1) -> Bars:
    prices: Any = {name: np.full((len(times), n_symbols), 100.0) for name in BAR_FIELDS}
    names = tuple(f"S{s}" for s in range(n_symbols))
    return Bars(names, times.astype("datetime64[ns]"), **prices, bars_per_year=252.0)


def at(name: str, times: TimeArray, size: int, **market: Any) -> FloatArray:
    """A feature of time at bars of one symbol, shape (n_bars,)."""
    bars = bars_at(times)
    clock = market_clock(bars.timestamps, size=size, **market)
    return compute_features(bars, [(name,)], clock=clock).values[:, 0, 0]


def span(start: str, stop: str, minutes: int) -> TimeArray:
    return np.arange(start, stop, minutes, dtype="datetime64[m]")


@pytest.mark.parametrize("zone", [NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("start", ["2024-03-07", "2024-03-29", "2024-04-05", "2024-11-01"])
def test_the_clock_is_that_of_the_zone(zone: str, start: str) -> None:
    """Next to the standard library, over changes of the clock by an hour and by half an hour."""
    times = span(start, str(np.datetime64(start) + 6), 30)
    local = [
        datetime.datetime.fromisoformat(str(time)).replace(tzinfo=datetime.UTC).astimezone(
            zoneinfo.ZoneInfo(zone)
        )
        for time in times
    ]  # fmt: skip
    for name, expected in (
        ("hour", [one.hour for one in local]),
        ("minute_of_day", [60 * one.hour + one.minute for one in local]),
        ("weekday", [one.weekday() for one in local]),
        ("month", [one.month for one in local]),
    ):
        assert at(name, times, 30 * MINUTE, timezone=zone).tolist() == expected
    days = [one.date() for one in local]
    first = [i == 0 or days[i] != days[i - 1] for i in range(len(days))]
    assert at("first_bar_of_day", times, 30 * MINUTE, timezone=zone).tolist() == first
    # The last bar of a day is the one before the first of the next, which the calendar tells.
    last = at("last_bar_of_day", times, 30 * MINUTE, timezone=zone)
    assert last[:-1].tolist() == first[1:]


def test_a_day_of_23_hours_and_one_of_25() -> None:
    """New York: the clock goes forward on 10 March 2024, and back on 3 November."""
    for start, stop, hours in (
        ("2024-03-10T05:00", "2024-03-11T04:00", 23),
        ("2024-11-03T04:00", "2024-11-04T05:00", 25),
    ):
        times = span(start, stop, 60)
        assert len(times) == hours
        since = at("minutes_since_open", times, HOUR, timezone=NEW_YORK)
        assert since.tolist() == [60 * i for i in range(hours)]
        left = at("minutes_to_close", times, HOUR, timezone=NEW_YORK)
        assert left.tolist() == [60 * (hours - 1 - i) for i in range(hours)]
        last = at("last_bar_of_day", times, HOUR, timezone=NEW_YORK)
        assert last.tolist() == [0.0] * (hours - 1) + [1.0]


def test_sessions_of_an_exchange_over_a_change_of_the_clock() -> None:
    """The New York exchange opens at 14:30 UTC on Friday, and at 13:30 on Monday."""
    for day, opens in (("2024-03-08", 14), ("2024-03-11", 13)):
        times = span(f"{day}T{opens}:30", f"{day}T{opens + 7}:00", 30)
        since = at("minutes_since_open", times, 30 * MINUTE, exchange="XNYS")
        assert since.tolist() == [30 * i for i in range(13)]
        assert at("minutes_to_close", times, 30 * MINUTE, exchange="XNYS")[-1] == 0.0
        assert at("hour", times, 30 * MINUTE, exchange="XNYS")[0] == 9.0


def test_a_half_day_ends_at_its_own_close() -> None:
    """The day after Thanksgiving 2024 closes at 13:00, 18:00 UTC."""
    times = span("2024-11-29T14:30", "2024-11-29T18:00", 30)
    last = at("last_bar_of_day", times, 30 * MINUTE, exchange="XNYS")
    assert last.tolist() == [0.0] * 6 + [1.0]
    assert at("minutes_to_close", times, 30 * MINUTE, exchange="XNYS").tolist() == [
        180, 150, 120, 90, 60, 30, 0,
    ]  # fmt: skip
    # It is also the last one of the week, and of the month: Saturday is the 30th.
    for name in ("last_bar_of_week", "last_bar_of_month"):
        assert at(name, times, 30 * MINUTE, exchange="XNYS").tolist() == last.tolist()


def test_bars_before_and_after_the_session_are_outside_it() -> None:
    times = span("2024-07-02T12:00", "2024-07-02T22:00", 30)  # open 13:30, close 20:00 UTC
    since = at("minutes_since_open", times, 30 * MINUTE, exchange="XNYS")
    assert since[:4].tolist() == [-90, -60, -30, 0]
    left = at("minutes_to_close", times, 30 * MINUTE, exchange="XNYS")
    assert left[-5:].tolist() == [0, -30, -60, -90, -120]
    assert at("last_bar_of_day", times, 30 * MINUTE, exchange="XNYS").sum() == 1.0
    assert set(at("weekday", times, 30 * MINUTE, exchange="XNYS")) == {1.0}


def test_a_session_that_begins_on_the_evening_before() -> None:
    """Sunday evening in Chicago belongs to Monday, 8 January 2024."""
    times = span("2024-01-07T23:00", "2024-01-08T23:00", 60)
    assert set(at("weekday", times, HOUR, exchange="CMES")) == {0.0}
    assert at("first_bar_of_week", times, HOUR, exchange="CMES").tolist() == [1.0] + [0.0] * 23
    assert at("last_bar_of_day", times, HOUR, exchange="CMES").tolist() == [0.0] * 23 + [1.0]


def test_daily_bars_bear_the_date_of_their_day() -> None:
    """A bar of 2024-01-02T00:00Z is of Tuesday, in New York too, and ends its session."""
    days = np.arange("2023-12-26", "2024-04-03", dtype="datetime64[D]")
    days = days[
        np.is_busday(days, holidays=["2024-01-01", "2024-01-15", "2024-02-19", "2024-03-29"])
    ]
    weekday = (days.astype(int) + 3) % 7
    for market in ({"exchange": "XNYS"}, {"timezone": NEW_YORK}, {}):
        assert at("weekday", days, DAY, **market).tolist() == weekday.tolist()
        assert set(at("hour", days, DAY, **market)) == {0.0}
        assert set(at("last_bar_of_day", days, DAY, **market)) == {1.0}
        assert set(at("minutes_to_close", days, DAY, **market)) == {0.0}
        month = days.astype("datetime64[M]")
        first = np.append(True, month[1:] != month[:-1])
        assert at("first_bar_of_month", days, DAY, **market).tolist() == first.tolist()
    ends = days[at("last_bar_of_month", days, DAY, exchange="XNYS") == 1.0].astype(str)
    assert ends.tolist() == ["2023-12-29", "2024-01-31", "2024-02-29", "2024-03-28"]
    # Without an exchange the month ends on its last day, whether anything trades then or not.
    ends = days[at("last_bar_of_month", days, DAY) == 1.0].astype(str)
    assert ends.tolist() == ["2024-01-31", "2024-02-29"]
    weeks = days[at("last_bar_of_week", days, DAY, exchange="XNYS") == 1.0].astype(str)
    assert "2024-03-28" in weeks  # Good Friday is no session
    assert "2024-03-22" in weeks


def test_daily_bars_at_local_midnight_over_changes_of_the_clock() -> None:
    days = np.arange("2024-10-25", "2024-11-10", dtype="datetime64[D]")
    hours = np.where(days <= np.datetime64("2024-11-03"), 4, 5).astype("timedelta64[h]")
    times = days + hours
    for name in ("last_bar_of_day", "first_bar_of_day"):
        assert set(at(name, times, DAY, timezone=NEW_YORK)) == {1.0}
    last = at("last_bar_of_week", times, DAY, timezone=NEW_YORK)
    assert days[last == 1.0].astype(str).tolist() == ["2024-10-27", "2024-11-03"]


def test_missing_bars_move_the_first_one_and_drop_the_last() -> None:
    times = span("2024-07-01T00:00", "2024-07-04T00:00", 60)
    present = np.ones((72, 2), dtype=np.uint8)
    present[[24, 25, 47], 1] = 0
    bars = with_present(bars_at(times, 2), present)
    columns = compute_features(bars, [("first_bar_of_day",), ("last_bar_of_day",)])
    assert np.flatnonzero(columns.values[:, 0, 0]).tolist() == [0, 24, 48]
    own = bars.own(1)
    assert own[columns.values[own, 1, 0] == 1.0].tolist() == [0, 26, 48]
    assert own[columns.values[own, 1, 1] == 1.0].tolist() == [23, 71]
    # Where the symbol has no bar, it keeps what it had.
    assert columns.values[24, 1, 1] == columns.values[23, 1, 1] == 1.0


@pytest.mark.parametrize("name", sorted(TIME_FEATURES))
def test_what_follows_changes_nothing(name: str) -> None:
    """Half of the bars are left out, anywhere: the others have what they had."""
    times = span("2024-11-27T14:30", "2024-12-03T21:00", 30)
    clock = market_clock(times.astype("datetime64[ns]"), exchange="XNYS", size=30 * MINUTE)
    whole = compute_features(bars_at(times), [(name,)], clock=clock).values
    for cut in range(1, len(times)):
        part = compute_features(bars_at(times[:cut]), [(name,)], clock=clock).values
        assert part.tobytes() == whole[:cut].tobytes()


def test_an_unknown_exchange_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r'^\[data\] exchange = "XNYZ": .*XNYZ.*such as XNYS'):
        market_clock(span("2024-01-02", "2024-01-03", 60), exchange="XNYZ")
