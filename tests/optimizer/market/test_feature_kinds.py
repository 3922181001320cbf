"""Time, several timeframes and panels: columns by hand, and the same bits one bar at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels.codes import LIVE
from optimizer.bars.times import HOUR
from optimizer.errors import DataError, StrategyError
from optimizer.market.clock import market_clock
from optimizer.market.feature_keys import (
    BAR_FIELDS,
    FeatureKey,
    FeatureName,
    indicator_name,
    lookbacks,
    read_name,
    warm_up,
)
from optimizer.market.feature_steps import FeatureSteps
from optimizer.market.features import bars_of_warm_up, compute_features
from optimizer.market.slower import slower_bars
from optimizer.market.time_features import TIME_FEATURES
from optimizer.sweep.universe import live_mask, tradable_mask
from optimizer.types import Bars, FloatArray
from tests.support.studies import random_bars
from tests.support.universe import only, random_presence, with_present


def hourly(n_bars: int = 400, n_symbols: int = 5, seed: int = 2, start: str = "2024-03-05") -> Bars:
    """Hourly bars over a change of the clock in New York, some of them missing."""
    bars = random_bars(n_bars, [f"S{s}" for s in range(n_symbols)], seed)
    times = np.datetime64(start, "ns") + np.arange(n_bars) * np.timedelta64(1, "h")
    return with_present(replace(bars, timestamps=times), random_presence(n_bars, n_symbols, seed))


def test_bars_of_a_second_file_are_seen_once_they_have_closed() -> None:
    """Daily bars of New York, which close at 16:00 there: the clock changes in March."""
    bars = random_bars(400, ["A", "B"], 3)
    times = np.datetime64("2024-03-05", "ns") + np.arange(400) * np.timedelta64(1, "h")
    bars = replace(bars, timestamps=times)
    dates = ["02-29", "03-06", "03-07", "03-08", "03-11", "03-12", "03-14", "03-15"]
    days = np.array([f"2024-{date}" for date in dates], "M8[ns]")
    daily = replace(random_bars(8, ["A", "B", "C"], 4), timestamps=days)
    present = np.ones((8, 3), np.uint8)
    present[[2, 4, 7], [1, 0, 0]] = 0
    daily = with_present(daily, present)
    clock = market_clock(bars.timestamps, exchange="XNYS")
    slower = slower_bars(daily, bars.symbols, clock, "UTC", "XNYS")
    assert slower.timeframe == "1d"
    closes = [f"2024-{date}T{21 if date < '03-10' else 20}" for date in dates]
    assert slower.ends.tolist() == [
        int(np.datetime64(one, "ns").astype(np.int64)) for one in closes
    ]
    clock = replace(clock, slower=slower)
    columns = compute_features(bars, [("close@1d",)], clock=clock)
    for s in range(2):
        for t in range(400):
            end = times[t] + np.timedelta64(1, "h")
            known = [
                daily.close[i, s]
                for i, one in enumerate(closes)
                if np.datetime64(one, "ns") <= end and present[i, s]
            ]
            assert columns.values[t, s, 0] == known[-1]
    with pytest.raises(DataError, match="bars of 1 hour; expected bars that are longer"):
        slower_bars(bars, bars.symbols, clock, "UTC", None)


def test_a_slower_bar_without_a_session_ends_with_its_day() -> None:
    """A coin's days under New York's sessions: Saturday's close is not known on Saturday morning."""
    days = np.datetime64("2024-03-05", "ns") + np.arange(10) * np.timedelta64(24, "h")
    daily = replace(random_bars(10, ["A"], 4), timestamps=days)
    hours = np.datetime64("2024-03-05", "ns") + np.arange(240) * np.timedelta64(1, "h")
    clock = market_clock(hours, exchange="XNYS")
    over = days + np.timedelta64(24, "h")
    in_sessions = slower_bars(daily, ["A"], clock, "UTC", "XNYS").ends.view("M8[ns]")
    weekend = [4, 5]  # 9 and 10 March
    assert in_sessions[weekend].tolist() == over[weekend].tolist()
    assert (np.delete(in_sessions, weekend) < np.delete(over, weekend)).all()
    # Bars of the study at night say that this market trades after the session.
    assert not clock.touches(clock.at(hours)).all()
    assert clock.touches(clock.at(hours[[14, 15, 20]])).all()
    around_the_clock = slower_bars(daily, ["A"], clock, "UTC", "XNYS", in_sessions=False)
    assert around_the_clock.ends.view("M8[ns]").tolist() == over.tolist()


def distance(bars: Mapping[str, Any], parameters: tuple[float, ...]) -> FloatArray:
    """A user's feature of one symbol."""
    n, close = int(parameters[0]), bars["close"]
    values: FloatArray = np.full(len(close), np.nan)
    values[n:] = close[n:] / close[:-n] + bars["volume"][n:] * 1e-9
    return values


