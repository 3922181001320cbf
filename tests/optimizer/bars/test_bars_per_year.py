"""Bars per year, on whole kinds of calendars; the values are counted by hand or by year."""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.bars.importing import import_bars
from optimizer.bars.load import load_bars
from optimizer.bars.per_year import days_per_year, infer_bars_per_year
from optimizer.bars.times import read_duration, write_duration
from optimizer.errors import DataError
from optimizer.types import Bars, TimeArray

WEEKS = 365.25 / 7


def times_of(index: pd.DatetimeIndex) -> TimeArray:
    utc = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
    return utc.as_unit("ns").to_numpy()


def per_year(index: pd.DatetimeIndex) -> float:
    return infer_bars_per_year(times_of(index))


def of_weekdays(weekdays: Sequence[int], first: str, count: int) -> pd.DatetimeIndex:
    """So many days on some weekdays; Monday is 0."""
    every = pd.date_range(first, periods=7 * count)
    return every[np.isin(every.day_of_week, weekdays)][:count]


@functools.cache
def sessions(exchange: str, first: str, last: str, size: str) -> pd.DatetimeIndex:
    """The bars of an exchange's sessions, with its holidays, half days and changes of the clock."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        library = importlib.import_module("exchange_calendars")
        calendar = library.get_calendar(exchange, start=first, end=last)
    parts = [
        pd.date_range(one.open, one.close, freq=size, inclusive="left")
        for one in calendar.schedule.itertuples()
    ]
    return pd.DatetimeIndex(np.concatenate([times_of(part) for part in parts]))


# --- Bars of several days -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5, 40, 500])
@pytest.mark.parametrize(
    ("step", "expected"),
    [("7D", 52.1786), ("14D", 26.0893), ("28D", 13.04464), ("3D", 121.75), ("10D", 36.525)],
)
def test_bars_of_whole_days(step: str, expected: float, count: int) -> None:
    assert per_year(pd.date_range("2016-01-04", periods=count, freq=step)) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("count", [3, 5, 40, 150])
@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("MS", 12),
        ("ME", 12),
        ("BMS", 12),
        ("BME", 12),
        ("2MS", 6),
        ("QS", 4),
        ("BQE", 4),
        ("YS", 1),
    ],
)
def test_months_quarters_and_years(frequency: str, expected: float, count: int) -> None:
    for first in ("2009-01-30", "2012-02-29", "2015-07-01"):
        found = per_year(pd.date_range(first, periods=count, freq=frequency))
        # Three bars may lie 13 weeks apart by chance.
        assert found == (expected if count > 3 else pytest.approx(expected, rel=0.004))


def test_weeks_that_begin_on_their_first_session() -> None:
    days = sessions("XNYS", "2010-01-01", "2019-12-31", "1D").normalize()
    assert (days.to_series().groupby(days.to_period("W")).first().diff().nunique()) > 2
    weeks = pd.DatetimeIndex(days.to_series().groupby(days.to_period("W")).first())
    assert per_year(weeks) == pytest.approx(WEEKS, rel=1e-12)
    assert per_year(weeks[:8]) == pytest.approx(WEEKS, rel=1e-12)


def test_weeks_without_a_market_are_not_counted() -> None:
    """Every fifth week is missing: four bars in five weeks."""
    weeks = pd.date_range("2010-01-04", periods=500, freq="7D")[np.arange(500) % 5 != 4]
    assert per_year(weeks) == pytest.approx(WEEKS * 4 / 5, rel=2e-3)


# --- Days ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_day", range(7))
@pytest.mark.parametrize("count", [9, 12, 40, 313, 3000])
def test_days_of_currencies_with_sundays(count: int, first_day: int) -> None:
    days = of_weekdays((6, 0, 1, 2, 3, 4), f"2014-06-{first_day + 2:02}", count)
    assert per_year(days) == pytest.approx(313.0714, rel=1e-6)


@pytest.mark.parametrize("first_day", range(7))
def test_weekdays_without_holidays(first_day: int) -> None:
    days = of_weekdays(range(5), f"2014-06-{first_day + 2:02}", 2600)
    assert per_year(days) == pytest.approx(260.893, rel=1e-5)


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [("XNYS", 252.0), ("XLON", 252.0), ("XFRA", 252.0), ("XTKS", 245.0), ("XSHG", 243.0)],
)
def test_days_of_stock_exchanges(exchange: str, expected: float) -> None:
    days = sessions(exchange, "2010-01-01", "2019-12-31", "1D").normalize()
    assert per_year(days) == pytest.approx(expected, rel=3e-3)
    assert len(days) / 10 == pytest.approx(expected, rel=1e-2)
    if expected == 252.0:
        assert per_year(days) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2400), st.integers(9, 2500))
def test_any_span_of_stock_days_gives_the_convention(first: int, count: int) -> None:
    """Whatever holidays it holds, by chance many or none.

    A few months with the days that Hurricane Sandy closed the exchange, and more holidays than
    usual besides, are taken at their word.
    """
    days = sessions("XNYS", "2008-01-01", "2017-12-31", "1D").normalize()
    found = per_year(days[first : first + count])
    assert found == 252.0 or abs(found - 252.0) < 10.0


@pytest.mark.parametrize("count", [6, 7, 30, 800])
def test_days_around_the_clock(count: int) -> None:
    assert per_year(pd.date_range("2024-03-04", periods=count)) == 365.0
    # Too few days to include a Saturday could be of any market.
    assert per_year(pd.date_range("2024-03-04", periods=5)) == 252.0
    assert per_year(pd.date_range("2024-03-07", periods=5)) == 365.0


# --- Bars within a day --------------------------------------------------------------------------


@pytest.mark.parametrize("n_days", [1, 2, 3, 5, 7, 8, 30, 400, 3 * 365])
@pytest.mark.parametrize(("size", "expected"), [("1min", 525_600), ("5min", 105_120), ("4h", 2190)])
def test_bars_around_the_clock_on_any_length(size: str, expected: int, n_days: int) -> None:
    if size == "1min" and n_days > 400:
        pytest.skip("a million bars say no more")
    for first in ("2024-03-05 00:00", "2024-03-09 07:00"):
        whole = pd.date_range(first, periods=n_days * expected // 365, freq=size)
        assert per_year(whole) == expected
        if n_days > 1:
            assert per_year(whole[: -len(whole) // 5]) == expected  # cut within a day


def test_an_outage_now_and_then_is_no_closing_time() -> None:
    index = pd.date_range("2023-01-01", periods=288 * 200, freq="5min")
    missing = np.zeros(len(index), dtype=bool)
    for start in (1_000, 20_000, 50_000):
        missing[start : start + 300] = True
    assert per_year(index[~missing]) == 105_120
    two_parts = index[(np.arange(len(index)) < 20_000) | (np.arange(len(index)) > 30_000)]
    assert per_year(two_parts) == 105_120  # 35 days without bars


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("n_days", [20, 60])
def test_thin_trading_around_the_clock(share: float, n_days: int) -> None:
    index = pd.date_range("2017-01-03 05:00", periods=n_days * 1440, freq="1min")
    kept = index[np.random.default_rng(7).random(len(index)) < share]
    assert per_year(kept) == pytest.approx(525_600 * share, rel=0.02)


@pytest.mark.parametrize(
    ("first", "last"),
    [("2010-01-01", "2019-12-31"), ("2017-02-20", "2017-04-03"), ("2016-10-20", "2016-12-30")],
)
@pytest.mark.parametrize(("size", "per_day"), [("1min", 390), ("5min", 78), ("60min", 7)])
def test_sessions_of_stocks(size: str, per_day: int, first: str, last: str) -> None:
    """Across changes of the clock; half days of 3.5 hours make it a little less."""
    if size == "1min" and first < "2012":
        pytest.skip("a million bars say no more")
    expected = per_day * 252
    found = per_year(sessions("XNYS", first, last, size))
    assert 0.985 * expected <= found <= expected
    assert days_per_year(times_of(sessions("XNYS", first, last, size)), found) == pytest.approx(252)


@pytest.mark.parametrize("n_days", [1, 2, 4, 5])
def test_a_few_sessions_with_a_half_day(n_days: int) -> None:
    """From the Monday before Thanksgiving: on Friday the exchange closes at 13:00."""
    index = sessions("XNYS", "2016-11-21", "2016-12-02", "5min")
    kept = index[index.normalize().isin(index.normalize().unique()[:n_days])]
    assert per_year(kept) == pytest.approx(78 * 252, rel=1e-12)


@pytest.mark.parametrize("n_weeks", [2, 10, 100])
def test_currencies_from_sunday_to_friday_night(n_weeks: int) -> None:
    """120 hours of each week, from 22:00 to 22:00."""
    index = pd.date_range("2015-01-04 22:00", periods=n_weeks * 7 * 24, freq="h")
    kept = index[np.arange(len(index)) % (7 * 24) < 120]
    assert per_year(kept) == pytest.approx(120 * WEEKS, rel=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 20),
    st.integers(1, 4),
    st.integers(3, 60),
    st.integers(0, 6),
)
def test_any_week_that_repeats(
    weekdays: set[int], opens: int, hours: int, n_weeks: int, first: int
) -> None:
    """A market with the same hours every week has them 52.18 times a year, or by a convention."""
    days = pd.date_range("2015-01-05", periods=7 * n_weeks) + pd.Timedelta(days=first)
    days = days[np.isin(days.day_of_week, sorted(weekdays))]
    stamps = [day + pd.Timedelta(hours=opens + hour) for day in days for hour in range(hours)]
    if hours == 1:
        return  # then an hour is not the step between bars
    n_days = len(weekdays)
    exact = n_days * WEEKS
    by_convention = {5: 252.0, 7: 365.0}.get(n_days, exact)
    found = per_year(pd.DatetimeIndex(stamps)) / hours
    usual = 252.0 / exact * n_days * n_weeks
    few = n_days <= 5 and abs(n_days * n_weeks - usual) <= 4
    assert found in (
        pytest.approx(exact, rel=1e-9),
        pytest.approx(252.0 if few else by_convention, rel=1e-9),
    )


# --- Files of other programs --------------------------------------------------------------------


def test_a_file_of_two_weeks(tmp_path: Path) -> None:
    stamps = pd.date_range("2016-01-04", periods=120, freq="14D")
    lines = ["time,open,high,low,close,Volume", *(f"{d.date()},98,99,94,95,1000" for d in stamps)]
    (tmp_path / "SPX, 2W.csv").write_text("\n".join(lines) + "\n")
    import_bars([tmp_path / "SPX, 2W.csv"], tmp_path / "bars.parquet", symbol="SPX")
    bars = load_bars(tmp_path / "bars.parquet")
    assert bars.bars_per_year == pytest.approx(26.089, rel=1e-4)


def test_a_file_of_klines_of_two_days_and_a_part(tmp_path: Path) -> None:
    start, step = 1_709_596_800_000, 300_000  # Tuesday
    rows = [
        f"{start + i * step},59,60,58,59,1.5,{start + (i + 1) * step - 1},1,1,1,1,0"
        for i in range(599)
    ]
    (tmp_path / "BTCUSDT-5m-2024-03.csv").write_text("\n".join(rows) + "\n")
    import_bars([tmp_path / "BTCUSDT-5m-2024-03.csv"], tmp_path / "bars.parquet")
    assert load_bars(tmp_path / "bars.parquet").bars_per_year == 105_120.0


# --- What the user says -------------------------------------------------------------------------


def write(tmp_path: Path, index: pd.DatetimeIndex, name: str = "a.parquet") -> Path:
    frame = pd.DataFrame({"timestamp": index, **dict.fromkeys(("open", "high", "low"), 5.0)})
    frame.assign(symbol="X", close=5.0, volume=1.0).to_parquet(tmp_path / name)
    return tmp_path / name


def test_the_user_may_say_how_many(tmp_path: Path) -> None:
    path = write(tmp_path, pd.date_range("2024-03-04", periods=5))
    plain, said = load_bars(path), load_bars(path, bars_per_year=365)
    assert (plain.bars_per_year, said.bars_per_year) == (252.0, 365.0)
    assert isinstance(said.bars_per_year, float)
    assert plain.content_hash == said.content_hash
    for wrong in (0, -1.0, math.nan, math.inf, 1e10):
        with pytest.raises(DataError, match=r"a\.parquet: bars_per_year: got .* 0\.01 to 1e\+09"):
            load_bars(path, bars_per_year=wrong)


def test_the_user_may_say_how_long_a_bar_is(tmp_path: Path) -> None:
    """Four bars a day, each of an hour: then the market is closed for most of the day."""
    path = write(tmp_path, pd.date_range("2024-03-04", periods=12, freq="6h"))
    assert load_bars(path).bars_per_year == 4 * 365
    assert load_bars(path, bar="6h").bars_per_year == 4 * 365
    assert load_bars(path, bar="1h").bars_per_year == 4 * 252


def test_a_duration_that_the_bars_contradict(tmp_path: Path) -> None:
    path = write(tmp_path, pd.date_range("2024-03-04", periods=300, freq="h"))
    for bar, step in (("2h", "1 hour"), ("5min", "1 hour"), ("1d", "1 hour")):
        with pytest.raises(DataError) as caught:
            load_bars(path, bar=bar)
        assert f'column timestamp is {step} after the bar before, but bar = "{bar}"' in str(
            caught.value
        )
        assert str(caught.value).endswith("correct it, or leave it out")
    for wrong in ("", "5", "min", "5m", "1M", "1.5h", "0h", "-1h", "9999w", "5 minutes", "1h30min"):
        with pytest.raises(DataError, match="expected a duration such as"):
            load_bars(path, bar=wrong)


@given(st.integers(1, 10**6), st.sampled_from(["s", "min", "h", "d", "w"]))
def test_durations_read_back(count: int, unit: str) -> None:
    seconds = count * {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}[unit]
    if seconds > 3653 * 86_400:
        with pytest.raises(ValueError, match="expected a duration"):
            read_duration(f"{count}{unit}")
        return
    for text in (f"{count}{unit}", f" {count} {unit.upper()} "):
        assert read_duration(text) == seconds * 10**9
    assert read_duration(write_duration(seconds * 10**9)) == seconds * 10**9
    assert write_duration(3600 * 10**9) == "1h"


# --- Days per year, for daily returns -----------------------------------------------------------


def test_daily_returns_are_annualized_alike() -> None:
    for index, bars_per_year, expected in (
        (pd.date_range("2024-03-05", periods=599, freq="5min"), 105_120.0, 365.0),
        (pd.date_range("2024-03-05 07:00", periods=90_000, freq="5min"), 105_120.0, 365.0),
        (pd.date_range("2016-01-04", periods=50, freq="14D"), 26.089, 26.089),
        (pd.date_range("2015-01-01", periods=50, freq="MS"), 12.0, 12.0),
        (of_weekdays(range(5), "2014-06-02", 900), 260.0, 260.0),
        (sessions("XNYS", "2017-02-20", "2017-04-03", "60min"), 7 * 250.0, 250.0),
    ):
        found = days_per_year(times_of(index), bars_per_year)
        assert found == pytest.approx(expected, rel=1e-9)


# --- Which symbols traded -----------------------------------------------------------------------


def bars_of(volume: list[list[float]]) -> Bars:
    cells = np.array(volume)
    times = np.datetime64("2017-01-02", "ns") + np.arange(len(cells)) * np.timedelta64(1, "D")
    names = tuple(chr(65 + s) for s in range(cells.shape[1]))
    prices = np.full(cells.shape, 5.0)
    return Bars(names, times, prices, prices, prices, prices, cells, 252.0)


volumes = st.integers(1, 4).flatmap(
    lambda n_symbols: st.lists(
        st.lists(st.sampled_from([0.0, 0.0, 1e-300, 7.0]), min_size=n_symbols, max_size=n_symbols),
        min_size=1,
        max_size=12,
    )
)


@given(volumes, st.integers(0, 12))
def test_traded_is_that_of_a_plain_loop(volume: list[list[float]], stop: int) -> None:
    bars = bars_of(volume)
    for part, n_bars in ((bars, len(volume)), (bars.head(stop), min(stop, len(volume)))):
        assert part.traded.dtype == np.uint8
        assert part.traded.shape == (n_bars, bars.n_symbols)
        assert part.traded is part.traded
        assert not part.traded.flags.writeable
        for t in range(n_bars):
            for s in range(bars.n_symbols):
                without = all(row[s] == 0.0 for row in volume)
                assert part.traded[t, s] == (1 if without or volume[t][s] > 0.0 else 0)
    if stop:
        # The hash is of what the bars hold, not of what is known about the rest of the file.
        assert bars.head(stop).content_hash == bars_of(volume[:stop]).content_hash


def test_a_volume_that_alignment_drops_counts(tmp_path: Path) -> None:
    """The only volume of A is on a day that B does not have."""
    rows = [("A", f"2017-01-0{day}", 5, 5, 5, 5, 9 if day == 4 else 0) for day in range(2, 7)]
    rows += [("B", f"2017-01-0{day}", 5, 5, 5, 5, 0) for day in range(2, 7) if day != 4]
    frame = pd.DataFrame(rows, columns=["symbol", "date", "open", "high", "low", "close", "volume"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    bars = load_bars(tmp_path / "a.csv")
    assert bars.volume.max() == 0.0
    assert bars.traded.tolist() == [[0, 1]] * 4
