"""Features of time, of longer bars and of all symbols, as a user's file and a study file name them."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pytest

import optimizer
from optimizer.errors import BarsweepError, DataError, StrategyError, StudyFileError
from optimizer.flow.look_ahead import LookAhead
from optimizer.flow.prepared import prepare_flow
from optimizer.market import time_features, timeframes
from optimizer.market.clock import MarketClock, Moments
from optimizer.review.replay import replay
from optimizer.search.account_checks import warn_of_slower_bars
from optimizer.search.copies import default_block
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.strategies.user import read_strategy
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.inputs import prepare, study_warm_up
from optimizer.sweep.rules import study_rules
from optimizer.sweep.universe import tradable_mask
from optimizer.types import Bars, FloatArray, IntArray
from tests.support.studies import mapping, random_bars, write_bars
from tests.support.universe import only, random_presence, with_present

FILE = """
import numpy as np

from optimizer import FLAT, HOLD, LONG, feature, panel, rank, top, zscore_across

PARAMETERS = {
    "lookback": (5, 2, 100),
    "days": (2, 1, 50),
    "n": (2, 1, 9),
    "least": (0.2, 0.0, 1.0),
}


def moved(close, lookback):
    before = np.concatenate((np.full(lookback, np.nan), close[:-lookback]))
    return close / before - 1.0


def breadth(close, tradable, timestamps, symbols):
    rises = np.nan_to_num(close[1:] > close[:-1]) * tradable[1:]
    share = np.append(0.5, rises.sum(axis=1) / np.maximum(1, tradable[1:].sum(axis=1)))
    return np.repeat(share[:, np.newaxis], len(symbols), axis=1)


FEATURES = {
    "place": rank("momentum", "lookback"),
    "best": top(moved, "lookback", n="n"),
    "score": zscore_across("rsi", "lookback", timeframe="4h"),
    "trend": feature("sma", "days", timeframe="1d"),
    "own_trend": feature(moved, "days", timeframe="1d"),
    "wide": panel(breadth),
    "clock": ("hour",),
    "ends": ("last_bar_of_day",),
}


def signal(place, best, score, trend, own_trend, wide, clock, ends, close, volatility, least):
    if ends > 0.0:
        return FLAT, 0.0, 0.0
    if clock < 3.0 or wide < 0.1:
        return HOLD, 0.0, 0.0
    if (best > 0.0 or place > 0.7 or score > 1.0) and close > 0.9 * trend and own_trend > -0.5:
        return LONG, volatility * (0.01 + place), 1.0
    return (FLAT if place < least else HOLD), 0.0, 0.0