def spread(bars: Mapping[str, Any], parameters: tuple[float, ...]) -> FloatArray:
    """A user's feature of a panel: each close over the mean of those that are there."""
    del parameters
    index = np.nanmean(bars["close"], axis=1, keepdims=True)
    values = bars["close"] / index + 0.001 * bars["tradable"].sum(axis=1, keepdims=True)
    night = (bars["timestamps"].astype("datetime64[h]").astype(int) % 24 < 6)[:, np.newaxis]
    return np.asarray(np.where(night, -values, values) + len(bars["symbols"]))


GIVEN = {"mine.distance": distance, "panel(mine.spread)": spread}
KEYS: list[FeatureKey] = [
    *((name,) for name in TIME_FEATURES),
    *(("rank(momentum)", 5), ("zscore_across(rsi)", 6), ("top(momentum)", 5, 2)),
    *(("sma@4h", 3), ("atr@1d", 2), ("close@1w",), ("volatility@2h", 5), ("rsi@90min", 3)),
    *(("rank(sma@1d)", 2), ("top(mine.distance)", 4, 1), ("zscore_across(mine.distance@4h)", 2)),
    *(("mine.distance@1d", 3), ("panel(mine.spread)", 3), ("momentum", 5)),
]


@pytest.mark.parametrize(
    "market", [{}, {"timezone": "America/New_York"}, {"exchange": "XNYS"}, {"exchange": "CMES"}]
)
def test_one_bar_at_a_time_has_the_bits_of_the_columns(market: dict[str, Any]) -> None:
    bars = hourly()
    clock = market_clock(bars.timestamps, **market)
    if "exchange" in market:
        daily = replace(
            random_bars(30, [*bars.symbols, "Z"], 8),
            timestamps=np.datetime64("2024-02-20", "ns") + np.arange(30) * np.timedelta64(24, "h"),
        )
        clock = replace(
            clock, slower=slower_bars(daily, bars.symbols, clock, "UTC", market["exchange"])
        )
    members = (np.random.default_rng(5).random((bars.n_bars, bars.n_symbols)) < 0.8).astype(
        np.uint8
    )
    tradable = tradable_mask(bars, 20, members)
    columns = compute_features(bars, KEYS, GIVEN, clock, tradable)
    steps = FeatureSteps(bars.symbols, KEYS, GIVEN, clock, tradable)
    for t in range(bars.n_bars):
        values = steps.step(bars.at(t))
        for i, key in enumerate(columns.keys):
            expected = columns.values[t, :, i]
            np.testing.assert_array_equal(values[indicator_name(key)], expected, f"{key} at {t}")
    assert np.isfinite(columns.values[-1, 0]).all()


@pytest.mark.parametrize("market", [{}, {"exchange": "XNYS"}])
def test_what_follows_changes_nothing(market: dict[str, Any]) -> None:
    bars = hourly()
    clock = market_clock(bars.timestamps, **market)
    whole = compute_features(bars, KEYS, GIVEN, clock, tradable_mask(bars, 20, None)).values
    for cut in (30, 100, 101, 155, 156, 255, 399):
        head = bars.head(cut)
        part = compute_features(head, KEYS, GIVEN, clock, tradable_mask(head, 20, None)).values
        np.testing.assert_array_equal(part, whole[:cut])


# --- Several timeframes -------------------------------------------------------------------------


def of_days(bars: Bars, groups: list[list[int]]) -> Bars:
    """Longer bars of one symbol, by a plain loop over the bars of each."""
    rows = [
        (
            bars.open[group[0], 0],
            max(bars.high[t, 0] for t in group),
            min(bars.low[t, 0] for t in group),
            bars.close[group[-1], 0],
            sum(bars.volume[t, 0] for t in group),
        )
        for group in groups
    ]
    times = bars.timestamps[[group[0] for group in groups]].copy()
    columns = [np.array(one).reshape(-1, 1) for one in zip(*rows, strict=True)]
    prices: Any = dict(zip(BAR_FIELDS, columns, strict=True))
    return Bars(bars.symbols, times, **prices, bars_per_year=252.0)