"""


def hourly(n_bars: int = 500, n_symbols: int = 5, seed: int = 4) -> Bars:
    """Hourly bars around the clock from Friday, 1 March 2024, on, some of them missing."""
    bars = random_bars(n_bars, [f"S{s}" for s in range(n_symbols)], seed)
    times = np.datetime64("2024-03-01", "ns") + np.arange(n_bars) * np.timedelta64(1, "h")
    present = random_presence(n_bars, n_symbols, seed)
    return with_present(replace(bars, timestamps=times, bars_per_year=8766.0), present)


def study_of(folder: Path, text: str = FILE, /, **tables: Any) -> Study:
    (folder / "mine.py").write_text(text)
    table = {"name": "mine", "path": "mine.py", **tables.pop("strategy", {})}
    data = {"path": "bars.parquet", "align": "outer", **tables.pop("data", {})}
    return study_from_dict({**mapping(**tables), "strategy": table, "data": data}, folder)


def test_a_study_of_every_kind_is_replayed_bar_by_bar(tmp_path: Path) -> None:
    """Sweep, event flow, export and replay: the same bits, in a zone whose clock changes."""
    hourly().to_frame().to_parquet(tmp_path / "bars.parquet")  # with their offset
    study = study_of(
        tmp_path,
        strategy={
            "lookback": {"choices": [5, 9]},
            "n": {"choices": [1, 2]},
            "least": {"sweep": [0.1, 0.3]},
        },
        data={"timezone": "America/New_York", "bar": "1h"},
        search={"sampler": "grid"},
        risk={"max_exposure": 0.8, "volatility_lookback": 10, "kelly_fraction": 0.2},
    )  # fmt: skip
    assert study_from_dict(study.to_dict(), tmp_path).content_hash == study.content_hash
    run_study(study, out=tmp_path / "out", workers=1)
    file = export_sets(tmp_path / "out")
    found = replay(file, events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()
    bars = optimizer.load_bars(
        tmp_path / "bars.parquet", align="outer", timezone="America/New_York"
    )
    result = optimizer.backtest(bars, file)
    assert len(result.fills) > 20
    wanted = optimizer.next_orders(file)
    assert wanted.equity == result.equity.iloc[-1]
    assert wanted.orders["quantity"].tolist() == result.orders_next["quantity"].tolist()
    # Nothing is decided but exits at the last bar of a New York day, 03:00 or 04:00 UTC.
    assert not optimizer.look_ahead_check(study, bars)


class Slower(NamedTuple):
    """A study with longer bars of a second file, its bars, and an export of its sets."""

    study: Study
    bars: Bars
    daily: Bars
    export: Path


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Slower:
    folder = tmp_path_factory.mktemp("slower")
    hourly().to_frame().to_parquet(folder / "bars.parquet")
    days = np.datetime64("2024-01-01", "ns") + np.arange(120) * np.timedelta64(24, "h")
    bars = optimizer.load_bars(folder / "bars.parquet", align="outer")
    daily = replace(random_bars(120, bars.symbols, 6), timestamps=days)
    write_bars(folder / "daily.parquet", daily)
    study = study_of(
        folder,
        strategy={"lookback": {"choices": [5, 9]}, "days": 4},
        data={"slower": "daily.parquet", "bar": "1h"},
        search={"sampler": "grid"},
        risk={"max_exposure": 0.8, "volatility_lookback": 10, "kelly_fraction": 0.2},
    )
    run_study(study, out=folder / "out", workers=2)
    return Slower(study, bars, daily, export_sets(folder / "out"))


def test_a_second_file_that_ends_early_or_is_not_read_is_said(
    slower: Slower, caplog: pytest.LogCaptureFixture
) -> None:
    study, bars, _, _ = slower
    space = build_space(study)
    rules = study_rules(study, space, bars)
    warn_of_slower_bars(study, space, bars, rules)
    assert not caplog.records
    assert rules.slower is not None
    short = replace(rules, slower=rules.slower.until(int(rules.slower.ends[3])))
    warn_of_slower_bars(study, space, bars, short)
    assert '[data] slower = "daily.parquet" ends at' in caplog.text
    plain = study_from_dict({**study.to_dict(), "strategy": [{"name": "momentum"}]})
    warn_of_slower_bars(plain, build_space(plain), bars, rules)
    assert 'no feature has timeframe = "1d"' in caplog.text


def test_a_study_reads_longer_bars_of_a_second_file(slower: Slower) -> None:
    """In the sweep and bar by bar."""
    study, bars, _, file = slower
    space = build_space(study)
    rules = study_rules(study, space, bars)
    assert study_warm_up(space, rules, bars) < 4 * 24  # their history begins before the bars
    found = replay(file, events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()
    assert len(optimizer.backtest(bars, file).fills) > 10
    assert not optimizer.look_ahead_check(study, bars)
    with pytest.raises(StudyFileError, match=r"\[data\] slower: its rows belong to times"):
        optimizer.calibrate(study, copies=2)


def test_what_reads_ahead_in_a_second_file_is_found(slower: Slower, tmp_path: Path) -> None:
    text = FILE.replace("return close / before - 1.0", "return close / close[-1] - 1.0")
    assert text != FILE
    write_bars(tmp_path / "daily.parquet", slower.daily)
    data = {"slower": "daily.parquet", "bar": "1h"}
    study = study_of(tmp_path, text, strategy={"days": 4}, data=data)
    found = optimizer.look_ahead_check(study, slower.bars)
    assert any("moved" in one.name and "1d" in one.name for one in found if one.kind == "feature")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("other.parquet", r"\[data\] slower = .*other\.parquet: not what the study had"),
        ("gone.parquet", r"\[data\] slower = .*: no such file; name the file where it is now"),
        ("short.parquet", r"\[data\] slower: .*expected bars that are longer than those"),
        ("/etc/passwd", r"\[data\] slower: /etc/passwd: "),
        ("http://stranger.example/daily.parquet", r"\[data\] slower = .*no such file"),
        ("pipe.parquet", r"\[data\] slower: .*pipe\.parquet: "),
        ("../out\n\x1b[2J.parquet", r"slower: .*cannot be printed"),
        (["daily.parquet"], r"slower: "),
    ],
)
def test_an_export_whose_second_file_is_another_is_refused(
    file: object, words: str, slower: Slower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's export may name any file: it must be the one that the study had."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("no test connects")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = slower.export.parent
    daily = slower.daily
    times = daily.timestamps[:1] + (daily.timestamps - daily.timestamps[0]) // 48
    other = {
        "other": {"close": np.minimum(daily.open, daily.close)},
        "short": {"timestamps": times},
    }
    for name, changes in other.items():
        write_bars(folder / f"{name}.parquet", replace(daily, **changes))
    if not (folder / "pipe.parquet").exists():
        os.mkfifo(folder / "pipe.parquet")
    document = json.loads(slower.export.read_text())
    own = Path(document["data"]["slower"])
    assert own.name == "daily.parquet"
    if isinstance(file, str) and "/" not in file:
        file = str(folder / file) if own.is_absolute() else file
    document["data"]["slower"] = file
    hostile = folder / "hostile.json"
    hostile.write_text(json.dumps(document))
    with pytest.raises(BarsweepError, match=words) as caught:
        replay(hostile)
    assert str(caught.value).isprintable()


def test_a_study_with_an_exchange_carries_it_everywhere(tmp_path: Path) -> None:
    bars = random_bars(300, list("ABCDE"))
    write_bars(tmp_path / "bars.parquet", bars)
    content = {
        **mapping(search={"sampler": "grid"}),
        "risk": {"sizing": "equal_weight"},
        "strategy": {"name": "monthly_rotation", "lookback": {"choices": [20, 60]}, "n": 2},
        "data": {"path": "bars.parquet", "exchange": "XNYS"},
    }
    study = study_from_dict(content, tmp_path)
    run_study(study, out=tmp_path / "out", workers=1)
    file = export_sets(tmp_path / "out")
    found = replay(file, events=True)
    assert found.differences == () and found.parity is not None and not found.parity.differences
    with pytest.raises(DataError, match=r'^\[data\] exchange = "XNYZ": .* such as XNYS'):
        study_rules(
            study_from_dict(
                {**content, "data": {"path": "bars.parquet", "exchange": "XNYZ"}}, tmp_path
            ),
            build_space(study),
            bars,
        )


def test_a_rotation_holds_the_best_of_the_month(tmp_path: Path) -> None:
    """Next to a plain loop: at the first close of each month the n best, and nothing in between."""
    bars = random_bars(200, list("ABCDE"))
    result = optimizer.backtest(
        bars,
        {"strategy": "monthly_rotation", "monthly_rotation_lookback": 20, "monthly_rotation_n": 2},
        sizing="equal_weight",
    )
    months = bars.timestamps.astype("datetime64[M]")
    held = np.zeros((200, 5))
    at = np.searchsorted(bars.timestamps, result.fills["timestamp"].dt.tz_localize(None))
    for t, symbol, quantity in zip(
        at, result.fills["symbol"], result.fills["quantity"], strict=True
    ):
        held[t:, bars.symbols.index(symbol)] += quantity
    first = [t for t in range(60, 199) if months[t] != months[t - 1]]
    assert len(first) > 4
    for t in first:
        moved = bars.close[t] / bars.close[t - 20] - 1.0
        best = sorted(range(5), key=lambda s: -moved[s])[:2]
        assert np.flatnonzero(held[t + 1]).tolist() == sorted(best)
    assert set(at) <= {t + 1 for t in first}


def test_the_hub_of_a_flow_driven_by_hand_knows_the_calendar(tmp_path: Path) -> None:
    bars = random_bars(120, list("ABCDE"))
    table = {"name": "monthly_rotation", "lookback": 20, "n": 2}
    plain = {**mapping(), "strategy": table, "risk": {"volatility_lookback": 10}}
    prepared = prepare_flow(study_from_dict(plain, tmp_path), bars)
    hub = prepared.feature_hub()
    values = [hub.calculate_indicators(bars.at(t)) for t in range(120)]
    months = bars.timestamps.astype("datetime64[M]")
    for t in range(1, 120):
        assert (values[t]["first_bar_of_month"] == float(months[t] != months[t - 1])).all()
        # Nobody competes before the warm-up of the study.
        top = values[t]["top(momentum)_20_2"]
        assert np.isnan(top).all() if t < prepared.first else top.sum() == 2.0


def test_no_member_takes_a_place(tmp_path: Path) -> None:
    """The best symbol is no member in the second half: two others are in the top then."""
    bars = random_bars(200, list("ABCDE"))
    half = str(bars.timestamps[100])[:10]
    (tmp_path / "members.csv").write_text(
        "symbol,from,to\n"
        + "".join(f"{s},2015-01-01,{half if s == 'A' else ''}\n" for s in "ABCDE")
    )
    study = study_from_dict(
        {
            **mapping(),
            "strategy": {"name": "rotation", "lookback": 20, "n": 2},
            "data": {"path": "bars.parquet", "members": "members.csv"},
        },
        tmp_path,
    )
    space = build_space(study)
    rules = study_rules(study, space, bars)
    inputs = prepare(bars, space, rules, 0.0)
    tops = inputs.features.values[:, :, inputs.features.index(("top(momentum)", 20, 2))]
    assert inputs.warm_up == inputs.first == 20
    assert (np.nansum(tops[20:], axis=1) == 2.0).all()
    assert np.isnan(tops[105:, 0]).all() and np.isnan(tops[:20]).all()
    assert (tradable_mask(bars, 20, rules.members)[105:, 0] == 0).all()


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (
            'rank("momentum"',
            'rank("momentun"',
            26,
            "place: unknown feature 'momentun'; valid: adx,",
        ),
        (
            'rank("momentum"',
            'rank("hour"',
            26,
            "place: feature 'rank(hour)': hour is the same for all",
        ),
        ('n="n"', 'n="m"', 27, "best: n 'm' is not in PARAMETERS"),
        ('n="n"', "n=0", 27, "best: n 0: expected whole numbers from 1"),
        ('n="n"', 'n="least"', 10, "least is the n of best: expected whole numbers from 1"),
        ("top(moved,", "top(len,", 27, "a function of this file, or of TA-Lib"),
        ('timeframe="4h"', 'timeframe="4 hours"', 28, "timeframe '4 hours': expected a duration"),
        ('"rsi", "lookback", ', '"rsi", ', 28, "expected ('zscore_across(rsi@4h)', its lookback"),
        ("panel(breadth)", 'panel("sma", "days")', 31, "a panel takes a function of the file"),
        ('"wide": panel(breadth)', '"wide": (breadth,)', 19, "takes tradable, timestamps, symbols"),
        ('("hour",)', '("hour", "days")', 32, "expected ('hour', no parameter)"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    assert FILE.count(old) == 1
    (tmp_path / "mine.py").write_text(FILE.replace(old, new))
    with pytest.raises(StrategyError) as found:
        read_strategy(tmp_path / "mine.py", "mine")
    assert f"mine.py:{line}: " in str(found.value), found.value
    assert words in str(found.value)


def test_a_timeframe_no_longer_than_the_bars_is_named_with_its_line(tmp_path: Path) -> None:
    study, bars = study_of(tmp_path), random_bars(100, list("ABCDE"))
    space = build_space(study)
    with pytest.raises(StrategyError, match=r'mine\.py:28: FEATURES: score: timeframe "4h" is not'):
        prepare(bars, space, study_rules(study, space, bars), 0.0)


def test_a_panel_that_is_not_finite_is_named(tmp_path: Path) -> None:
    text = FILE.replace("np.append(0.5,", "np.append(np.nan,")
    study, bars = study_of(tmp_path, text), hourly()
    space = build_space(study)
    with pytest.raises(
        StrategyError, match=r"mine\.py:19: feature panel\(mine\.breadth\): nan at 2024-03"
    ):
        prepare(bars, space, study_rules(study, space, bars), 0.0)


def test_what_is_compared_is_no_lookback_of_a_copy(tmp_path: Path) -> None:
    study = study_from_dict(
        {**mapping(), "strategy": {"name": "monthly_rotation", "lookback": 30, "n": 3}}, tmp_path
    )
    assert default_block(build_space(study)) == 15.0


# --- Look-ahead: a leak of each kind is found -----------------------------------------------------


def leaks(folder: Path, text: str = FILE, **data: str) -> dict[str, LookAhead]:
    bars = only(hourly(), [0, 1, 2, 3, 4])
    found = optimizer.look_ahead_check(study_of(folder, text, data=data), bars)
    return {one.name: one for one in found if one.kind == "feature"}


@pytest.mark.parametrize("data", [{}, {"exchange": "XNYS", "bar": "1h"}])
def test_nothing_leaks(tmp_path: Path, data: dict[str, str]) -> None:
    assert leaks(tmp_path, **data) == {}


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        # A rank of a feature that leaks leaks too, and so does a longer bar.
        (
            "return close / before - 1.0",
            "return np.append(close[1:], close[-1]) / before",
            {"top(mine.moved)_5_2", "mine.moved@1d_2"},
        ),
        # A panel that reads the next bar of others.
        (
            "close[1:] > close[:-1]",
            "np.roll(close, -1, axis=0)[1:] > close[1:]",
            {"panel(mine.breadth)"},
        ),
        # The mean of a whole column.
        (
            "np.append(0.5,",
            "np.nanmean(close) + np.append(0.5,",
            {"panel(mine.breadth)"},
        ),
    ],
)
def test_a_leak_of_a_users_feature_is_found(
    tmp_path: Path, old: str, new: str, names: set[str]
) -> None:
    assert FILE.count(old) == 1
    assert set(leaks(tmp_path, FILE.replace(old, new))) == names


def test_a_last_bar_told_from_the_next_one_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def next_bar_tells(clock: MarketClock, now: Moments, before: IntArray) -> FloatArray:
        return np.append(now.sessions[1:] != now.sessions[:-1], 1).astype(np.float64)

    monkeypatch.setitem(time_features.TIME_FEATURES, "last_bar_of_day", next_bar_tells)
    assert set(leaks(tmp_path)) == {"last_bar_of_day"}


def test_a_longer_bar_seen_before_it_has_closed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = timeframes.LongerBars.seen

    def early(bars: timeframes.LongerBars, values: FloatArray) -> FloatArray:
        opened = np.minimum(bars.closed + 1, len(values))
        return honest(replace(bars, closed=opened), values)

    monkeypatch.setattr(timeframes.LongerBars, "seen", early)
    names = {"sma@1d_2", "zscore_across(rsi@4h)_5", "mine.moved@1d_2"}
    assert names <= set(leaks(tmp_path))