@pytest.mark.parametrize("key", [("sma", 3), ("atr", 2), ("rsi", 2), ("close",)])
def test_a_day_is_seen_from_the_bar_whose_end_reaches_its_end(key: FeatureKey) -> None:
    bars = only(hourly(), [0])  # every bar is there; days of UTC
    groups = [list(range(day * 24, day * 24 + 24)) for day in range(bars.n_bars // 24)]
    expected = compute_features(of_days(bars, groups), [key]).values[:, 0, 0]
    name, *parameters = key
    found = compute_features(bars, [(f"{name}@1d", *parameters)]).values[:, 0, 0]
    for day, value in enumerate(expected):
        seen = found[day * 24 + 23 : day * 24 + 47]
        np.testing.assert_array_equal(seen, np.full(len(seen), value))
    assert np.isnan(found[:23]).all()


def test_a_day_whose_last_bar_is_missing_is_seen_at_the_first_later_bar() -> None:
    whole = only(hourly(96), [0])
    present = np.ones((96, 2), dtype=np.uint8)
    present[[22, 23, 24, 25], 1] = 0
    prices: Any = {name: np.repeat(getattr(whole, name), 2, axis=1) for name in BAR_FIELDS}
    both = Bars(("A", "B"), whole.timestamps, **prices, bars_per_year=8766.0)
    bars = with_present(both, present)
    found = compute_features(bars, [("close@1d",)]).values[:, :, 0]
    assert found[23, 0] == bars.close[23, 0]
    assert np.isnan(found[:26, 1]).all()
    assert found[26:47, 1].tolist() == [bars.close[21, 1]] * 21


def test_a_session_closes_at_its_close_also_on_a_half_day() -> None:
    """28 November 2024 is no session, the 29th ends at 18:00 UTC, the 27th at 21:00."""
    times = np.arange("2024-11-27T12:00", "2024-11-30", 60, dtype="datetime64[m]")
    bars = only(hourly(len(times)), [0])
    bars = replace(bars, timestamps=times.astype("datetime64[ns]"))
    clock = market_clock(bars.timestamps, exchange="XNYS", size=HOUR)
    found = compute_features(bars, [("close@1d",)], clock=clock).values[:, 0, 0]
    where = {str(time)[5:13]: t for t, time in enumerate(times)}
    # Bars within the session are those that begin from 14:30 on, so the first is that of 15:00.
    changes = [t for t in range(1, len(found)) if found[t] != found[t - 1] == found[t - 1]]
    assert np.flatnonzero(np.isfinite(found))[0] == where["11-27T20"]
    assert found[where["11-27T20"]] == bars.close[where["11-27T20"], 0]
    assert changes == [where["11-29T17"]]
    assert found[changes[0]] == bars.close[changes[0], 0]


def test_days_follow_the_zone_over_a_change_of_the_clock() -> None:
    """10 March 2024 ends at 04:00 UTC in New York, the days before it at 05:00."""
    bars = only(hourly(24 * 9), [0])
    clock = market_clock(bars.timestamps, "America/New_York")
    found = compute_features(bars, [("close@1d",)], clock=clock).values[:, 0, 0]
    changes = [
        str(bars.timestamps[t])[5:13] for t in range(25, len(found)) if found[t] != found[t - 1]
    ]
    assert changes == [
        *("03-06T04", "03-07T04", "03-08T04", "03-09T04", "03-10T04"),
        *("03-11T03", "03-12T03", "03-13T03"),
    ]


def test_a_week_closes_on_its_last_session() -> None:
    days = np.arange("2024-03-04", "2024-04-13", dtype="datetime64[D]")
    days = days[np.is_busday(days, holidays=["2024-03-29"])]
    bars = random_bars(len(days), ["A"])
    bars = replace(bars, timestamps=days.astype("datetime64[ns]"))
    clock = market_clock(bars.timestamps, exchange="XNYS")
    found = compute_features(bars, [("close@1w",)], clock=clock).values[:, 0, 0]
    changes = [
        str(days[t]) for t in range(len(found)) if t and found[t] != found[t - 1] == found[t - 1]
    ]
    assert changes == ["2024-03-15", "2024-03-22", "2024-03-28", "2024-04-05", "2024-04-12"]
    # Without an exchange the week ends on Sunday: it is seen on Monday.
    found = compute_features(bars, [("close@1w",)]).values[:, 0, 0]
    assert np.flatnonzero(np.isfinite(found))[0] == days.tolist().index(days[5].item())


def test_the_warm_up_of_a_timeframe_is_in_the_bars() -> None:
    bars = hourly()
    clock = market_clock(bars.timestamps)
    keys: list[FeatureKey] = [("sma@1d", 3), ("momentum", 7)]
    first = bars_of_warm_up(bars, keys, clock)
    values = compute_features(bars, keys, {}, clock).values
    n_own = [len(bars.own(s)) for s in range(bars.n_symbols)]
    assert first >= 24 * 3 - 1
    for s in range(bars.n_symbols):
        assert np.isfinite(values[bars.own(s)[first:], s]).all()
    assert any(np.isnan(values[bars.own(s)[first - 1 : first], s]).any() for s in range(len(n_own)))


@pytest.mark.parametrize(
    ("timeframe", "message"),
    [
        ("1h", 'timeframe "1h" is not longer than the bars of 1 hour; give a longer one'),
        ("30min", 'timeframe "30min" is not longer than the bars of 1 hour'),
        ("2d", "timeframe '2d': expected a duration such as"),
        ("day", "timeframe 'day': expected a duration such as"),
        ("", "timeframe '': expected a duration such as"),
    ],
)
def test_a_timeframe_that_cannot_be_is_refused(timeframe: str, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        compute_features(hourly(50), [(f"sma@{timeframe}", 3)])


# --- Panels -------------------------------------------------------------------------------------


def test_a_panel_sees_what_is_there() -> None:
    bars = hourly(60)
    seen: list[dict[str, Any]] = []

    def feature(given: Mapping[str, Any], parameters: tuple[float, ...]) -> FloatArray:
        seen.append(dict(given))
        return np.arange(60.0 * bars.n_symbols).reshape(60, -1)

    columns = compute_features(bars, [("panel(mine.f)", 4)], {"panel(mine.f)": feature})
    (given,) = seen
    present = np.asarray(bars.present) == 1
    for name in ("open", "high", "low", "close", "volume"):
        assert np.isnan(given[name][~present]).all()
        assert (given[name][present] == getattr(bars, name)[present]).all()
    assert given["symbols"] == bars.symbols
    assert (given["timestamps"] == bars.timestamps).all()
    assert (given["tradable"] == present).all()
    for s in range(bars.n_symbols):
        own = bars.own(s)
        assert np.isnan(columns.values[own[:4], s, 0]).all()
        assert (columns.values[own[4:], s, 0] == own[4:] * bars.n_symbols + s).all()
        for t in np.setdiff1d(np.arange(own[0] + 1, 60), own):
            np.testing.assert_array_equal(columns.values[t, s], columns.values[t - 1, s])


def test_only_what_may_be_held_is_compared() -> None:
    """A symbol that is no member, has no bar, or is in its warm-up takes no place."""
    bars = hourly(200)
    members = np.ones((200, bars.n_symbols), dtype=np.uint8)
    members[100:150, 0] = 0
    tradable = tradable_mask(bars, 30, members)
    keys: list[FeatureKey] = [("top(momentum)", 5, 2), ("rank(momentum)", 5), ("momentum", 5)]
    columns = compute_features(bars, keys, {}, None, tradable)
    index = {name: columns.values[:, :, i] for i, (name, *_) in enumerate(columns.keys)}
    for t in range(200):
        counted = [s for s in range(bars.n_symbols) if tradable[t, s]]
        moved = index["momentum"][t]
        best = sorted(counted, key=lambda s: -moved[s])[:2]
        for s in counted:
            assert index["top(momentum)"][t, s] == float(s in best)
            below = sum(moved[other] < moved[s] for other in counted)
            expected = below / (len(counted) - 1) if len(counted) > 1 else 0.5
            assert index["rank(momentum)"][t, s] == pytest.approx(expected, abs=1e-15)
    assert np.isnan(index["rank(momentum)"][100:150, 0]).all()
    assert (live_mask(bars, 30, members, None)[tradable == 0] != LIVE).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sma", FeatureName("sma")),
        ("sma@60min", FeatureName("sma", "1h")),
        ("rank(sma@7d)", FeatureName("sma", "1w", "rank")),
        ("panel(mine.f)", FeatureName("mine.f", None, "panel")),
    ],
)
def test_names_are_read(text: str, expected: FeatureName) -> None:
    assert read_name(text) == expected
    assert read_name(str(expected)) == expected


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (("rank(hour)",), "hour is the same for all symbols; use it alone"),
        (("hour@1d",), "hour is the same for all symbols; use it alone"),
        (("hour", 3), r"feature 'hour' takes no parameter; got \(3,\)"),
        (
            ("best(sma)", 3),
            "unknown feature 'best\\(sma\\)': known are rank, top, zscore_across, panel",
        ),
        (("top(sma)", 3), r"feature 'top\(sma\)' takes lookback, n; got \(3,\)"),
        (("top(sma)", 3, 0), r"feature 'top\(sma\)': n must be a whole number from 1"),
        (("top(mine.f)", 3, 1.5), r"feature 'top\(mine.f\)': n must be a whole number from 1"),
        (("panel(sma)", 3), "a panel takes a function of the file"),
        (("rank(rank(sma))", 3), "unknown feature"),
        (("rank(sma", 3), "unknown feature"),
    ],
)
def test_wrong_keys_are_refused(key: FeatureKey, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        warm_up(key)


def test_the_number_of_symbols_is_no_lookback() -> None:
    assert lookbacks(("top(momentum)", 60, 3)) == [60]
    assert warm_up(("top(momentum)", 60, 3)) == 60
    assert warm_up(("top(mine.f)", 20, 0.5, 3)) == 20
    assert lookbacks(("rank(mine.f)", 20, 0.5)) == [20]
